"""One application message on its way to any number of subscribers, encoded at most once per form."""

from broker.embedded.packets import encode_length


class Message:
    """A message is immutable once made. `topic` is UTF-8; `retain` is set only on a replay of what was retained.

    `front` is everything of a QoS 1 packet before its packet identifier; the payload follows that.
    """

    __slots__ = ("_front1", "_packet0", "payload", "qos", "retain", "size", "topic")

    def __init__(
        self, topic: bytes, payload: bytes, qos: int, *, retain: bool = False, front1: bytes | None = None
    ) -> None:
        self.topic = topic
        self.payload = payload
        self.qos = qos
        self.retain = retain
        # What it costs to keep: the bytes, and roughly the objects around them.
        self.size = len(topic) + len(payload) + 200
        self._front1 = front1
        self._packet0: bytes | None = None

    def packet0(self) -> bytes:
        """The whole packet at QoS 0."""
        if self._packet0 is None:
            head = b"\x31" if self.retain else b"\x30"
            length = encode_length(2 + len(self.topic) + len(self.payload))
            topic_length = len(self.topic).to_bytes(2, "big")
            self._packet0 = b"".join((head, length, topic_length, self.topic, self.payload))
        return self._packet0

    def front(self, qos: int, *, dup: bool = False) -> bytes:
        """The packet at QoS 1 or 2 up to its packet identifier."""
        if qos == 1 and not dup and self._front1 is not None:
            return self._front1
        head = 0x30 | qos << 1 | (8 if dup else 0) | self.retain
        length = encode_length(4 + len(self.topic) + len(self.payload))
        front = b"".join((bytes((head,)), length, len(self.topic).to_bytes(2, "big"), self.topic))
        if qos == 1 and not dup:
            self._front1 = front
        return front
