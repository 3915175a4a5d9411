"""Keeps one address from taking the broker for itself: connections at a time, CONNECTs, and wrong secrets."""

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable
from functools import lru_cache
from typing import Final, TypeVar

from broker.embedded.limits import UNBOUNDED, Bounds

# A rate is exceeded for short: so many seconds' worth of it may come at once.
_BURST_S: Final = 10.0
_MINUTE_S: Final = 60.0
# Addresses and known clients that are remembered; the one that was quiet longest is forgotten first.
MOST_REMEMBERED: Final = 20_000

K = TypeVar("K")


class Bucket:
    """So many tokens at most, which come back at a rate; `left` may be negative: then it is a debt."""

    __slots__ = ("at", "left")

    def __init__(self, most: float, now: float) -> None:
        self.left = most
        self.at = now

    def refill(self, rate: float, most: float, now: float) -> float:
        """What is there now."""
        self.left = min(most, self.left + (now - self.at) * rate)
        self.at = now
        return self.left


class Guard:
    """Counts by address; IPv6 by its /64, for that is what one subscriber is given. Loopback is an address like others.

    Behind a proxy many come from one address, the hub perhaps among them. So who came in once from an address with a
    right secret has failures of its own there, and those of its neighbours do not keep it out.
    """

    def __init__(self, bounds: Bounds = UNBOUNDED, clock: Callable[[], float] = time.monotonic) -> None:
        self._bounds = bounds
        self._clock = clock
        self._open: dict[str, int] = {}
        self._total = 0
        self._connects: OrderedDict[str, Bucket] = OrderedDict()
        self._failures: OrderedDict[tuple[str, str], Bucket] = OrderedDict()
        self._known: OrderedDict[tuple[str, str], None] = OrderedDict()

    def opened(self, address: str) -> str:
        """Count one more connection of this address; "" or, uncounted, why there may not be one more."""
        key = network(address)
        count = self._open.get(key, 0)
        most = self._bounds.connections_per_address
        if most and count >= most:
            return f"more than {most} connections from {key}"
        if self._bounds.connections and self._total >= self._bounds.connections:
            return f"more than {self._bounds.connections} connections in all: the broker has no more descriptors"
        self._total += 1
        self._open[key] = count + 1
        return ""

    def closed(self, address: str) -> None:
        """One connection that was counted is gone."""
        key = network(address)
        self._total -= 1
        count = self._open.get(key, 0) - 1
        if count > 0:
            self._open[key] = count
        else:
            self._open.pop(key, None)

    def connects(self, address: str, username: str) -> str:
        """Count a CONNECT; "" or why it must wait, whatever secret it brings."""
        key, now = network(address), self._clock()
        rate = self._bounds.connects_per_second
        if rate:
            bucket = _remembered(self._connects, key, rate * _BURST_S, now)
            if bucket.refill(rate, rate * _BURST_S, now) < 1:
                return f"more than {rate} CONNECTs per second from {key}"
            bucket.left -= 1
        most = self._bounds.failures_per_minute
        failed = self._failures.get(self._who(key, username)) if most else None
        if failed is not None and failed.refill(most / _MINUTE_S, most, now) < 1:
            return f"more than {most} wrong passwords per minute from {key}"
        return ""

    def failed(self, address: str, username: str) -> None:
        """The secret was wrong."""
        key, now = network(address), self._clock()
        most = self._bounds.failures_per_minute
        if most:
            bucket = _remembered(self._failures, self._who(key, username), most, now)
            bucket.refill(most / _MINUTE_S, most, now)
            bucket.left -= 1

    def succeeded(self, address: str, username: str) -> None:
        """The secret was right."""
        who = (network(address), username)
        self._known[who] = None
        self._known.move_to_end(who)
        if len(self._known) > MOST_REMEMBERED:
            self._known.popitem(last=False)

    def _who(self, key: str, username: str) -> tuple[str, str]:
        """Whose failures count: a known client's own, or those of all strangers of the address together."""
        return (key, username) if (key, username) in self._known else (key, "")


def _remembered(buckets: OrderedDict[K, Bucket], key: K, most: float, now: float) -> Bucket:
    bucket = buckets.get(key)
    if bucket is None:
        bucket = buckets[key] = Bucket(most, now)
        if len(buckets) > MOST_REMEMBERED:
            buckets.popitem(last=False)
    else:
        buckets.move_to_end(key)
    return bucket


@lru_cache(maxsize=10_000)
def network(address: str) -> str:
    """What stands for everybody behind an address: an IPv4 address, or the /64 of an IPv6 one."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is None:
            return str(ipaddress.ip_network((parsed, 64), strict=False))
        parsed = parsed.ipv4_mapped
    return str(parsed)
