"""What the broker remembers of a client: its subscriptions, what it has not acknowledged, and what waits for it.

A session may outlive its connection. All changes to it go through the methods here.
"""

import asyncio
import uuid
from collections import deque
from typing import Final, Protocol

from broker.embedded.limits import LIMITS, Limits
from broker.embedded.message import Message
from broker.embedded.store import Keeper, StoredSession
from hub.access import decide
from hub.access.principals import Principal

_MAX_PACKET_ID: Final = 65_535


class Wire(Protocol):
    """What a session needs of its connection: to write, and to know what waits there already."""

    out_bytes: int

    def send(self, data: bytes) -> None: ...


class Sharing(Protocol):
    """A shared subscription that chose this session for a message and can choose another."""

    def give(self, message: Message) -> None: ...


# A message on its way to one client, the QoS it is sent with, its number in the store (0: it is not kept there), and
# the shared subscription by which it came.
Entry = tuple[Message, int, int, Sharing | None]


class Session:
    """One client's session. `connection` is None while the client is away.

    `inflight` holds in the order of sending what was sent at QoS 1 or 2 and not acknowledged, or None once a QoS 2
    message is received and only its PUBCOMP is missing. `incoming` are the packet identifiers of QoS 2 messages that
    were taken and not yet released by the client. `expiry` is the timer of a credential that runs out, `absence` that
    of a client that stays away. `overflowed` counts what was dropped for want of room. With a `keeper` every change is
    written down.
    """

    __slots__ = (
        "_last_id",
        "absence",
        "connection",
        "credential_id",
        "expiry",
        "incoming",
        "inflight",
        "keeper",
        "limits",
        "overflowed",
        "persistent",
        "principal",
        "queue",
        "queue_bytes",
        "subscriptions",
        "username",
    )

    def __init__(
        self, principal: Principal, credential_id: uuid.UUID, *, persistent: bool, keeper: Keeper | None = None
    ) -> None:
        self.username = principal.username
        self.principal = principal
        self.credential_id = credential_id
        self.limits: Limits = LIMITS[principal.kind]
        self.persistent = persistent
        self.keeper = keeper
        self.connection: Wire | None = None
        self.subscriptions: dict[str, int] = {}
        self.inflight: dict[int, Entry | None] = {}
        self.queue: deque[Entry] = deque()
        self.queue_bytes = 0
        self.incoming: set[int] = set()
        self.overflowed = 0
        self.expiry: asyncio.TimerHandle | None = None
        self.absence: asyncio.TimerHandle | None = None
        self._last_id = 0

    def restore(self, stored: StoredSession) -> None:
        """Take over what the store found, except the subscriptions."""
        for number, packet_id, message, qos in stored.messages:
            if message is None:
                self.inflight[packet_id] = None
            elif packet_id:
                self.inflight[packet_id] = (message, qos, number, None)
            else:
                self.queue.append((message, qos, number, None))
                self.queue_bytes += message.size
            self._last_id = packet_id or self._last_id
        self.incoming |= stored.incoming

    def cancel_expiry(self) -> None:
        if self.expiry is not None:
            self.expiry.cancel()
            self.expiry = None

    def cancel_absence(self) -> None:
        if self.absence is not None:
            self.absence.cancel()
            self.absence = None

    def may_receive(self, topic: str) -> bool:
        return decide.receive(self.principal, topic).allowed

    def attach(self, connection: Wire) -> None:
        """The client is here again: what it has not acknowledged is sent again, in order, then what waited."""
        self.cancel_absence()
        self.connection = connection
        if self.keeper is not None:
            self.keeper.admitted(self.credential_id)
        for packet_id, sent in self.inflight.items():
            identifier = packet_id.to_bytes(2, "big")
            if sent is None:
                connection.send(b"\x62\x02" + identifier)
            else:
                message, qos, _, _ = sent
                connection.send(b"".join((message.front(qos, dup=True), identifier, message.payload)))
        self.pump()

    def detach(self) -> None:
        self.connection = None
        if self.keeper is not None:
            self.keeper.left()

    def forget_unreadable(self) -> list[tuple[Sharing, Message]]:
        """Drop what waits or is unacknowledged on topics that the client may no longer read.

        Returns what of it another member of a shared subscription may have.
        """
        readable: dict[bytes, bool] = {}

        def keep(message: Message) -> bool:
            if message.topic not in readable:
                readable[message.topic] = self.may_receive(message.topic.decode())
            return readable[message.topic]

        flying = [(i, sent) for i, sent in self.inflight.items() if sent is not None and not keep(sent[0])]
        waiting = [entry for entry in self.queue if not keep(entry[0])]
        for packet_id, _ in flying:
            del self.inflight[packet_id]
        if self.keeper is not None:
            for _, _, number, _ in [*(sent for _, sent in flying), *waiting]:
                self.keeper.acknowledged(number)
        self.queue = deque(entry for entry in self.queue if keep(entry[0]))
        self.queue_bytes = sum(entry[0].size for entry in self.queue)
        # What went made room in the window, and no acknowledgement will come for it.
        self.pump()
        unread = [*(sent for _, sent in flying if sent[1] == 1), *waiting]
        return [(sharing, message) for message, _, _, sharing in unread if sharing is not None]

    def end(self) -> list[tuple[Sharing, Message]]:
        """The session is over: nothing of it is kept; returns what another member of a shared subscription may have.

        A QoS 2 message that was sent is not among that: its client may have it already.
        """
        self.cancel_expiry()
        self.cancel_absence()
        if self.keeper is not None:
            for packet_id, sent in self.inflight.items():
                if sent is None:
                    self.keeper.completed(packet_id)
                else:
                    self.keeper.acknowledged(sent[2])
            for waiting in self.queue:
                self.keeper.acknowledged(waiting[2])
            for packet_id in self.incoming:
                self.keeper.released(packet_id)
            self.keeper.ended()
        unread = [sent for sent in self.inflight.values() if sent is not None and sent[1] == 1]
        return [(sharing, message) for message, _, _, sharing in [*unread, *self.queue] if sharing is not None]

    def deliver(self, message: Message, granted: int, sharing: Sharing | None = None) -> None:
        """Send a message at the lower of its QoS and the granted one, or keep it until it can be sent."""
        qos = min(granted, message.qos)
        connection = self.connection
        if connection is None:
            if qos:
                self._enqueue(message, qos, self.limits.queue_messages, sharing)
        elif not qos:
            if self.queue:
                # Behind what waits, so that a topic keeps its order; but it may not take the room of what must arrive.
                self._enqueue(message, 0, self.limits.queue_messages // 2, sharing)
            elif connection.out_bytes > self.limits.out_bytes:
                self.overflowed += 1
            else:
                connection.send(message.packet0())
        elif self.queue or len(self.inflight) >= self.limits.window or connection.out_bytes > self.limits.out_bytes:
            self._enqueue(message, qos, self.limits.queue_messages, sharing)
        else:
            packet_id = self._next_id()
            number = 0 if self.keeper is None else self.keeper.queued(message, qos, packet_id)
            self.inflight[packet_id] = (message, qos, number, sharing)
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

    def take(self, packet_id: int) -> bool:
        """A QoS 2 message of the client's; False when it is a repeat of one that was taken already (4.3.3-2)."""
        if packet_id in self.incoming:
            return False
        self.incoming.add(packet_id)
        if self.keeper is not None:
            self.keeper.took(packet_id)
        return True

    def release(self, packet_id: int) -> None:
        """PUBREL."""
        if packet_id in self.incoming:
            self.incoming.remove(packet_id)
            if self.keeper is not None:
                self.keeper.released(packet_id)

    def acknowledge(self, packet_id: int) -> None:
        """PUBACK."""
        sent = self.inflight.get(packet_id)
        if sent is not None and sent[1] == 1:
            del self.inflight[packet_id]
            if self.keeper is not None:
                self.keeper.acknowledged(sent[2])
            if self.queue:
                self.pump()

    def received(self, packet_id: int) -> bytes:
        """PUBREC: the message is the client's now. Returns the PUBREL."""
        sent = self.inflight.get(packet_id)
        if sent is not None and sent[1] == 2:
            self.inflight[packet_id] = None
            if self.keeper is not None:
                self.keeper.received(sent[2], packet_id)
        return b"\x62\x02" + packet_id.to_bytes(2, "big")

    def complete(self, packet_id: int) -> None:
        """PUBCOMP."""
        if packet_id in self.inflight and self.inflight[packet_id] is None:
            del self.inflight[packet_id]
            if self.keeper is not None:
                self.keeper.completed(packet_id)
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
            entry = queue[0]
            message, qos, number, _ = entry
            if qos and len(self.inflight) >= window:
                return
            queue.popleft()
            self.queue_bytes -= message.size
            if not qos:
                connection.send(message.packet0())
                continue
            packet_id = self._next_id()
            self.inflight[packet_id] = entry
            if self.keeper is not None:
                self.keeper.sent(number, packet_id)
            connection.send(b"".join((message.front(qos), packet_id.to_bytes(2, "big"), message.payload)))

    def _enqueue(self, message: Message, qos: int, most: int, sharing: Sharing | None) -> None:
        if len(self.queue) >= most or self.queue_bytes + message.size > self.limits.queue_bytes:
            self.overflowed += 1
            return
        number = 0 if self.keeper is None or not qos else self.keeper.queued(message, qos)
        self.queue.append((message, qos, number, sharing))
        self.queue_bytes += message.size

    def _next_id(self) -> int:
        # The window is far smaller than the numbers there are, so one is always free.
        packet_id = self._last_id
        while True:
            packet_id = packet_id + 1 if packet_id < _MAX_PACKET_ID else 1
            if packet_id not in self.inflight:
                self._last_id = packet_id
                return packet_id
