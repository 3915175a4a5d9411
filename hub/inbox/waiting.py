"""What has arrived and is not stored yet: bounded in number and in bytes, whatever arrives."""

import threading
import time
from collections import deque
from typing import Final

from hub.inbox.envelope import Incoming

# Together what a hub of a home can spare while Postgres is away.
MESSAGES_MAX: Final = 50_000
BYTES_MAX: Final = 64 * 1024**2
# Beyond this share of either bound what came unasked (QoS 0) is dropped; signs of life have more room than samples.
_SAMPLES_SHARE: Final = 0.5
_LIFE_SHARE: Final = 0.9
# Where so many wait already, none waits for more company.
COMPANY: Final = 500
# What a message costs beside its payload: its object, its topic and its time.
OVERHEAD: Final = 512


class Waiting:
    """A queue between the thread that hears and the one that stores.

    QoS 0 is dropped when it is nearly full. QoS 1 is never dropped: where the broker sends more of it than fits, its
    thread waits here, and so the broker has to.
    """

    def __init__(self, messages_max: int = MESSAGES_MAX, bytes_max: int = BYTES_MAX) -> None:
        self._messages_max = messages_max
        self._bytes_max = bytes_max
        self._waiting: deque[Incoming] = deque()
        self._lock = threading.Lock()
        self._came = threading.Condition(self._lock)
        self._room = threading.Condition(self._lock)
        self._bytes = 0
        self._is_closed = False
        # When the last batch was taken, and how long after that the most urgent of those that wait may wait.
        self._took_at = 0.0
        self._patience_s = 0.0

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def bytes(self) -> int:
        """What waits, in bytes, with what it costs to keep it."""
        return self._bytes

    def put(self, incoming: Incoming, *, is_life: bool = False, patience_s: float = 0.0) -> bool:
        """Take a message in; False when it was dropped: QoS 0 where room is short, anything once closed.

        `patience_s`: so long after the batch before it may wait for company. When nothing came lately, nothing waits.
        """
        size = len(incoming.payload) + OVERHEAD
        with self._lock:
            if incoming.delivery[2] == 0:
                share = _LIFE_SHARE if is_life else _SAMPLES_SHARE
                if (
                    len(self._waiting) >= self._messages_max * share
                    or self._bytes + size > self._bytes_max * share
                    or self._is_closed
                ):
                    return False
            else:
                while not self._is_closed and self._waiting and not self._fits(size):
                    self._room.wait()
                if self._is_closed:
                    return False
            is_first = not self._waiting
            self._waiting.append(incoming)
            self._bytes += size
            # Who waits for company is woken only when that changes anything.
            if is_first or patience_s < self._patience_s or len(self._waiting) == COMPANY:
                self._patience_s = patience_s if is_first else min(patience_s, self._patience_s)
                self._came.notify()
        return True

    def take(self, messages_max: int, bytes_max: int, timeout_s: float) -> list[Incoming]:
        """What has come, oldest first, up to both bounds but at least one; [] when nothing comes in `timeout_s`."""
        with self._lock:
            if not self._waiting and not self._came.wait_for(lambda: self._waiting, timeout_s):
                return []
            while len(self._waiting) < COMPANY and not self._is_closed:
                left = self._took_at + self._patience_s - time.monotonic()
                if left <= 0:
                    break
                self._came.wait(left)
            self._took_at, self._patience_s = time.monotonic(), 0.0
            batch: list[Incoming] = []
            size = 0
            while self._waiting and len(batch) < messages_max:
                size += len(self._waiting[0].payload) + OVERHEAD
                if batch and size > bytes_max:
                    break
                batch.append(self._waiting.popleft())
                self._bytes -= len(batch[-1].payload) + OVERHEAD
            self._room.notify_all()
        return batch

    def close(self) -> None:
        """Nothing is taken in any more; whoever waits for room goes on."""
        with self._lock:
            self._is_closed = True
            self._room.notify_all()
            self._came.notify_all()

    def _fits(self, size: int) -> bool:
        return len(self._waiting) < self._messages_max and self._bytes + size <= self._bytes_max
