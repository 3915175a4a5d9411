"""How fast one client may send: whoever is faster is read more slowly, and nothing of it is lost."""

from typing import Final

from broker.embedded.guard import Bucket
from broker.embedded.limits import Bounds

# So much of a second's worth may come at once, after silence.
_BURST_S: Final = 2.0


class Pace:
    """Tokens for messages and for bytes. A chunk that was read is paid for afterwards, if need be with a debt."""

    __slots__ = ("_bytes", "_bytes_per_s", "_messages", "_messages_per_s", "held")

    def __init__(self, bounds: Bounds, now: float) -> None:
        self._messages_per_s = bounds.messages_per_second
        self._bytes_per_s = bounds.bytes_per_second
        self._messages = Bucket(self._messages_per_s * _BURST_S, now)
        self._bytes = Bucket(self._bytes_per_s * _BURST_S, now)
        # Whether it was ever made to wait.
        self.held = False

    @property
    def rule(self) -> str:
        """What it is held to, for people."""
        return f"{self._messages_per_s:,} messages or {self._bytes_per_s:,} bytes per second"

    def take(self, messages: int, length: int, now: float) -> float:
        """Pay for what was read; returns for how many seconds nothing more should be."""
        count, size = self._messages_per_s, self._bytes_per_s
        left = self._messages.refill(count, count * _BURST_S, now) - messages
        room = self._bytes.refill(size, size * _BURST_S, now) - length
        self._messages.left, self._bytes.left = left, room
        if left >= 0 and room >= 0:
            return 0.0
        return max(-left / count, -room / size)
