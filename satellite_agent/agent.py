"""The satellite across its connections: connects, holds a session, waits, and connects again."""

import asyncio
import contextlib
import logging
import sqlite3
import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

from hub_protocol.topics import Topics
from satellite_agent import checks, sources
from satellite_agent.checks import Checks
from satellite_agent.clock import Clock
from satellite_agent.commands import Commands
from satellite_agent.config import Settable
from satellite_agent.connection import Backoff, Refused, Unreachable, connect
from satellite_agent.epoch import Epochs
from satellite_agent.outbox import Outbox
from satellite_agent.receipts import Receipts, Sent
from satellite_agent.reserve import Reserve
from satellite_agent.samples import Samples
from satellite_agent.session import Parts, Session
from satellite_agent.settings import Settings
from satellite_agent.sources import Sources
from satellite_agent.status import Status
from satellite_agent.undated import Undated
from satellite_agent.verbs import cancel, config, ping, registry
from satellite_agent.verbs.table import Table

log = logging.getLogger(__name__)

# A connection that lasted so long was a good one: the next attempt comes soon again.
GOOD_AFTER_S: Final = 10.0
# A restart waits so long for the receipt of its own reply.
ANSWERED_WITHIN_S: Final = 5.0


class Agent:
    """One satellite. `run` lasts until `stop`, or raises `connection.Refused` when the hub does not want it.

    Afterwards `is_to_restart` says whether the hub asked for a new process. Raises `SettingsError` for a table of the
    config that is wrong.
    """

    def __init__(self, settings: Settings, db: sqlite3.Connection, epochs: Epochs, *, measures: bool = True) -> None:
        clock, to_send, to_greet = Clock(), asyncio.Event(), asyncio.Event()
        reserve = Reserve(db)
        reserve.keep()
        self.samples = Samples(db, reserve=reserve)
        self.outbox = Outbox(db, relieve=self.samples.shed, reserve=reserve)
        self.status = Status(settings, db)
        self.is_to_restart = False
        self._restarting: asyncio.Task[None] | None = None
        opened = registry.opened(
            settings.tables.get("verbs", {}),
            closed=(settings.state_dir, *settings.secrets),
            restarting=self._restart,
        )
        # The commands are made of the verbs, and two of the verbs of the commands.
        verbs = Table(
            (
                ping.VERB,
                config.verb(lambda: settable),
                cancel.verb(lambda command_id: commands.cancel(command_id)),  # noqa: PLW0108 - not there yet
            ),
            opened,
        )

        def changed() -> None:
            # The hub judges silence by the heartbeat of the last hello, so a change of it is said there.
            to_greet.set()
            self._sources.settings_changed()
            watching.settings_changed()

        found = sources.read(settings.tables.get("telemetry", {}))
        self._sources = Sources(found if measures else {}, self.measure, lambda: settable.telemetry_s)
        settable = Settable(db, settings.heartbeat_s, changed, verbs=verbs, telemetry_s=settings.telemetry_s)
        watching = Checks(checks.read(settings.tables.get("checks", {})), lambda: settable.values)
        commands = Commands(db, self.outbox, verbs, clock, to_send.set)
        self._parts = Parts(
            settings=settings,
            epochs=epochs,
            verbs=verbs,
            outbox=self.outbox,
            samples=self.samples,
            reserve=reserve,
            commands=commands,
            clock=clock,
            undated=Undated(clock, self.outbox, self.samples),
            status=self.status,
            receipts=Receipts(),
            started=time.monotonic(),
            to_send=to_send,
            measured=asyncio.Event(),
            to_greet=to_greet,
            settable=settable,
            checks=watching,
            stopping=asyncio.Event(),
        )

    async def run(self) -> None:
        self._parts.commands.recover()
        measuring = asyncio.create_task(self._sources.run())
        stopping, backoff = self._parts.stopping, Backoff()
        try:
            while not stopping.is_set():
                began = time.monotonic()
                try:
                    await self._connection(self._parts.epochs.next())
                    why, at_once = "the hub knows a higher epoch", backoff.attempts == 0
                except Unreachable as error:
                    why, at_once = str(error), False
                except Refused as error:
                    knock_after_s = self.status.knock_after_s
                    if not error.is_vague or knock_after_s is None:
                        raise
                    why, at_once = f"not now: {self.status.last_reason}", False
                    backoff.at_least(knock_after_s)
                if time.monotonic() - began >= GOOD_AFTER_S:
                    backoff.reset()
                if not stopping.is_set():
                    await self._wait(backoff, why, at_once=at_once)
        finally:
            measuring.cancel()
            await self._parts.commands.close()
            self.status.stopped()

    def stop(self) -> None:
        self._parts.stopping.set()

    def _restart(self, command_id: str) -> None:
        self._parts.receipts.expect(f"{command_id}:succeeded")
        self._restarting = asyncio.create_task(self._stop_when_answered(command_id))

    async def _stop_when_answered(self, command_id: str) -> None:
        """The reply is on the disk; the hub gets a moment to have it before the process ends."""
        await self._parts.receipts.wait(f"{command_id}:succeeded", ANSWERED_WITHIN_S)
        log.info("starting anew, as the hub asked")
        self.is_to_restart = True
        self.stop()

    def facts(self) -> dict[str, Any]:
        """How it is, for `status` and `doctor`."""
        ahead = self._parts.clock.ahead
        return self.status.as_json(self.outbox.backlog, self.samples.backlog) | {
            "clock_ahead_s": None if ahead is None else round(ahead.total_seconds(), 1)
        }

    def send(self, event_type: str, payload: dict[str, Any], space: str | None = None) -> str:
        """Put an event into the outbox and return its id; raises `ProtocolError` or `OutboxError`."""
        at = self._parts.clock.now()
        event_id = self.outbox.add_event(event_type, payload, at=at, space=space)
        if not self._parts.clock.is_known:
            self._parts.undated.note("event", self.outbox.seq_of(event_id), at)
        self._parts.receipts.expect(event_id)
        self._parts.to_send.set()
        return event_id

    def measure(self, stream: str, value: float) -> None:
        """Take a sample, of now; raises `ProtocolError` or `OutboxError`."""
        at = self._parts.clock.now()
        self._parts.undated.note("sample", self.samples.add(stream, value, at), at)
        self._parts.measured.set()

    async def answer(self, event_id: str, timeout_s: float) -> Sent:
        """Wait until the hub has stored or refused an event given to `send`, or the time is over."""
        began = datetime.now(UTC)
        sent = await self._parts.receipts.wait(event_id, timeout_s)
        denied = self.status.last_denied
        if not sent.stored and not sent.refused and denied is not None and denied.at >= began:
            # A missing scope, for instance: the event waits, for the scope may be granted yet.
            return replace(sent, why=denied.reason)
        return sent

    async def _connection(self, epoch: int) -> None:
        self.status.connecting(epoch)
        attempt = asyncio.create_task(self._hold(epoch))
        stop = asyncio.create_task(self._parts.stopping.wait())
        try:
            await asyncio.wait({attempt, stop}, return_when=asyncio.FIRST_COMPLETED)
            if not attempt.done() and self.status.connection == "connecting":
                attempt.cancel()  # nothing was said yet, so there is nothing to take back
            with contextlib.suppress(asyncio.CancelledError):
                await attempt
        finally:
            stop.cancel()
            attempt.cancel()

    async def _hold(self, epoch: int) -> None:
        settings = self._parts.settings
        async with connect(settings, Topics(settings.root), epoch) as client:
            log.info("connected to %s as %s, epoch %d", settings.hub, settings.handle, epoch)
            self.status.connected()
            await Session(self._parts, client, epoch).run()

    async def _wait(self, backoff: Backoff, why: str, *, at_once: bool) -> None:
        """Wait before the next attempt. Only the first for a higher epoch comes at once: a hub that never agrees is not
        asked in a busy loop.
        """
        delay = backoff.next()
        if at_once:
            delay = 0.0
        self.status.waiting(why)
        attempt = backoff.attempts
        if attempt & (attempt - 1) == 0:  # the 1st, 2nd, 4th, 8th, …: a hub away for a week does not fill the log
            hub = self._parts.settings.hub
            log.warning("not connected to %s: %s; attempt %d follows in %.1f s", hub, why, attempt, delay)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(delay):
                await self._parts.stopping.wait()
