"""How much one device may say: who floods or sends garbage is quarantined, so that the others are heard.

Kept in memory, by handle; `hub.quarantines` has the rows that people see. What it is given as `now` is monotonic.
"""

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

Reason = Literal["flood", "garbage"]

# A message counts once, and once more for each of these bytes.
BYTES_PER_COUNT: Final = 8_192
# Presence must stay right of those in quarantine too, at this pace. What `state` says is heard at any pace: it may be a
# Will.
_LIFE: Final = frozenset({"state", "hello", "heartbeat"})
LIFE_EVERY_S: Final = 1.0
# Who is quarantined again soon after it was let go stays twice as long, up to this.
LONGEST_CALM_S: Final = 3_600.0
# Of handles that say nothing any more nothing is kept.
_FORGET_EVERY_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Limits:
    """`per_second` for as long as it likes, `at_once` on top of that; `garbage_per_minute` refused as malformed.

    `calm_s`: how long it has to be calm until it is let go.
    """

    per_second: float = 500.0
    at_once: float = 30_000.0
    garbage_per_minute: float = 120.0
    calm_s: float = 60.0


@dataclass(slots=True)
class _Meter:
    """Two buckets that leak: all messages, and those that were garbage."""

    at: float
    level: float = 0.0
    garbage: float = 0.0
    garbage_at: float = 0.0


@dataclass(slots=True)
class Held:
    """A device in quarantine; `set_aside` counts since it was last asked for, `until` is monotonic."""

    handle: str
    reason: Reason
    until: float
    calm_s: float
    set_aside: int = 0
    last_topic: str = ""
    last_life: float = 0.0
    is_new: bool = True


class Gate:
    """Asked by the thread that hears, told by the one that stores, looked after by a third."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._lock = threading.Lock()
        self._meters: dict[str, _Meter] = {}
        self._held: dict[str, Held] = {}
        self._let_go: dict[str, tuple[float, float]] = {}
        self._forgot_at = 0.0

    def admits(self, handle: str, kind: str, topic: str, size: int, now: float) -> bool:
        """Whether this message is taken in; one that is not is counted."""
        limits = self._limits
        with self._lock:
            meter = self._meters.get(handle)
            if meter is None:
                meter = self._meters[handle] = _Meter(now)
            level = meter.level - (now - meter.at) * limits.per_second
            meter.level = (level if level > 0 else 0.0) + 1 + size // BYTES_PER_COUNT
            meter.at = now
            held = self._held.get(handle)
            if held is None:
                if meter.level <= limits.at_once:
                    return True
                held = self._hold(handle, "flood", now)
            elif meter.level > limits.per_second:
                held.until = now + held.calm_s  # more than a second's worth at once: it has not calmed down
            meter.level = min(meter.level, 2 * limits.per_second)
            if kind == "state":
                return True
            if kind in _LIFE and now - held.last_life >= LIFE_EVERY_S:
                held.last_life = now
                return True
            held.set_aside += 1
            held.last_topic = topic
            return False

    def garbage(self, counts: Mapping[str, int], now: float) -> None:
        """So many messages of these handles were malformed, or could not be stored."""
        limits = self._limits
        with self._lock:
            for handle, count in counts.items():
                meter = self._meters.setdefault(handle, _Meter(now))
                left = meter.garbage - (now - meter.garbage_at) * limits.garbage_per_minute / 60
                meter.garbage, meter.garbage_at = max(0.0, left) + count, now
                if meter.garbage > limits.garbage_per_minute and handle not in self._held:
                    self._hold(handle, "garbage", now)

    def look(self, now: float) -> tuple[list[Held], list[str]]:
        """Those in quarantine, as copies with what was set aside since the last look; and those just let go."""
        with self._lock:
            over = [handle for handle, held in self._held.items() if now >= held.until]
            for handle in over:
                self._release(handle, now)
            held_now = []
            for held in self._held.values():
                copy = Held(
                    held.handle,
                    held.reason,
                    held.until,
                    held.calm_s,
                    held.set_aside,
                    held.last_topic,
                    is_new=held.is_new,
                )
                held.set_aside, held.last_topic, held.is_new = 0, "", False
                held_now.append(copy)
            if now - self._forgot_at > _FORGET_EVERY_S:
                self._forgot_at = now
                self._forget(now)
        return held_now, over

    def release(self, handles: Iterable[str], now: float) -> None:
        """Somebody let these go; they begin anew."""
        with self._lock:
            for handle in handles:
                if handle in self._held:
                    self._release(handle, now)
                    self._let_go.pop(handle, None)

    def restore(self, handle: str, reason: Reason, for_s: float, now: float) -> None:
        """It was in quarantine already, with an earlier hub."""
        with self._lock:
            self._held[handle] = Held(handle, reason, now + for_s, self._limits.calm_s, is_new=False)

    def _hold(self, handle: str, reason: Reason, now: float) -> Held:
        calm_s = self._limits.calm_s
        if handle in self._let_go:
            at, before = self._let_go[handle]
            if now - at < 2 * before:
                calm_s = min(2 * before, max(calm_s, LONGEST_CALM_S))
        held = self._held[handle] = Held(handle, reason, now + calm_s, calm_s)
        return held

    def _release(self, handle: str, now: float) -> None:
        held = self._held.pop(handle)
        self._let_go[handle] = (now, held.calm_s)
        self._meters.pop(handle, None)

    def _forget(self, now: float) -> None:
        limits = self._limits
        still = {
            handle: meter
            for handle, meter in self._meters.items()
            if meter.level > (now - meter.at) * limits.per_second
            or meter.garbage > (now - meter.garbage_at) * limits.garbage_per_minute / 60
        }
        self._meters = still
        self._let_go = {handle: (at, calm) for handle, (at, calm) in self._let_go.items() if now - at < 2 * calm}
