"""One MQTT connection: takes every whole packet of a chunk apart at once, and writes once per turn of the loop."""

import asyncio
import time
from typing import TYPE_CHECKING, Final, Literal, cast

import structlog

from broker.embedded import packets
from broker.embedded.limits import (
    CLOSE_TIMEOUT_S,
    CONNECT_TIMEOUT_S,
    MAX_ADMISSIONS,
    MAX_LEVELS,
    MAX_PACKET_BYTES,
)
from broker.embedded.message import Message
from broker.embedded.packets import MalformedPacket, Will
from broker.embedded.routing import Route
from broker.embedded.session import Session
from hub.access import decide
from hub.access.grants import valid_topic

if TYPE_CHECKING:
    from broker.embedded.broker import Broker

log = structlog.get_logger(__name__)

State = Literal["new", "admitting", "open", "closed"]

# Handed to the system before the turn ends once this much has gathered.
_FLUSH_AT: Final = 128 * 1024
# Topics whose route a connection remembers.
_MOST_ROUTES: Final = 10_000
# A client that sends on and on and does not read our answers is cut off when so many bytes of them wait.
_MOST_UNREAD: Final = 256 * 1024
# Messages on `denied` that one connection causes, per topic and second, and in all.
_TOLD_PER_SECOND: Final = 20


class Connection(asyncio.Protocol):
    """A connection before, while and after it has a session."""

    __slots__ = (
        "_closer",
        "_heard_at",
        "_needed",
        "_partial",
        "_paused",
        "_timer",
        "_told",
        "_unread",
        "broker",
        "keep_alive_s",
        "kind",
        "loop",
        "out",
        "out_bytes",
        "peer",
        "routes",
        "session",
        "state",
        "transport",
        "will",
    )

    def __init__(self, broker: "Broker", kind: str = "tcp") -> None:
        self.broker = broker
        self.kind = kind
        self.loop = broker.loop
        self.state: State = "new"
        self.session: Session | None = None
        self.will: Will | None = None
        self.keep_alive_s = 0
        self.peer = ""
        self.out: list[bytes] = []
        self.out_bytes = 0
        self.routes: dict[bytes, Route] = {}
        self.transport: asyncio.Transport
        self._partial = bytearray()
        self._needed = 0
        self._paused = False
        self._unread = 0
        self._heard_at = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._closer: asyncio.TimerHandle | None = None
        self._told: dict[tuple[str, str], float] = {}

    @property
    def username(self) -> str:
        return self.session.username if self.session else ""

    # --- what the transport calls -------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but name
        self.transport = transport
        peer = transport.get_extra_info("peername")
        self.peer = f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else str(peer or "")
        self._timer = self.loop.call_later(CONNECT_TIMEOUT_S, self._too_slow)
        self.broker.connections.add(self)

    def data_received(self, data: bytes) -> None:
        self._heard_at = time.monotonic()
        if self._partial or self.state != "open":
            if self.state == "closed":
                return
            self._partial += data
            if self.state == "admitting":
                # Reading is paused; over WebSocket the rest of a chunk may still come.
                if len(self._partial) > 2 * MAX_PACKET_BYTES:
                    self.fail("sends too much before its CONNECT was answered")
                return
            if len(self._partial) < self._needed:
                return
            data = bytes(self._partial)
            self._partial.clear()
        self._take(data)

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if self._closer is not None:
            self._closer.cancel()
        self._end("the connection was lost" if exc else "the peer closed the connection", publish_will=True)
        self.broker.gone(self)

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._unread = 0
        self.flush()
        if self.session is not None and self.session.queue and self.state == "open":
            self.session.pump()

    # --- writing ------------------------------------------------------------------------------------------------

    def send(self, data: bytes) -> None:
        """Write at the end of this turn of the loop, or when the peer reads again."""
        if not self.out:
            self.broker.wake(self)
        self.out.append(data)
        self.out_bytes += len(data)
        if self.out_bytes > _FLUSH_AT:
            self.flush()

    def flush(self) -> None:
        if self._paused or not self.out:
            return
        data = b"".join(self.out)
        self.out.clear()
        self.out_bytes = 0
        self.transport.write(data)

    def _answer(self, data: bytes) -> None:
        """Send what the peer asked for by sending something itself."""
        self.send(data)
        if self._paused:
            self._unread += len(data)
            if self._unread > _MOST_UNREAD:
                raise MalformedPacket("sends on and does not read the answers")

    # --- ending -------------------------------------------------------------------------------------------------

    def fail(self, reason: str) -> None:
        """The peer broke the protocol: record why and close; its Will is published."""
        if self.state == "closed":
            return
        log.info("connection.failed", peer=self.peer, username=self.username, reason=reason)
        self.broker.refusals.add(self.username, "connect", "", f"disconnected: {reason}")
        self._end(reason, publish_will=True)

    def close(self, reason: str, *, publish_will: bool) -> None:
        """End the connection for a reason that is not the peer's fault."""
        self._end(reason, publish_will=publish_will)

    def refuse(self, code: int, reason: str) -> None:
        """Answer a CONNECT with a return code other than 0 and close."""
        if self.state == "closed":
            return
        log.info("connection.refused", peer=self.peer, code=code, reason=reason)
        self.send(packets.connack(code))
        self._end(reason, publish_will=False)

    def _leave_with(self, event: str, reason: str) -> None:
        """The peer is not heard: no breach of the rules, so it is logged and not recorded as a refusal."""
        log.info(event, peer=self.peer, username=self.username, reason=reason)
        self._end(reason, publish_will=True)

    def _end(self, reason: str, *, publish_will: bool) -> None:
        if self.state == "closed":
            return
        self.state = "closed"
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.flush()
        self._partial.clear()
        self.routes.clear()
        session, self.session = self.session, None
        if session is not None:
            self.broker.leave(self, session, self.will if publish_will else None, reason)
        self.will = None
        if self.transport.is_closing():
            return
        self._closer = self.loop.call_later(CLOSE_TIMEOUT_S, self.transport.abort)
        if self.transport.can_write_eof():
            # What the peer still sends is read and thrown away: closing on it would reset the connection, and the
            # reset could overtake our last words.
            self.transport.write_eof()
            if not self.transport.is_reading():
                self.transport.resume_reading()
        else:
            self.transport.close()

    # --- timers -------------------------------------------------------------------------------------------------

    def _too_slow(self) -> None:
        self._leave_with("connection.too_slow", f"no complete CONNECT within {CONNECT_TIMEOUT_S:g} s")

    def _watch(self) -> None:
        """Enforce keep-alive: one and a half times the client's own period without a packet ends it (3.1.2-24)."""
        patience = self.keep_alive_s * 1.5
        left = self._heard_at + patience - time.monotonic()
        if left <= 0:
            self._leave_with("connection.silent", f"silent for {patience:g} s; its keep-alive is {self.keep_alive_s} s")
        else:
            self._timer = self.loop.call_later(left + 0.01, self._watch)

    # --- reading ------------------------------------------------------------------------------------------------

    def _take(self, data: bytes) -> None:
        try:
            consumed = self._parse(data)
        except MalformedPacket as error:
            self.fail(str(error))
            return
        if self.state != "closed" and consumed < len(data):
            # Rest of a chunk behind CONNECT, or the beginning of a packet.
            self._partial[:0] = data[consumed:]

    def _parse(self, data: bytes) -> int:  # noqa: C901, PLR0912, PLR0915 - the hot path is one loop on purpose
        """Handle every whole packet; returns where the first incomplete one begins."""
        pos = 0
        end = len(data)
        self._needed = 0
        session = self.session
        while end - pos >= 2:
            head = data[pos]
            length = data[pos + 1]
            body = pos + 2
            if length > 127:
                length, body = _long_length(data, pos, end)
                if not body:
                    break
                if length > MAX_PACKET_BYTES:
                    raise self._too_large(head, length)
            stop = body + length
            if session is None and head != 0x10:
                raise MalformedPacket("the first packet is not CONNECT")
            if stop > end:
                self._needed = stop - pos
                break
            if 0x30 <= head < 0x40 and session is not None:
                # PUBLISH
                qos = head >> 1 & 3
                if length < 2:
                    raise MalformedPacket("PUBLISH: ends before the topic")
                topic_end = body + 2 + (data[body] << 8 | data[body + 1])
                payload = topic_end + 2 if qos else topic_end
                if payload > stop:
                    raise MalformedPacket("PUBLISH: ends within the topic or before the packet identifier")
                topic = data[body + 2 : topic_end]
                route = self.routes.get(topic)
                if route is None or not route.live:
                    route = self._route(topic)
                if not qos:
                    if head & 8:
                        raise MalformedPacket("PUBLISH: DUP is set at QoS 0")
                    if route.refused or head & 1:
                        self._publish_specially(route, Message(topic, data[payload:stop], 0), head & 1)
                    else:
                        packet = data[pos:stop]
                        message = None
                        for target, _ in route.targets:
                            if target.queue:
                                message = message or Message(topic, data[payload:stop], 0)
                                target.deliver(message, 0)
                            else:
                                target.deliver_packet(packet)
                elif qos == 1:
                    packet_id = data[topic_end:payload]
                    if packet_id == b"\0\0":
                        raise MalformedPacket("PUBLISH: the packet identifier is 0")
                    message = Message(
                        topic, data[payload:stop], 1, front1=data[pos:topic_end] if head == 0x32 else None
                    )
                    if route.refused or head & 1:
                        self._publish_specially(route, message, head & 1)
                    else:
                        for target, granted in route.targets:
                            target.deliver(message, granted)
                    self._answer(b"\x40\x02" + packet_id)
                elif qos == 2:
                    self._publish2(session, route, head, topic, data[topic_end:stop])
                else:
                    raise MalformedPacket("PUBLISH: QoS 3")
            elif head == 0x40 and length == 2 and session is not None:
                session.acknowledge(data[body] << 8 | data[body + 1])
            else:
                self._control(head, data[body:stop])
                session = self.session
                if self.state != "open":
                    return stop
            pos = stop
        return pos

    def _too_large(self, head: int, length: int) -> MalformedPacket:
        name = packets.NAMES.get(head >> 4, "packet")
        reason = f"{name} of {length} bytes is larger than the limit of {MAX_PACKET_BYTES}"
        if self.session is not None and head >> 4 == packets.PUBLISH:
            self.tell_denied("publish", "", reason)
        return MalformedPacket(reason)

    def _route(self, topic: bytes) -> Route:
        """The route of a topic for this publisher: the shared one, or one that says why it may not."""
        text = packets.decode_string(topic, "PUBLISH: the topic")
        if not valid_topic(text):
            raise MalformedPacket("PUBLISH: the topic is empty or holds a wildcard")
        session = self.session
        assert session is not None  # noqa: S101 - called while open
        verdict = decide.publish(session.principal, text)
        if not verdict:
            route = Route((), verdict.reason)
        elif text.count("/") >= MAX_LEVELS:
            route = Route((), f"a topic has at most {MAX_LEVELS} levels here")
        else:
            route = self.broker.router.route(text)
        if len(self.routes) >= _MOST_ROUTES:
            self.routes.clear()
        self.routes[topic] = route
        return route

    def _publish_specially(self, route: Route, message: Message, retain: int) -> None:
        """What is refused, and what is to be retained."""
        session = self.session
        assert session is not None  # noqa: S101
        topic = message.topic.decode()
        refused = route.refused
        if not refused and retain and not self.broker.retain(topic, message, session):
            refused = f"more than {session.limits.retained} retained topics"
        if refused:
            self.broker.refusals.add(session.username, "publish", topic, refused)
            self.tell_denied("publish", topic, refused)
            return
        for target, granted in route.targets:
            target.deliver(message, granted)

    def _publish2(self, session: Session, route: Route, head: int, topic: bytes, rest: bytes) -> None:
        packet_id = int.from_bytes(rest[:2], "big")
        if not packet_id:
            raise MalformedPacket("PUBLISH: the packet identifier is 0")
        # A repeat of what was taken already is answered and not routed again (4.3.3-2).
        if packet_id not in session.incoming:
            session.incoming.add(packet_id)
            self._publish_specially(route, Message(topic, rest[2:], 2), head & 1)
        self._answer(b"\x50\x02" + rest[:2])

    def tell_denied(self, action: Literal["connect", "publish", "subscribe"], topic: str, reason: str) -> None:
        """Tell the device on its `denied` topic: once a second per topic, and not more than a few in all."""
        session = self.session
        if session is None or session.principal.kind != "device":
            return
        now = time.monotonic()
        self._told = {key: at for key, at in self._told.items() if now - at < 1.0}
        if (action, topic) in self._told or len(self._told) >= _TOLD_PER_SECOND:
            return
        self._told[action, topic] = now
        self.broker.tell_denied(session.username, action, topic, reason)

    # --- the rare packets ---------------------------------------------------------------------------------------

    def _control(self, head: int, body: bytes) -> None:
        kind = head >> 4
        if packets.FLAGS.get(kind) != head & 0xF:
            name = packets.NAMES.get(kind, f"packet type {kind}")
            raise MalformedPacket(f"{name} with flags {head & 0xF} is not for a server")
        session = self.session
        if session is None:
            self._connect(body)
        elif kind == packets.CONNECT:
            raise MalformedPacket("a second CONNECT")
        elif kind == packets.SUBSCRIBE:
            packet_id, asked = packets.parse_subscribe(body)
            self.broker.subscribe(self, session, packet_id, asked)
        elif kind == packets.UNSUBSCRIBE:
            packet_id, filters = packets.parse_unsubscribe(body)
            for topic_filter in filters:
                self.broker.router.unsubscribe(session, topic_filter)
            self._answer(packets.unsuback(packet_id))
        elif kind in {packets.PINGREQ, packets.DISCONNECT}:
            if body:
                raise MalformedPacket(f"{packets.NAMES[kind]} with a body")
            if kind == packets.PINGREQ:
                self._answer(packets.PINGRESP)
            else:
                self._end("DISCONNECT", publish_will=False)
        else:
            self._acknowledgement(session, kind, body)

    def _acknowledgement(self, session: Session, kind: int, body: bytes) -> None:
        if len(body) != 2:
            raise MalformedPacket(f"{packets.NAMES[kind]} with {len(body)} bytes in place of 2")
        packet_id = int.from_bytes(body, "big")
        if kind == packets.PUBREC:
            self._answer(session.received(packet_id))
        elif kind == packets.PUBCOMP:
            session.complete(packet_id)
        elif kind == packets.PUBREL:
            session.incoming.discard(packet_id)
            self._answer(b"\x70\x02" + body)

    def _connect(self, body: bytes) -> None:
        connect = packets.parse_connect(body)
        broker = self.broker
        if connect.level != 4:
            self.refuse(packets.BAD_PROTOCOL, f"protocol level {connect.level}; this broker speaks MQTT 3.1.1 (4)")
        elif connect.username is None:
            broker.refusals.add(connect.client_id, "connect", "", "anonymous: no username was given")
            self.refuse(decide.NOT_AUTHORIZED, "anonymous")
        elif len(broker.admissions) >= MAX_ADMISSIONS:
            self.refuse(decide.SERVER_UNAVAILABLE, "too many connections wait to be admitted")
        else:
            self.state = "admitting"
            self.transport.pause_reading()
            task = self.loop.create_task(broker.admit(self, connect))
            broker.admissions.add(task)
            task.add_done_callback(broker.admissions.discard)

    def opened(self, session: Session, will: Will | None, keep_alive_s: int, *, session_present: bool) -> None:
        """The CONNECT is accepted: answer it and go on with what came after it."""
        self.state = "open"
        self.session = session
        self.will = will
        self.keep_alive_s = keep_alive_s
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.send(packets.connack(0, session_present=session_present))

    def resume(self) -> None:
        """Read on, beginning with what came behind the CONNECT."""
        if self.keep_alive_s:
            self._heard_at = time.monotonic()
            self._watch()
        self.transport.resume_reading()
        if self._partial:
            data = bytes(self._partial)
            self._partial.clear()
            self._take(data)


def _long_length(data: bytes, pos: int, end: int) -> tuple[int, int]:
    """A remaining length of two to four bytes and where the body begins; (0, 0) when it is not all there."""
    length = 0
    for index in range(4):
        at = pos + 1 + index
        if at >= end:
            return 0, 0
        length |= (data[at] & 127) << (7 * index)
        if data[at] < 128:
            return length, at + 1
    raise MalformedPacket("the remaining length is longer than four bytes")
