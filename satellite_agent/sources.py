"""Telemetry that the satellite measures itself: a source is a table `[telemetry.<stream>]` with a time of its own."""

import asyncio
import contextlib
import logging
import os
import random
import re
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from hub_protocol.errors import BadName, ProtocolError
from hub_protocol.topics import check_level
from satellite_agent import process, threads
from satellite_agent.meters import METERS, Meter
from satellite_agent.outbox import OutboxError
from satellite_agent.process import Limits
from satellite_agent.settings import SettingsError
from satellite_agent.verbs.output import text_of
from satellite_agent.verbs.template import Template, TemplateError
from satellite_agent.verbs.verb import Job, VerbError

log = logging.getLogger(__name__)

MOST_SOURCES: Final = 50
_FILE_MAX_BYTES: Final = 65_536


class Unmeasured(Exception):
    """There is no number now; the message says why."""


class Source(msgspec.Struct, forbid_unknown_fields=True):
    """`[telemetry.<stream>]`: one of `system`, `file` and `command`, and how its text becomes a number.

    `pattern` finds the number: its first group, or all of it. The value is the number times `scale`, plus `offset`.
    """

    system: str = ""
    path: str = "/"
    file: str = ""
    command: list[str] = []
    pattern: str | None = None
    scale: float = 1.0
    offset: float = 0.0
    every_s: Annotated[float, Meta(ge=1, le=86_400)] | None = None
    timeout_s: Annotated[float, Meta(gt=0, le=3_600)] = 10.0

    def fault(self) -> str | None:
        """What is wrong with the table."""
        if [bool(self.system), bool(self.file), bool(self.command)].count(True) != 1:
            return "wants one of system, file and command"
        if self.system and self.system not in METERS:
            return f"system: is one of {', '.join(METERS)}"
        if not self.path.startswith("/") or not (self.file or "/").startswith("/"):
            return "a path must be absolute"
        try:
            if self.command and Template.parse(self.command).names:
                return "command: takes no arguments"
            re.compile(self.pattern or "")
        except TemplateError as error:
            return f"command: {error}"
        except re.error as error:
            return f"pattern: cannot be read: {error}"
        return None


def read(tables: Mapping[str, Any]) -> dict[str, Source]:
    """The sources by stream; raises `SettingsError` naming the table that is wrong."""
    if len(tables) > MOST_SOURCES:
        raise SettingsError("telemetry", f"are at most {MOST_SOURCES} sources")
    found = {}
    for stream, table in tables.items():
        name = f"telemetry.{stream}"
        try:
            check_level(stream, "stream")
            found[stream] = msgspec.convert(table, Source)
        except BadName as error:
            raise SettingsError(name, error.rule) from None
        except msgspec.ValidationError as error:
            raise SettingsError(name, str(error)) from None
        if fault := found[stream].fault():
            raise SettingsError(name, fault)
    return found


class Sources:
    """`run` measures until it is cancelled; `take` gets each stream and value.

    `telemetry_s` tells the time of those that name none, and is asked again when `settings_changed` was called.
    """

    def __init__(
        self,
        sources: Mapping[str, Source],
        take: Callable[[str, float], None],
        telemetry_s: Callable[[], float],
    ) -> None:
        self._sources = sources
        self._take = take
        self._telemetry_s = telemetry_s
        self._changed: set[asyncio.Event] = set()

    def settings_changed(self) -> None:
        for event in self._changed:
            event.set()

    async def run(self) -> None:
        loops = [asyncio.create_task(self._measure(*one), name=f"source {one[0]}") for one in self._sources.items()]
        try:
            await asyncio.gather(*loops)
        finally:
            for one in loops:
                one.cancel()

    async def _measure(self, stream: str, source: Source) -> None:
        reading, changed, is_well = reader(source), asyncio.Event(), True
        self._changed.add(changed)
        # Not all at once, and not all machines of a house at once.
        await asyncio.sleep(random.uniform(0, min(1.0, self._every(source) / 2)))  # noqa: S311 - to spread load
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            try:
                value = await reading()
                if value is not None:
                    self._take(stream, source.scale * value + source.offset)
            except (Unmeasured, ProtocolError, OutboxError) as error:
                log.log(logging.WARNING if is_well else logging.DEBUG, "telemetry %s: %.300s", stream, error)
                is_well = False
            except Exception:
                log.exception("telemetry %s failed", stream)
            else:
                if not is_well:
                    log.info("telemetry %s is measured again", stream)
                is_well = True
            due = max(due + self._every(source), loop.time())
            while (left := due - loop.time()) > 0:
                changed.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(left):
                        await changed.wait()
                        due = min(due, loop.time() + self._every(source))

    def _every(self, source: Source) -> float:
        return source.every_s or self._telemetry_s()


def reader(source: Source) -> Callable[[], Awaitable[float | None]]:
    """What measures it once: a number, None where the first reading gives none yet, or `Unmeasured`."""
    if source.system:
        meter = METERS[source.system](source.path)

        async def read_meter() -> float | None:
            return _metered(meter)

        # From /proc, which does not block; a file system that hangs may.
        return read_meter if not meter.blocks else lambda: threads.start(lambda: _metered(meter))
    measure = _read_file if source.file else _run
    return lambda: threads.start(lambda: measure(source))


def _metered(meter: Meter) -> float | None:
    try:
        return meter.read()
    except (OSError, ValueError, KeyError, IndexError) as error:
        raise Unmeasured(str(error)) from None


def _read_file(source: Source) -> float:
    try:
        # No wait for a writer when it is a pipe.
        descriptor = os.open(Path(source.file), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            data = os.read(descriptor, _FILE_MAX_BYTES)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise Unmeasured(f"{source.file}: {error.strerror}") from None
    return number_in(data, source.pattern)


def _run(source: Source) -> float:
    try:
        done = process.run(source.command, Job(source.timeout_s), Limits(source.timeout_s, _FILE_MAX_BYTES))
    except VerbError as error:
        raise Unmeasured(str(error)) from None
    if done.exit_code != 0:
        said, _ = text_of(done.stderr)
        raise Unmeasured(f"{source.command[0]} ended with {done.exit_code}: {said.strip()[-200:]}")
    return number_in(done.stdout, source.pattern)


def number_in(data: bytes, pattern: str | None) -> float:
    """The number that a text is, or that the pattern finds in it. Raises `Unmeasured`."""
    text = data.decode("utf-8", "replace").strip()
    if pattern is not None:
        found = re.search(pattern, text, re.MULTILINE)
        if found is None:
            raise Unmeasured(f"{pattern} is not found in {text[:80]!r}")
        text = (found[1] if found.re.groups else found[0]) or ""
    try:
        return float(text.removesuffix("%"))
    except ValueError:
        raise Unmeasured(f"{text[:80]!r} is no number") from None
