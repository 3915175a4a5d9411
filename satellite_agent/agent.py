"""The satellite's loop: connect, say hello, send heartbeats and what the outbox holds, and do what the hub asks."""

import asyncio
import contextlib
import logging
import platform
import random
import socket
import sqlite3
import time
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import aiomqtt

from hub_protocol import catalogue
from hub_protocol.errors import ProtocolError
from hub_protocol.messages import Denied, Heartbeat, Hello, Receipt, State, Welcome
from hub_protocol.topics import Parsed, Topics
from satellite_agent import __version__
from satellite_agent.clock import TOLERANCE, Clock
from satellite_agent.commands import Commands
from satellite_agent.connection import Backoff, Unreachable, connect
from satellite_agent.delivery import Delivery
from satellite_agent.epoch import Epochs
from satellite_agent.outbox import Outbox, OutboxError, Row, wire
from satellite_agent.settings import Settings
from satellite_agent.status import Status
from satellite_agent.verbs.verb import Verb

log = logging.getLogger(__name__)

WELCOME_WITHIN_S: Final = 10.0
# A connection that lasted so long was a good one: the next attempt comes soon again.
GOOD_AFTER_S: Final = 10.0
# A heartbeat tells no more than a year.
LONGEST_UPTIME_S: Final = 31_536_000.0
_BYE_WITHIN_S: Final = 3.0
_FORGET_EVERY_S: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Sent:
    """What became of an event: stored by the hub, refused for good (with the reason), or neither yet."""

    id: str
    stored: bool
    refused: str = ""
    why: str = ""


class Agent:
    """One satellite. `run` lasts until `stop`, or raises `connection.Refused` when the hub does not want it."""

    def __init__(self, settings: Settings, db: sqlite3.Connection, epochs: Epochs, verbs: Mapping[str, Verb]) -> None:
        self.status = Status(settings, db)
        self.outbox = Outbox(db)
        self._settings = settings
        self._epochs = epochs
        self._verbs = verbs
        self._topics = Topics(settings.root)
        self._clock = Clock()
        self._commands = Commands(db, self.outbox, verbs, self._clock, self._wake)
        self._started = time.monotonic()
        self._epoch = 0
        self._heartbeat_s = settings.heartbeat_s
        self._delivery = Delivery(self.outbox)
        self._to_send = asyncio.Event()
        self._welcomed = asyncio.Event()
        self._pace_changed = asyncio.Event()
        self._epoch_passed = asyncio.Event()
        self._stopping = asyncio.Event()
        self._waiting: dict[str, asyncio.Future[str]] = {}

    async def run(self) -> None:
        self._commands.recover()
        backoff = Backoff()
        try:
            while not self._stopping.is_set():
                since = time.monotonic()
                self._epoch = self._epochs.next()
                self.status.connecting(self._epoch)
                try:
                    await self._connection()
                except Unreachable as error:
                    if time.monotonic() - since >= GOOD_AFTER_S:
                        backoff.reset()
                    await self._wait(backoff, str(error))
                else:
                    if self._epoch_passed.is_set() and not self._stopping.is_set():
                        # At once the first time; a hub that never agrees is not asked in a busy loop.
                        await self._wait(backoff, "the hub knows a higher epoch", at_once=backoff.attempts == 0)
        finally:
            await self._commands.close()
            self.status.stopped()

    def stop(self) -> None:
        self._stopping.set()

    def send(self, event_type: str, payload: dict[str, Any], space: str | None = None) -> str:
        """Put an event into the outbox and return its id; raises `ProtocolError` or `OutboxError`."""
        event_id = self.outbox.add_event(event_type, payload, at=self._clock.now(), space=space)
        self._waiting[event_id] = asyncio.get_running_loop().create_future()
        self._wake()
        return event_id

    async def answer(self, event_id: str, timeout_s: float) -> Sent:
        """Wait until the hub has stored or refused an event given to `send`, or the time is over."""
        began = datetime.now(UTC)
        try:
            async with asyncio.timeout(timeout_s):
                refused = await self._waiting[event_id]
                return Sent(event_id, stored=not refused, refused=refused)
        except TimeoutError:
            denied = self.status.last_denied
            # A missing scope, for instance: the event waits, for the scope may be granted yet.
            return Sent(event_id, stored=False, why=denied.reason if denied and denied.at >= began else "")
        finally:
            self._waiting.pop(event_id, None)

    async def _connection(self) -> None:
        self._welcomed.clear()
        self._epoch_passed.clear()
        self._delivery = Delivery(self.outbox)
        attempt = asyncio.create_task(self._hold())
        stop = asyncio.create_task(self._stopping.wait())
        try:
            await asyncio.wait({attempt, stop}, return_when=asyncio.FIRST_COMPLETED)
            if not attempt.done() and self.status.connection == "connecting":
                attempt.cancel()  # nothing was said yet, so there is nothing to take back
            with contextlib.suppress(asyncio.CancelledError):
                await attempt
        finally:
            stop.cancel()
            attempt.cancel()

    async def _hold(self) -> None:
        async with connect(self._settings, self._topics, self._epoch) as client:
            log.info("connected to %s as %s, epoch %d", self._settings.hub, self._settings.handle, self._epoch)
            self.status.connected()
            await _until_first(
                self._listen(client),
                self._speak(client),
                self._stopping.wait(),
                self._epoch_passed.wait(),
            )
            if self._stopping.is_set():
                bye = catalogue.encode(State("bye", self._epoch))
                topic = self._topics.state(self._settings.handle)
                await client.publish(topic, bye, qos=1, retain=True, timeout=_BYE_WITHIN_S)
                log.info("said bye")

    async def _wait(self, backoff: Backoff, why: str, *, at_once: bool = False) -> None:
        delay = backoff.next()
        delay = 0.0 if at_once else delay
        self.status.waiting(why)
        attempt = backoff.attempts
        if attempt & (attempt - 1) == 0:  # the 1st, 2nd, 4th, 8th, …: a hub away for a week does not fill the log
            log.warning(
                "not connected to %s: %s; attempt %d follows in %.1f s", self._settings.hub, why, attempt, delay
            )
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(delay):
                await self._stopping.wait()

    # --- speaking ---------------------------------------------------------------------------------------------------

    async def _speak(self, client: aiomqtt.Client) -> None:
        handle, topics = self._settings.handle, self._topics
        for topic in (
            topics.welcome(handle),
            topics.receipt(handle),
            topics.denied(handle),
            topics.command_filter(handle),
        ):
            codes = await client.subscribe(topic, qos=1)
            if any(getattr(code, "value", code) >= 0x80 for code in codes):  # the failure bit of SUBACK
                log.warning("the broker does not let this device subscribe to %s", topic)
        state = catalogue.encode(State("online", self._epoch))
        await client.publish(topics.state(handle), state, qos=1, retain=True)
        await _until_first(self._greet(client), self._beat(client), self._deliver(client))

    async def _greet(self, client: aiomqtt.Client) -> None:
        hello = Hello(
            epoch=self._epoch,
            agent=f"marvain-satellite {__version__}",
            firmware=f"{platform.system()} {platform.release()}"[:120],
            capabilities={"hostname": socket.gethostname(), "machine": platform.machine(), "outbox": True},
            verbs=[verb.announced() for verb in self._verbs.values()],
            heartbeat_s=self._settings.heartbeat_s,
        )
        patience = WELCOME_WITHIN_S
        while True:
            await self._publish(client, self._topics.hello(self._settings.handle), catalogue.encode(hello), qos=1)
            try:
                async with asyncio.timeout(patience):
                    await self._welcomed.wait()
                    break
            except TimeoutError:
                log.warning("the hub is away: connected to its broker, but no welcome within %.0f s", patience)
                patience = min(patience * 2, 600)
        await asyncio.Event().wait()  # the greeting is over; the connection goes on

    async def _beat(self, client: aiomqtt.Client) -> None:
        number = 0
        last_forgot = -_FORGET_EVERY_S
        while True:
            number += 1
            uptime = time.monotonic() - self._started
            beat = Heartbeat(
                epoch=self._epoch,
                n=number,
                uptime_s=min(round(uptime, 1), LONGEST_UPTIME_S),
                backlog=self.outbox.backlog,
            )
            await self._publish(client, self._topics.heartbeat(self._settings.handle), catalogue.encode(beat), qos=0)
            if uptime - last_forgot >= _FORGET_EVERY_S:
                last_forgot = uptime
                with contextlib.suppress(sqlite3.Error):  # a full disk; the next hour tries again
                    self._commands.forget_old()
            self._pace_changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._heartbeat_s * random.uniform(0.9, 1.1)):  # noqa: S311 - to spread load
                    await self._pace_changed.wait()

    async def _deliver(self, client: aiomqtt.Client) -> None:
        while True:
            self._to_send.clear()
            now = time.monotonic()
            rows = self._delivery.take(now)
            # Started in order and so sent in order; waiting for all keeps the broker's pace.
            await asyncio.gather(*(self._send(client, row) for row in rows))
            if not rows:
                again = self._delivery.again_at()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(None if again is None else max(0.05, again - now)):
                        await self._to_send.wait()

    async def _send(self, client: aiomqtt.Client, row: Row) -> None:
        topic, payload = wire(row, self._topics, self._settings.handle, self._epoch)
        await self._publish(client, topic, payload, qos=1)

    async def _publish(self, client: aiomqtt.Client, topic: str, payload: bytes, *, qos: int) -> None:
        # Whether the connection still lives is the listener's to say: it must first read what the hub said last.
        try:
            await client.publish(topic, payload, qos=qos)
        except aiomqtt.MqttError as error:
            log.debug("publishing to %s: %s", topic, error)
            await asyncio.sleep(1)

    def _wake(self) -> None:
        self._to_send.set()

    # --- listening --------------------------------------------------------------------------------------------------

    async def _listen(self, client: aiomqtt.Client) -> None:
        async for message in client.messages:
            topic = message.topic.value
            parsed = catalogue.parse_topic(topic, self._settings.root)
            if parsed is None or parsed.handle != self._settings.handle:
                log.warning("a message on the topic %.200s is none of this device; left alone", topic)
                continue
            if parsed.kind not in ("cmd", "welcome", "receipt", "denied") or not isinstance(message.payload, bytes):
                continue
            try:
                self._take(parsed, catalogue.decode(parsed.kind, message.payload))
            except ProtocolError as error:
                log.warning("a malformed message on %s is left alone: %.300s", topic, error)
            except (sqlite3.Error, OutboxError) as error:
                log.error("a message on %s could not be handled: %s", topic, error)

    def _take(self, parsed: Parsed, message: Any) -> None:
        if parsed.kind == "cmd":
            self._commands.receive(parsed.levels[0], parsed.levels[1], message)
        elif isinstance(message, Welcome):
            self._take_welcome(message)
        elif isinstance(message, Receipt):
            self._take_receipt(message)
        elif isinstance(message, Denied):
            self._take_denied(message)

    def _take_welcome(self, welcome: Welcome) -> None:
        if welcome.epoch != self._epoch:
            return  # the answer to an earlier connection
        ahead = self._clock.learn(welcome.now)
        if abs(ahead) > TOLERANCE:
            log.warning("this clock is %.0f s ahead of the hub's; deadlines go by the hub's", ahead.total_seconds())
        if welcome.heartbeat_s != self._heartbeat_s:
            self._heartbeat_s = welcome.heartbeat_s
            self._pace_changed.set()
        if not self._welcomed.is_set():
            self._welcomed.set()
            self.status.online()
            log.info(
                "hub answered: online, heartbeat every %g s, scopes %s", welcome.heartbeat_s, " ".join(welcome.scopes)
            )

    def _take_receipt(self, receipt: Receipt) -> None:
        self._delivery.answered(self.outbox.drop(receipt.ids))
        self.status.last_receipt_at = datetime.now(UTC)
        for message_id in receipt.ids:
            self._tell(message_id, "")
        self._wake()

    def _tell(self, message_id: str, refused: str) -> None:
        waiting = self._waiting.get(message_id)
        if waiting is not None and not waiting.done():
            waiting.set_result(refused)

    def _take_denied(self, denied: Denied) -> None:
        log.warning("the hub denied %s %.200s: %.500s", denied.action, denied.topic, denied.reason)
        self.status.denied(denied)
        if denied.epoch is not None and denied.epoch >= self._epoch:
            if self._epochs.jump_above(denied.epoch):
                self._epoch_passed.set()
            else:
                log.error("the hub knows epoch %d, and there is no higher one", denied.epoch)
        if denied.action == "message" and denied.epoch is None:
            self._set_aside(denied)

    def _set_aside(self, denied: Denied) -> None:
        """What the hub refused for good is not sent again; it is kept apart with the reason."""
        parsed = catalogue.parse_topic(denied.topic, self._settings.root)
        if parsed is None or parsed.handle != self._settings.handle:
            return
        ids = [denied.id] if denied.id else []
        if parsed.kind == "reply":
            ids = self.outbox.replies_to(parsed.levels[0])
        for message_id in ids:
            self._delivery.answered(self.outbox.set_aside(message_id, denied.reason))
            self._tell(message_id, denied.reason)


async def _until_first(*parts: Coroutine[Any, Any, Any]) -> None:
    """Run all until one ends; then the others are cancelled and its error, if any, is raised."""
    tasks = [asyncio.create_task(part) for part in parts]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in tasks:
        if task in done:
            task.result()
