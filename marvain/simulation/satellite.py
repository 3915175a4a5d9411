"""One simulated satellite: says hello, beats, measures, reports events until they are receipted, answers commands."""

import asyncio
import random
import time
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

import msgspec

from hub_protocol import messages
from hub_protocol.catalogue import decode, encode, parse_topic
from hub_protocol.errors import Malformed
from hub_protocol.topics import Topics
from marvain.simulation import wire

KEEPALIVE_S: Final = 20
# Not answered in that time, an event is sent again.
RECEIPT_WITHIN_S: Final = 30.0
# As many events wait for a receipt at most; a satellite sends no more until some are stored.
WINDOW: Final = 256
_LONGEST_BACKOFF_S: Final = 30.0
_VERBS: Final = [messages.Verb("ping"), messages.Verb("blink", args_schema={"type": "object"})]


@dataclass(slots=True)
class Counts:
    """What the fleet did so far, and what came back."""

    connected: int = 0
    connects: int = 0
    closed: int = 0
    events: int = 0
    receipts: int = 0
    repeated: int = 0
    samples: int = 0
    heartbeats: int = 0
    commands: int = 0
    denied: int = 0
    last_fault: str = ""
    # Seconds from an event to its receipt, the last few thousand.
    waits: list[float] = field(default_factory=list)


class Satellite:
    """`run` lasts until cancelled; whoever cancels it says whether it says goodbye (`bye`) or just goes."""

    def __init__(
        self,
        handle: str,
        token: str,
        host: str,
        port: int,
        root: str,
        counts: Counts,
        *,
        heartbeat_s: float,
        local: str,
    ) -> None:
        topics = Topics(root)
        self.handle = handle
        self._token = token
        self._address = (host, port)
        self._local = (local, 0) if local else None
        self._root = root
        self._counts = counts
        self._heartbeat_s = heartbeat_s
        # Rises with every connection, and over runs: there is no flash to keep it in.
        self._epoch = int(time.time() * 1000)
        self._state, self._hello = topics.state(handle).encode(), topics.hello(handle).encode()
        self._heartbeat = topics.heartbeat(handle).encode()
        self._event, self._telemetry = (
            topics.event(handle, "motion").encode(),
            topics.telemetry(handle, "warmth").encode(),
        )
        self._filters = [
            topics.welcome(handle),
            topics.receipt(handle),
            topics.denied(handle),
            topics.command_filter(handle),
        ]
        self._topics = topics
        self._link: wire.Link | None = None
        self._is_open = False
        self._closed = asyncio.Event()
        self._waiting: dict[str, tuple[float, bytes]] = {}
        self._done: dict[str, bytes] = {}
        self._seq = 0
        self._why = ""

    @property
    def is_open(self) -> bool:
        """Whether the broker has let it in."""
        return self._is_open

    async def run(self) -> None:
        """Connect, stay, and come back with a growing random wait."""
        attempts = 0
        while True:
            opened = await self._connect()
            if opened:
                attempts = 0
                await self._stay()
                self._counts.closed += 1
                self._counts.last_fault = self._why
            attempts += 1
            await asyncio.sleep(random.uniform(0, min(_LONGEST_BACKOFF_S, 2**attempts)))  # noqa: S311 - spreads load

    def report(self) -> bool:
        """Report an event; False where so many wait that a satellite would keep it for later."""
        if not self._is_open or self._link is None or len(self._waiting) >= WINDOW:
            return False
        self._seq += 1
        event_id = uuid.uuid4().hex
        event = messages.Event(event_id, self._epoch, {"zone": self._seq % 4, "strength": 0.5}, self._seq)
        payload = encode(event)
        self._waiting[event_id] = (time.monotonic(), payload)
        self._counts.events += 1
        self._link.publish(self._event, payload)
        return True

    def bye(self) -> None:
        """Say goodbye and close."""
        if self._link is not None and self._is_open:
            self._link.publish(self._state, encode(messages.State("bye", self._epoch)), retain=True)
            self._link.close()

    async def _connect(self) -> bool:
        self._epoch += 1
        self._closed.clear()
        will = encode(messages.State("lost", self._epoch))
        packet = wire.connect(self.handle, self._token, self._state, will, KEEPALIVE_S)
        opened = asyncio.Event()
        loop = asyncio.get_running_loop()

        def on_open() -> None:
            self._is_open = True
            self._counts.connected += 1
            self._counts.connects += 1
            opened.set()

        def on_closed(why: str) -> None:
            if self._is_open:
                self._is_open = False
                self._counts.connected -= 1
            self._why = self._counts.last_fault = why
            opened.set()
            self._closed.set()

        link = wire.Link(packet, on_open, self._message, _nothing, on_closed)
        try:
            async with asyncio.timeout(20):
                await loop.create_connection(lambda: link, *self._address, local_addr=self._local)
                await opened.wait()
        except (OSError, TimeoutError) as error:
            self._counts.last_fault = str(error) or type(error).__name__
            link.close()
            return False
        self._link = link
        return self._is_open

    async def _stay(self) -> None:
        """Everything that happens by itself while connected: two timers in one, for thousands of these run at once."""
        link = self._link
        if link is None:
            return
        link.subscribe(self._filters)
        link.publish(self._state, encode(messages.State("online", self._epoch)), retain=True)
        hello = messages.Hello(self._epoch, agent="marvain simulate", verbs=_VERBS, heartbeat_s=self._heartbeat_s)
        link.publish(self._hello, encode(hello))
        for _, payload in self._waiting.values():
            self._counts.repeated += 1
            link.publish(self._event, payload)
        beats = 0
        # Devices were not all switched on in the same second.
        wait = random.uniform(0, self._heartbeat_s)  # noqa: S311 - spreads load
        while not await _set_within(self._closed, wait):
            beats += 1
            link.publish(self._heartbeat, encode(messages.Heartbeat(self._epoch, beats)), 0)
            link.publish(self._telemetry, b"%.2f" % random.gauss(21, 0.5))
            self._counts.heartbeats += 1
            self._counts.samples += 1
            self._repeat(link)
            if self._heartbeat_s >= KEEPALIVE_S:
                link.ping()
            wait = self._heartbeat_s * random.uniform(0.9, 1.1)  # noqa: S311 - spreads load

    def _repeat(self, link: wire.Link) -> None:
        now = time.monotonic()
        for event_id, (sent_at, payload) in self._waiting.items():
            if now - sent_at > RECEIPT_WITHIN_S:
                self._waiting[event_id] = (now, payload)
                self._counts.repeated += 1
                link.publish(self._event, payload)

    def _message(self, topic: str, payload: bytes) -> None:
        parsed = parse_topic(topic, self._root)
        if parsed is None:
            return
        try:
            message = decode(parsed.kind, payload)
        except Malformed:
            return
        if isinstance(message, messages.Receipt):
            self._receipt(message)
        elif isinstance(message, messages.Command):
            self._command(parsed.levels[1], message)
        elif isinstance(message, messages.Denied):
            self._counts.denied += 1
            self._counts.last_fault = message.reason
            if message.epoch is not None:
                self._epoch = max(self._epoch, message.epoch)

    def _receipt(self, receipt: messages.Receipt) -> None:
        now = time.monotonic()
        for event_id in receipt.ids:
            waited = self._waiting.pop(event_id, None)
            if waited is not None:
                self._counts.receipts += 1
                self._counts.waits.append(now - waited[0])

    def _command(self, command_id: str, command: messages.Command) -> None:
        payload = self._done.get(command_id)
        if payload is None:
            status = "succeeded" if command.expires_at > datetime.now(UTC) else "rejected"
            code = "" if status == "succeeded" else "expired"
            reply = msgspec.convert(
                {"status": status, "code": code, "epoch": self._epoch, "result": {}}, messages.Reply
            )
            payload = self._done[command_id] = encode(reply)
            self._counts.commands += 1
            if len(self._done) > 1_000:
                del self._done[next(iter(self._done))]
        if self._link is not None:
            self._link.publish(self._topics.reply(self.handle, command_id).encode(), payload)


def _nothing() -> None:
    """A receipt is what an event waits for, not the broker's word."""


async def _set_within(event: asyncio.Event, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            return await event.wait()
    except TimeoutError:
        return False
