"""What the broker remembers of a client: its subscriptions, what it has not acknowledged, and what waits for it.

A session may outlive its connection. All changes to it go through the methods here.
"""

import asyncio
import uuid
from collections import deque
from typing import Final, Protocol

from broker.embedded.limits import LIMITS, Limits
from broker.embedded.message import Message
from hub.access import decide
from hub.access.principals import Principal

_MAX_PACKET_ID: Final = 65_535


class Wire(Protocol):
    """What a session needs of its connection: to write, and to know what waits there already."""

    out_bytes: int

    def send(self, data: bytes) -> None: ...


class Session:
    """One client's session. `connection` is None while the client is away.

    `inflight` holds in the order of sending what was sent at QoS 1 or 2 and not acknowledged: (message, qos), or None
    once a QoS 2 message is released and only its PUBCOMP is missing. `incoming` are the packet identifiers of QoS 2
    messages that were taken and not yet released by the client. `expiry` is the timer of a credential that runs out.
    `overflowed` counts what was dropped for want of room.
    """

    __slots__ = (
        "_last_id",
        "connection",
        "credential_id",
        "expiry",
        "incoming",
        "inflight",
        "limits",
        "overflowed",
        "persistent",
        "principal",
        "queue",
        "queue_bytes",
        "subscriptions",
        "username",
    )

    def __init__(self, principal: Principal, credential_id: uuid.UUID, *, persistent: bool) -> None:
        self.username = principal.username
        self.principal = principal
        self.credential_id = credential_id
        self.limits: Limits = LIMITS[principal.kind]
        self.persistent = persistent
        self.connection: Wire | None = None
        self.subscriptions: dict[str, int] = {}
        self.inflight: dict[int, tuple[Message, int] | None] = {}
        self.queue: deque[tuple[Message, int]] = deque()
        self.queue_bytes = 0
        self.incoming: set[int] = set()
        self.overflowed = 0
        self.expiry: asyncio.TimerHandle | None = None
        self._last_id = 0

    def cancel_expiry(self) -> None:
        if self.expiry is not None:
            self.expiry.cancel()
            self.expiry = None

    def may_receive(self, topic: str) -> bool:
        return decide.receive(self.principal, topic).allowed

    def attach(self, connection: Wire) -> None:
        """The client is here again: what it has not acknowledged is sent again, in order, then what waited."""
        self.connection = connection
        for packet_id, sent in self.inflight.items():
            identifier = packet_id.to_bytes(2, "big")
            if sent is None:
                connection.send(b"\x62\x02" + identifier)
            else:
                message, qos = sent
                connection.send(b"".join((message.front(qos, dup=True), identifier, message.payload)))
        self.pump()

    def detach(self) -> None:
        self.connection = None

    def forget_unreadable(self) -> None:
        """Drop what waits or is unacknowledged on topics that the client may no longer read."""
        readable: dict[bytes, bool] = {}

        def keep(message: Message) -> bool:
            if message.topic not in readable:
                readable[message.topic] = self.may_receive(message.topic.decode())
            return readable[message.topic]

        for packet_id in [i for i, sent in self.inflight.items() if sent is not None and not keep(sent[0])]:
            del self.inflight[packet_id]
        self.queue = deque(waiting for waiting in self.queue if keep(waiting[0]))
        self.queue_bytes = sum(message.size for message, _ in self.queue)

    def deliver(self, message: Message, granted: int) -> None:
        """Send a message at the lower of its QoS and the granted one, or keep it until it can be sent."""
        qos = min(granted, message.qos)
        connection = self.connection
        if connection is None:
            if qos:
                self._enqueue(message, qos, self.limits.queue_messages)
        elif not qos:
            if self.queue:
                # Behind what waits, so that a topic keeps its order; but it may not take the room of what must arrive.
                self._enqueue(message, 0, self.limits.queue_messages // 2)
            elif connection.out_bytes > self.limits.out_bytes:
                self.overflowed += 1
            else:
                connection.send(message.packet0())
        elif self.queue or len(self.inflight) >= self.limits.window or connection.out_bytes > self.limits.out_bytes:
            self._enqueue(message, qos, self.limits.queue_messages)
        else:
            packet_id = self._next_id()
            self.inflight[packet_id] = (message, qos)
            connection.send(b"".join((message.front(qos), packet_id.to_bytes(2, "big"), message.payload)))

    def deliver_packet(self, packet: bytes) -> None:
        """Send a QoS 0 packet as its publisher wrote it."""
        connection = self.connection
        if connection is None:
            return
        if connection.out_bytes > self.limits.out_bytes:
            self.overflowed += 1
        else:
            connection.send(packet)

    def acknowledge(self, packet_id: int) -> None:
        """PUBACK."""
        sent = self.inflight.get(packet_id)
        if sent is not None and sent[1] == 1:
            del self.inflight[packet_id]
            if self.queue:
                self.pump()

    def received(self, packet_id: int) -> bytes:
        """PUBREC: the message is the client's now. Returns the PUBREL."""
        sent = self.inflight.get(packet_id)
        if sent is not None and sent[1] == 2:
            self.inflight[packet_id] = None
        return b"\x62\x02" + packet_id.to_bytes(2, "big")

    def complete(self, packet_id: int) -> None:
        """PUBCOMP."""
        if packet_id in self.inflight and self.inflight[packet_id] is None:
            del self.inflight[packet_id]
            if self.queue:
                self.pump()

    def pump(self) -> None:
        """Send what waits, as far as the window and the connection take it."""
        connection = self.connection
        queue = self.queue
        if connection is None:
            return
        window, room = self.limits.window, self.limits.out_bytes
        while queue and connection.out_bytes <= room:
            message, qos = queue[0]
            if qos and len(self.inflight) >= window:
                return
            queue.popleft()
            self.queue_bytes -= message.size
            if not qos:
                connection.send(message.packet0())
                continue
            packet_id = self._next_id()
            self.inflight[packet_id] = (message, qos)
            connection.send(b"".join((message.front(qos), packet_id.to_bytes(2, "big"), message.payload)))

    def _enqueue(self, message: Message, qos: int, most: int) -> None:
        if len(self.queue) >= most or self.queue_bytes + message.size > self.limits.queue_bytes:
            self.overflowed += 1
            return
        self.queue.append((message, qos))
        self.queue_bytes += message.size

    def _next_id(self) -> int:
        # The window is far smaller than the numbers there are, so one is always free.
        packet_id = self._last_id
        while True:
            packet_id = packet_id + 1 if packet_id < _MAX_PACKET_ID else 1
            if packet_id not in self.inflight:
                self._last_id = packet_id
                return packet_id
