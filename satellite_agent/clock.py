"""The hub's time, as far as this device knows it: a device whose own clock is wrong still keeps deadlines."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Final

# Below this the difference is the way through the network rather than a wrong clock.
TOLERANCE: Final = timedelta(seconds=2)


class Clock:
    """Tells UTC: the device's own clock, or the hub's when the two disagree by more than two seconds."""

    def __init__(self) -> None:
        self._known = asyncio.Event()
        self._hub_now: datetime | None = None
        self._learned_at = 0.0
        self.ahead: timedelta | None = None

    def learn(self, hub_now: datetime) -> timedelta:
        """Take over the time of a `welcome`; returns how far ahead of the hub this device's clock is."""
        ahead = self.ahead = datetime.now(UTC) - hub_now
        # Counted on from here by a clock that nobody sets, so that a later correction of the wall clock does no harm.
        self._hub_now = hub_now if abs(ahead) > TOLERANCE else None
        self._learned_at = _ticks()
        self._known.set()
        return ahead

    def now(self) -> datetime:
        if self._hub_now is None:
            return datetime.now(UTC)
        return self._hub_now + timedelta(seconds=_ticks() - self._learned_at)

    @staticmethod
    def ticks() -> float:
        """Seconds of a clock that nobody sets and that goes on while the machine sleeps."""
        return _ticks()

    @property
    def is_known(self) -> bool:
        return self._known.is_set()

    async def known(self, timeout_s: float) -> bool:
        """Wait until the hub has told the time; False when it did not in that time."""
        try:
            async with asyncio.timeout(timeout_s):
                return await self._known.wait()
        except TimeoutError:
            return False


def _ticks() -> float:
    # Linux's boot-time clock goes on while the machine sleeps.
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
