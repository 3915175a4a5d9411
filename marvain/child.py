"""One supervised process: started, its lines shown, started again with back-off when it ends, stopped when asked."""

import asyncio
import contextlib
import signal
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from marvain.console import Console
from marvain.parent_death import die_with_parent

FIRST_PAUSE_S = 0.5
LAST_PAUSE_S = 30.0
# Who ran this long had a good start: the back-off begins anew.
GOOD_RUN_S = 60.0
LINE_LIMIT = 64 * 1024


@dataclass(frozen=True)
class Launch:
    """What to run, with extra arguments for the creation of the process."""

    argv: list[str]
    options: dict[str, Any] = field(default_factory=dict)


class Child:
    """One service. `final` maps exit codes after which it is not started again to the reason that is shown."""

    def __init__(
        self,
        name: str,
        launch: Callable[[], Awaitable[Launch]],
        console: Console,
        *,
        final: dict[int, str] | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
    ) -> None:
        self.name = name
        self.ready = asyncio.Event()
        self.last_lines: deque[str] = deque(maxlen=5)
        self.exit_code: int | None = None
        self.failures = 0
        self.process: asyncio.subprocess.Process | None = None
        self._launch = launch
        self._console = console
        self._final = final or {}
        self._stop_signal = stop_signal
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._keep_running(), name=self.name)

    @property
    def ended_for_good(self) -> bool:
        """Whether it will not be started again."""
        return self._task is not None and self._task.done()

    async def stop(self, patience_s: float, hurry: asyncio.Event) -> None:
        """Ask it to end; after `patience_s`, or as soon as `hurry` is set, end it."""
        self._stopping.set()
        if self._task is None:
            return
        self._signal(self._stop_signal)
        hurried = asyncio.create_task(hurry.wait())
        await asyncio.wait({self._task, hurried}, timeout=patience_s, return_when=asyncio.FIRST_COMPLETED)
        hurried.cancel()
        if not self._task.done():
            # PostgreSQL's quick way is SIGQUIT; killed, it would leave children and memory behind for a moment.
            if self._stop_signal is signal.SIGINT:
                self._signal(signal.SIGQUIT)
                await asyncio.wait({self._task}, timeout=5)
            if not self._task.done():
                self._console.say(f"{self.name} does not end; killing it", level="warning")
                self._signal(signal.SIGKILL)
        await asyncio.gather(self._task, return_exceptions=True)

    async def _keep_running(self) -> None:
        pause = FIRST_PAUSE_S
        while not self._stopping.is_set():
            began = time.monotonic()
            fault = await self._run_once()
            if self._stopping.is_set():
                return
            if fault is None and self.exit_code in self._final:
                self._console.say(f"{self.name} {self._final[self.exit_code]}", level="warning")
                return
            self.failures += 1
            if time.monotonic() - began >= GOOD_RUN_S:
                pause = FIRST_PAUSE_S
            self._console.say(f"{self.name} {fault or self._ending()}, restarting in {pause:g} s", level="warning")
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), pause)
            pause = min(pause * 2, LAST_PAUSE_S)

    async def _run_once(self) -> str | None:
        """Run it to its end; the reason when it did not even start."""
        self.ready.clear()
        try:
            launch = await self._launch()
            options: dict[str, Any] = {
                "stdin": asyncio.subprocess.DEVNULL,
                "stdout": asyncio.subprocess.PIPE,
                "stderr": asyncio.subprocess.STDOUT,
                "process_group": 0,
                "preexec_fn": die_with_parent(signal.SIGTERM),
            }
            self.process = await asyncio.create_subprocess_exec(*launch.argv, **options | launch.options)
        except Exception as error:  # noqa: BLE001  whatever kept it from starting may be gone after the pause
            self.last_lines.append(str(error))
            return f"did not start ({error})"
        if self._stopping.is_set():
            self._signal(self._stop_signal)
        await self._show_lines(self.process)
        self.exit_code = await self.process.wait()
        self.process = None
        self.ready.clear()
        return None

    def _ending(self) -> str:
        code = self.exit_code or 0
        if code < 0:
            with contextlib.suppress(ValueError):
                return f"was killed by {signal.Signals(-code).name}"
        return f"exited with {code}"

    async def _show_lines(self, process: asyncio.subprocess.Process) -> None:
        """Until the process is gone; a grandchild that keeps the pipe open does not keep us."""
        if process.stdout is None:
            return
        ended = asyncio.create_task(process.wait())
        rest = b""
        while True:
            reading = asyncio.ensure_future(process.stdout.read(LINE_LIMIT))
            await asyncio.wait({reading, ended}, return_when=asyncio.FIRST_COMPLETED)
            if not reading.done():
                await asyncio.wait({reading}, timeout=0.5)
            if not reading.done():
                reading.cancel()
                break
            chunk = reading.result()
            if not chunk:
                break
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                self._show(line)
            if len(rest) > LINE_LIMIT:
                self._show(rest)
                rest = b""
        self._show(rest)
        await ended

    def _show(self, line: bytes) -> None:
        if line.strip():
            self.last_lines.append(line.decode("utf-8", errors="replace").strip()[:500])
        event = self._console.line(self.name, line)
        if event is not None and event["event"] == f"{self.name}.ready":
            self.ready.set()

    def _signal(self, which: signal.Signals) -> None:
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(which)
