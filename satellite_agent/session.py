"""One session: what is said and heard between a connect and its end."""

import asyncio
import contextlib
import logging
import platform
import random
import socket
import sqlite3
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import aiomqtt
import msgspec

from hub_protocol import catalogue
from hub_protocol.errors import ProtocolError
from hub_protocol.messages import Check, Config, Denied, Heartbeat, Hello, Receipt, Remotes, State, Welcome
from hub_protocol.topics import Parsed, Topics
from satellite_agent import __version__
from satellite_agent.checks import Checks
from satellite_agent.clock import TOLERANCE, Clock
from satellite_agent.commands import Commands
from satellite_agent.config import Settable
from satellite_agent.delivery import Delivery
from satellite_agent.epoch import Epochs
from satellite_agent.outbox import Outbox, OutboxError, Row, wire
from satellite_agent.receipts import Receipts
from satellite_agent.reserve import Reserve
from satellite_agent.samples import Samples
from satellite_agent.samples import wire as wire_samples
from satellite_agent.settings import Settings
from satellite_agent.status import Status
from satellite_agent.undated import Undated
from satellite_agent.verbs.table import Table

log = logging.getLogger(__name__)

# A hello is said again, ever more slowly, until the hub has answered: the broker may have been back before the hub.
FIRST_PATIENCE_S: Final = 1.0
LAST_PATIENCE_S: Final = 60.0
# Silence of this length is worth a line in the log.
WELCOME_WITHIN_S: Final = 10.0
# A heartbeat tells no more than a year.
LONGEST_UPTIME_S: Final = 31_536_000.0
_BYE_WITHIN_S: Final = 3.0
_FORGET_EVERY_S: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Parts:
    """What outlives a session and every session works with."""

    settings: Settings
    epochs: Epochs
    verbs: Table
    outbox: Outbox
    samples: Samples
    reserve: Reserve
    commands: Commands
    clock: Clock
    undated: Undated
    status: Status
    receipts: Receipts
    started: float
    to_send: asyncio.Event
    measured: asyncio.Event
    to_greet: asyncio.Event
    settable: Settable
    checks: Checks
    stopping: asyncio.Event


class Session:
    """`run` lasts until the connection breaks (MqttError), the satellite stops, or the epoch turns out to be passed."""

    def __init__(self, parts: Parts, client: aiomqtt.Client, epoch: int) -> None:
        self._parts = parts
        self._settings = parts.settings
        self._topics = Topics(parts.settings.root)
        self._client = client
        self._epoch = epoch
        self._heartbeat_s = parts.settable.heartbeat_s
        self._delivery = Delivery(parts.outbox)
        self._welcomed = asyncio.Event()
        self._hello_denied = asyncio.Event()
        self._pace_changed = asyncio.Event()
        self._config_owed = asyncio.Event()
        self._epoch_passed = asyncio.Event()
        # Until then (monotonic) the hub sets aside what this device says: it keeps it.
        self._held_until = 0.0

    async def run(self) -> None:
        await _until_first(self._listen(), self._speak(), self._parts.stopping.wait(), self._epoch_passed.wait())
        if self._parts.stopping.is_set():
            bye = catalogue.encode(State("bye", self._epoch))
            topic = self._topics.state(self._settings.handle)
            await self._client.publish(topic, bye, qos=1, retain=True, timeout=_BYE_WITHIN_S)
            log.info("said bye")

    # --- speaking ---------------------------------------------------------------------------------------------------

    async def _speak(self) -> None:
        handle, topics = self._settings.handle, self._topics
        for topic in (
            topics.welcome(handle),
            topics.receipt(handle),
            topics.denied(handle),
            topics.command_filter(handle),
            topics.config(handle),
        ):
            codes = await self._client.subscribe(topic, qos=1)
            if any(getattr(code, "value", code) >= 0x80 for code in codes):  # the failure bit of SUBACK
                log.warning("the broker does not let this device subscribe to %s", topic)
        state = catalogue.encode(State("online", self._epoch))
        await self._client.publish(topics.state(handle), state, qos=1, retain=True)
        await _until_first(
            self._greet(),
            self._beat(),
            self._deliver(),
            self._deliver_samples(),
            self._answer_config(),
            self._check_remotes(),
        )

    async def _greet(self) -> None:
        began, patience, warned = time.monotonic(), FIRST_PATIENCE_S, False
        while not self._welcomed.is_set() and not self._hello_denied.is_set():
            await self._say_hello()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(patience * random.uniform(0.9, 1.1)):  # noqa: S311 - to spread load
                    await self._welcomed.wait()
            patience = min(patience * 2, LAST_PATIENCE_S)
            waited = time.monotonic() - began
            if not self._welcomed.is_set() and waited >= WELCOME_WITHIN_S and not warned:
                warned = True
                log.warning("the hub is away: connected to its broker, but no welcome within %.0f s", waited)
        while True:  # the greeting is over; it is said anew when the satellite is set otherwise
            await self._parts.to_greet.wait()
            await self._say_hello()

    async def _say_hello(self) -> None:
        self._parts.to_greet.clear()
        hello = Hello(
            epoch=self._epoch,
            agent=f"marvain-satellite {__version__}",
            firmware=f"{platform.system()} {platform.release()}"[:120],
            capabilities={"hostname": socket.gethostname(), "machine": platform.machine(), "outbox": True},
            verbs=self._parts.verbs.announced(),
            config_rev=self._parts.settable.rev,
            heartbeat_s=self._parts.settable.heartbeat_s,
        )
        await self._publish(self._topics.hello(self._settings.handle), catalogue.encode(hello), qos=1)

    async def _answer_config(self) -> None:
        """Say what became of the last config until the hub has confirmed it."""
        await self._welcomed.wait()
        patience = FIRST_PATIENCE_S
        while True:
            self._config_owed.clear()
            owed = self._parts.settable.owed
            if owed is not None:
                reply = msgspec.structs.replace(owed, epoch=self._epoch)
                topic = self._topics.config_reply(self._settings.handle)
                await self._publish(topic, catalogue.encode(reply), qos=1)
            try:
                async with asyncio.timeout(None if owed is None else patience * random.uniform(0.9, 1.1)):  # noqa: S311
                    await self._config_owed.wait()
                patience = FIRST_PATIENCE_S
            except TimeoutError:
                patience = min(patience * 2, LAST_PATIENCE_S)

    async def _beat(self) -> None:
        number = 0
        last_forgot = -_FORGET_EVERY_S
        while True:
            number += 1
            uptime = time.monotonic() - self._parts.started
            beat = Heartbeat(
                epoch=self._epoch,
                n=number,
                uptime_s=min(round(uptime, 1), LONGEST_UPTIME_S),
                backlog=self._parts.outbox.backlog,
            )
            await self._publish(self._topics.heartbeat(self._settings.handle), catalogue.encode(beat), qos=0)
            if uptime - last_forgot >= _FORGET_EVERY_S:
                last_forgot = uptime
                with contextlib.suppress(sqlite3.Error):  # a full disk; the next hour tries again
                    self._parts.commands.forget_old()
                self._parts.reserve.keep()
            self._pace_changed.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._heartbeat_s * random.uniform(0.9, 1.1)):  # noqa: S311 - to spread load
                    await self._pace_changed.wait()

    async def _deliver(self) -> None:
        await self._greeted()
        while True:
            await self._let_go()
            self._parts.to_send.clear()
            now = time.monotonic()
            rows = self._delivery.take(now)
            # Started in order and so sent in order; waiting for all keeps the broker's pace.
            await asyncio.gather(*(self._send(row) for row in rows))
            if not rows:
                again = self._delivery.again_at()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(None if again is None else max(0.05, again - now)):
                        await self._parts.to_send.wait()

    async def _deliver_samples(self) -> None:
        await self._greeted()
        while True:
            await self._let_go()
            self._parts.measured.clear()
            for stream, rows in self._parts.samples.take(self._parts.clock.now()).items():
                payload = wire_samples([sample for _, sample in rows])
                if await self._publish(self._topics.telemetry(self._settings.handle, stream), payload, qos=1):
                    self._parts.samples.drop(seq for seq, _ in rows)
            if not self._parts.samples.backlog:
                await self._parts.measured.wait()

    async def _check_remotes(self) -> None:
        """Say how the remotes are that the hub wants to be checked; what is not told is told by the next check."""
        await self._welcomed.wait()
        topic = self._topics.remotes(self._settings.handle)

        async def tell(found: dict[str, Check]) -> None:
            await self._publish(topic, catalogue.encode(Remotes(self._epoch, found)), qos=1)

        await self._parts.checks.run(tell)

    async def _greeted(self) -> None:
        # What is said before the hub has answered may reach a broker that keeps it for nobody; on disk it is safe. But
        # a device may be allowed to send events and not to say hello: it is not answered, and speaks all the same.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(WELCOME_WITHIN_S):
                await _until_first(self._welcomed.wait(), self._hello_denied.wait())

    async def _let_go(self) -> None:
        while (held_s := self._held_until - time.monotonic()) > 0:  # noqa: ASYNC110 - it is a time, not a condition
            # Not all of a fleet at once, when all were held.
            await asyncio.sleep(held_s * random.uniform(1.0, 1.1))  # noqa: S311 - to spread load

    async def _send(self, row: Row) -> None:
        topic, payload = wire(row, self._topics, self._settings.handle, self._epoch)
        await self._publish(topic, payload, qos=1)

    async def _publish(self, topic: str, payload: bytes, *, qos: int) -> bool:
        # Whether the connection still lives is the listener's to say: it must first read what the hub said last.
        try:
            await self._client.publish(topic, payload, qos=qos)
        except aiomqtt.MqttError as error:
            log.debug("publishing to %s: %s", topic, error)
            await asyncio.sleep(1)
            return False
        return True

    # --- listening --------------------------------------------------------------------------------------------------

    async def _listen(self) -> None:
        async for message in self._client.messages:
            topic = message.topic.value
            parsed = catalogue.parse_topic(topic, self._settings.root)
            if parsed is None or parsed.handle != self._settings.handle:
                log.warning("a message on the topic %.200s is none of this device; left alone", topic)
                continue
            if parsed.kind not in ("cmd", "config", "welcome", "receipt", "denied") or not isinstance(
                message.payload, bytes
            ):
                continue
            try:
                self._take(parsed, catalogue.decode(parsed.kind, message.payload))
            except ProtocolError as error:
                log.warning("a malformed message on %s is left alone: %.300s", topic, error)
            except (sqlite3.Error, OutboxError) as error:
                log.error("a message on %s could not be handled: %s", topic, error)

    def _take(self, parsed: Parsed, message: Any) -> None:
        if parsed.kind == "cmd":
            self._parts.commands.receive(parsed.levels[0], parsed.levels[1], message)
        elif isinstance(message, Config):
            self._parts.settable.receive(message)
            self._config_owed.set()
        elif isinstance(message, Welcome):
            self._take_welcome(message)
        elif isinstance(message, Receipt):
            self._take_receipt(message)
        elif isinstance(message, Denied):
            self._take_denied(message)

    def _take_welcome(self, welcome: Welcome) -> None:
        if welcome.epoch != self._epoch:
            return  # the answer to an earlier connection
        ahead = self._parts.clock.learn(welcome.now)
        self._parts.undated.date()
        if abs(ahead) > TOLERANCE:
            log.warning("this clock is %.0f s ahead of the hub's; deadlines go by the hub's", ahead.total_seconds())
        if welcome.heartbeat_s != self._heartbeat_s:
            self._heartbeat_s = welcome.heartbeat_s
            self._pace_changed.set()
        if not self._welcomed.is_set():
            self._welcomed.set()
            self._parts.status.online()
            log.info(
                "hub answered: online, heartbeat every %g s, scopes %s", welcome.heartbeat_s, " ".join(welcome.scopes)
            )

    def _take_receipt(self, receipt: Receipt) -> None:
        self._delivery.answered(self._parts.outbox.drop(receipt.ids))
        self._parts.status.last_receipt_at = datetime.now(UTC)
        for message_id in receipt.ids:
            self._parts.receipts.settle(message_id)
            kind, _, rev = message_id.partition(":")
            if kind == "config" and rev.isdecimal():
                self._parts.settable.confirmed(int(rev))
                self._config_owed.set()
        self._parts.to_send.set()

    def _take_denied(self, denied: Denied) -> None:
        log.warning("the hub denied %s %.200s: %.500s", denied.action, denied.topic, denied.reason)
        self._parts.status.denied(denied)
        if denied.topic == self._topics.hello(self._settings.handle) and not self._welcomed.is_set():
            self._hello_denied.set()
        if denied.epoch is not None and denied.epoch > self._epoch:
            if self._parts.epochs.jump_above(denied.epoch):
                self._epoch_passed.set()
            else:
                log.error("the hub knows epoch %d, and there is no higher one", denied.epoch)
        if denied.retry_after_s is not None:
            self._held_until = time.monotonic() + denied.retry_after_s
        elif denied.action == "message" and denied.epoch is None:
            self._set_aside(denied)

    def _set_aside(self, denied: Denied) -> None:
        """What the hub refused for good is not sent again; it is kept apart with the reason."""
        parsed = catalogue.parse_topic(denied.topic, self._settings.root)
        if parsed is None or parsed.handle != self._settings.handle:
            return
        ids = [denied.id] if denied.id else []
        if parsed.kind == "reply":
            ids = self._parts.outbox.replies_to(parsed.levels[0])
        for message_id in ids:
            self._delivery.answered(self._parts.outbox.set_aside(message_id, denied.reason))
            self._parts.receipts.settle(message_id, denied.reason)


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
