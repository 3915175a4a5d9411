"""How fast the HTTP interface may be used: so many requests a minute for each caller, so many wrong tokens an address.

Counted in this process: where several serve one hub, each allows as much.
"""

import hashlib
import time
from collections import OrderedDict
from threading import Lock
from typing import Final

from limits import RateLimitItem, RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from hub.brakes import address_key
from hub.errors import Throttled
from hub.settings import Settings

_NOBODY: Final = "address:unknown"
_MOST_GOOD: Final = 10_000


class Pace:
    """The counters of one process."""

    def __init__(self, settings: Settings) -> None:
        self._limiter = MovingWindowRateLimiter(MemoryStorage())
        self._requests = RateLimitItemPerMinute(settings.http_requests_per_minute)
        self._failures = RateLimitItemPerMinute(settings.http_failures_per_minute)
        self._good: OrderedDict[bytes, None] = OrderedDict()
        self._lock = Lock()

    def take(self, caller: str) -> None:
        """Count a request; raises `Throttled` with the seconds to wait when there were too many."""
        if not self._limiter.hit(self._requests, caller):
            most = self._requests.amount
            raise Throttled(f"at most {most} requests a minute", retry_after_s=self._wait_s(self._requests, caller))

    def failed(self, address: str, token: str, *, is_known: bool) -> None:
        """Count a wrong token to its address; a right one whose bearer is not let in (`is_known`) to itself."""
        digest = _digest(token)
        with self._lock:
            self._good.pop(digest, None)
        if is_known:
            self.take(f"refused:{digest.hex()}")
        else:
            self._limiter.hit(self._failures, address_key(address) or _NOBODY)

    def succeeded(self, token: str) -> None:
        """Remember one that was right: behind one address there may be a whole home, and one guesser in it."""
        digest = _digest(token)
        with self._lock:
            self._good[digest] = None
            self._good.move_to_end(digest)
            if len(self._good) > _MOST_GOOD:
                self._good.popitem(last=False)

    def check_failures(self, address: str, token: str) -> None:
        """Raise `Throttled` when too many wrong tokens came from there, unless this one was right before."""
        key = address_key(address) or _NOBODY
        if _digest(token) in self._good:
            return
        if not self._limiter.test(self._failures, key):
            raise Throttled("too many wrong tokens came from here", retry_after_s=self._wait_s(self._failures, key))

    def _wait_s(self, item: RateLimitItem, key: str) -> float:
        return max(1.0, self._limiter.get_window_stats(item, key).reset_time - time.time())


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode(errors="replace")).digest()
