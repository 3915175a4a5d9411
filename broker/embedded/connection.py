"""One MQTT connection: its states from the first byte to the last word."""

import asyncio
import time
from datetime import UTC, datetime
from typing import Final, cast

import structlog

from broker.embedded import packets, reading
from broker.embedded.brake import Brake
from broker.embedded.broker import Broker
from broker.embedded.exchange import CannotKeep
from broker.embedded.flow import Way
from broker.embedded.limits import CLOSE_TIMEOUT_S
from broker.embedded.link import Action, State
from broker.embedded.outbox import Outbox
from broker.embedded.packets import MalformedPacket, Will
from broker.embedded.patience import Patience
from broker.embedded.session import Session
from hub.access import decide

log = structlog.get_logger(__name__)

# Answers that wait for the store; a client that has asked for more is not read until they have left.
_MOST_HELD: Final = 10_000
# Messages on `denied` that one connection causes, per topic and second, and in all.
_TOLD_PER_SECOND: Final = 20


class Connection(Outbox, asyncio.Protocol):
    """A connection before, while and after it has a session."""

    __slots__ = (
        "_brake",
        "_closer",
        "_partial",
        "_patience",
        "_told",
        "address",
        "broker",
        "counted",
        "heard_at",
        "keep_alive_s",
        "kind",
        "loop",
        "max_packet_bytes",
        "needed",
        "opened_at",
        "peer",
        "routes",
        "session",
        "state",
        "will",
    )

    def __init__(self, broker: Broker, kind: str = "tcp") -> None:
        super().__init__(broker.output)
        self.broker = broker
        self.kind = kind
        self.loop = broker.loop
        self.state: State = "new"
        self.session: Session | None = None
        self.will: Will | None = None
        self.keep_alive_s = 0
        self.peer = ""
        self.address = ""
        # Whether the guard counts it already.
        self.counted = False
        self.opened_at: datetime | None = None
        self.max_packet_bytes = broker.bounds.max_packet_bytes
        self.routes: dict[bytes, Way] = {}
        self.heard_at = 0.0
        self._brake: Brake
        self._patience: Patience
        self._partial = bytearray()
        self.needed = 0
        self._closer: asyncio.TimerHandle | None = None
        self._told: dict[tuple[str, str], float] = {}

    def is_counted(self) -> None:
        """Its address was asked for room already."""
        self.counted = True

    @property
    def username(self) -> str:
        return self.session.username if self.session else ""

    # --- what the transport calls -------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but name
        self.transport = transport
        peer = transport.get_extra_info("peername")
        self.peer = f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else str(peer or "")
        self.address = str(peer[0]) if isinstance(peer, tuple) else self.peer
        self._brake = Brake(self.loop, transport, self._braked)
        self._patience = Patience(self.loop, self)
        self.broker.greet(self)

    def data_received(self, data: bytes) -> None:
        self.heard_at = time.monotonic()
        self.flow.bytes_in += len(data)
        length = len(data)
        if self._partial or self.state != "open":
            if self.state == "closed":
                return
            self._partial += data
            if self.state == "admitting":
                # Reading is paused; over WebSocket the rest of a chunk may still come.
                if len(self._partial) > 2 * self.max_packet_bytes:
                    self.fail("sends too much before its CONNECT was answered")
                return
            if len(self._partial) < self.needed:
                return
            data = bytes(self._partial)
            self._partial.clear()
        self._take(data)
        brake = self._brake
        if brake.pace is not None and self.state == "open":
            brake.pay(self.flow.published + self.flow.controls, length, self.heard_at)
        if len(self.out) > _MOST_HELD and self.broker.output.holding and self.state == "open":
            brake.stall()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if self._closer is not None:
            self._closer.cancel()
        self._end("the connection was lost" if exc else "the peer closed the connection", publish_will=True)
        self.broker.gone(self)

    # --- what its outbox, its brake and its patience tell -----------------------------------------------------------

    def has_room(self) -> None:
        if self.session is not None and self.session.queue and self.state == "open":
            self.session.pump()

    def has_left(self) -> None:
        if self._brake.stalled:
            self._brake.go_on()
        self._part()

    def unwritten(self) -> None:
        self._sealed = False
        self.out.clear()
        self._end("the broker cannot store anything now", publish_will=True)
        self.transport.abort()

    @property
    def held(self) -> bool:
        """Whether it may be speaking, and it is we who do not listen."""
        return self._brake.holds

    def _braked(self, rule: str) -> None:
        reason = f"sends more than {rule}: it is read more slowly, and nothing of it is lost"
        self.broker.refusals.add(self.username, "publish", "", reason)

    # --- ending -------------------------------------------------------------------------------------------------

    def fail(self, reason: str) -> None:
        """The peer broke the protocol: record why and close; its Will is published."""
        if self.state == "closed":
            return
        log.info("connection.failed", peer=self.peer, username=self.username, reason=reason)
        stranger = self.session is None
        self.broker.refusals.add(self.username, "connect", "", f"disconnected: {reason}", stranger=stranger)
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

    def leave_with(self, event: str, reason: str) -> None:
        """The peer is not heard: no breach of the rules, so it is logged and not recorded as a refusal."""
        log.info(event, peer=self.peer, username=self.username, reason=reason)
        self._end(reason, publish_will=True)

    def _end(self, reason: str, *, publish_will: bool) -> None:
        if self.state == "closed":
            return
        self.state = "closed"
        self.broker.admissions.forget(self)
        self._patience.stop()
        if not self.broker.output.holding:
            self.flush()
        self._brake.release()
        self._partial.clear()
        self.forget_routes()
        session, self.session = self.session, None
        if session is not None:
            self.broker.exchange.leave(self, session, self.will if publish_will else None, reason)
        self.will = None
        if self.transport.is_closing():
            return
        self._closer = self.loop.call_later(CLOSE_TIMEOUT_S, self.transport.abort)
        if self._paused:
            self.out.clear()
        self._part()

    def _part(self) -> None:
        """Once a closed connection has said its last words: say that they were the last."""
        if self._closer is None or self.out or self._sealed or self.transport.is_closing():
            return
        if self.transport.can_write_eof():
            # What the peer still sends is read and thrown away: closing on it would reset the connection, and the
            # reset could overtake our last words.
            self.transport.write_eof()
            if not self.transport.is_reading():
                self.transport.resume_reading()
        else:
            self.transport.close()

    def crowded_out(self) -> None:
        """Make room for others at once: there is nothing to say to one who has said nothing."""
        self._end("too many connections without a CONNECT", publish_will=False)
        self.transport.abort()

    def turn_away(self, reason: str) -> None:
        """Close at once: a stranger has no room here."""
        log.debug("connection.turned_away", peer=self.peer, reason=reason)
        self._end(reason, publish_will=False)
        self.transport.abort()

    # --- reading ------------------------------------------------------------------------------------------------

    def _take(self, data: bytes) -> None:
        try:
            consumed = reading.read(self.broker.exchange, self, data)
        except MalformedPacket as error:
            self.fail(str(error))
            return
        except CannotKeep as error:
            self.close(str(error), publish_will=True)
            return
        if self.state != "closed" and consumed < len(data):
            # Rest of a chunk behind CONNECT, or the beginning of a packet.
            self._partial[:0] = data[consumed:]

    def forget_routes(self) -> None:
        if self.session is not None:
            self.broker.exchange.traffic.collect(self.session.principal, self.routes.items())
        self.routes.clear()

    def tell_denied(self, action: Action, topic: str, reason: str) -> None:
        """Tell the client on its `denied` topic: once a second per topic, and not more than a few in all."""
        session = self.session
        if session is None or not session.principal.denied_topic:
            return
        now = time.monotonic()
        self._told = {key: at for key, at in self._told.items() if now - at < 1.0}
        if (action, topic) in self._told or len(self._told) >= _TOLD_PER_SECOND:
            return
        self._told[action, topic] = now
        self.broker.exchange.tell_denied(session.principal, action, topic, reason)

    def connect(self, body: bytes) -> None:
        connect = packets.parse_connect(body)
        broker = self.broker
        broker.admissions.forget(self)
        if too_often := broker.guard.connects(self.address, connect.username or ""):
            name = connect.username or connect.client_id
            broker.refusals.add(name, "connect", "", too_often, stranger=True)
            self.refuse(decide.SERVER_UNAVAILABLE, too_often)
        elif connect.level != 4:
            self.refuse(packets.BAD_PROTOCOL, f"protocol level {connect.level}; this broker speaks MQTT 3.1.1 (4)")
        elif connect.username is None:
            reason = "anonymous: no username was given"
            broker.refusals.add(connect.client_id, "connect", "", reason, stranger=True)
            self.refuse(decide.NOT_AUTHORIZED, "anonymous")
        else:
            self.transport.pause_reading()
            broker.admissions.admit(self, connect)

    def opened(self, session: Session, will: Will | None, keep_alive_s: int, *, session_present: bool) -> None:
        """The CONNECT is accepted: answer it and go on with what came after it."""
        self.state = "open"
        self.session = session
        self.opened_at = datetime.now(UTC)
        self._brake.pace = self.broker.exchange.traffic.pace(session.principal, time.monotonic())
        self.will = will
        self.keep_alive_s = keep_alive_s
        self._patience.end()
        self.send(packets.connack(0, session_present=session_present))

    def resume(self) -> None:
        """Read on, beginning with what came behind the CONNECT."""
        self._patience.begin()
        self.transport.resume_reading()
        if self._partial:
            data = bytes(self._partial)
            self._partial.clear()
            self._take(data)
