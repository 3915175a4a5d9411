"""How telemetry ages: raw samples for days, minutes for months, hours for years; and which of them to ask."""

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Literal

# A Monday, from which all partitions and buckets are counted.
ORIGIN: Final = datetime(2024, 1, 1, tzinfo=UTC)
# A sample this much older than the hub's clock is refused, and so is one this much ahead.
OLDEST: Final = timedelta(days=7)
FURTHEST_AHEAD: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Partition:
    """A table that holds what lies from `since` until before `until`."""

    name: str
    since: datetime
    until: datetime


@dataclass(frozen=True, slots=True)
class Tier:
    """One table of the three: `bucket` is how long one row lasts (zero: a sample), `width` how long a partition."""

    name: Literal["raw", "minutes", "hours"]
    table: str
    bucket: timedelta
    width: timedelta
    kept: timedelta

    def partition(self, at: datetime) -> Partition:
        """The partition that a time falls into."""
        return self._partition(ORIGIN + (at - ORIGIN) // self.width * self.width)

    def partitions(self, since: datetime, until: datetime) -> list[Partition]:
        """Those that cover this span."""
        first = self.partition(since)
        found = [first]
        while found[-1].until <= until:
            found.append(self._partition(found[-1].until))
        return found

    def named(self, name: str) -> Partition | None:
        """The partition of this name; None for a name that is none of this tier's."""
        try:
            since = datetime.strptime(name.removeprefix(f"{self.table}_"), "%Y%m%d").replace(tzinfo=UTC)
        except ValueError:
            return None
        return self._partition(since)

    def _partition(self, since: datetime) -> Partition:
        return Partition(f"{self.table}_{since:%Y%m%d}", since, since + self.width)


RAW: Final = Tier("raw", "telemetry_samples", timedelta(), timedelta(days=1), OLDEST)
MINUTES: Final = Tier("minutes", "telemetry_minutes", timedelta(minutes=1), timedelta(weeks=1), timedelta(days=90))
HOURS: Final = Tier("hours", "telemetry_hours", timedelta(hours=1), timedelta(weeks=52), timedelta(days=5 * 366))
TIERS: Final = {tier.name: tier for tier in (RAW, MINUTES, HOURS)}


def choose(since: datetime, until: datetime, points: int, now: datetime) -> tuple[Tier, timedelta]:
    """The tier for a series of at most `points` points, and how long each of them lasts.

    The finest that still reaches back to `since` and whose rows are no finer than they can be shown.
    """
    # One point less, for buckets begin at fixed times and the span need not.
    wanted = (until - since) / max(points - 1, 1)
    if wanted < MINUTES.bucket and since >= now - RAW.kept:
        return RAW, timedelta(milliseconds=max(1, math.ceil(wanted / timedelta(milliseconds=1))))
    tier = MINUTES if wanted < HOURS.bucket and since >= now - MINUTES.kept else HOURS
    return tier, max(1, math.ceil(wanted / tier.bucket)) * tier.bucket


def hour_of(at: datetime) -> datetime:
    """The hour that a time falls into."""
    return ORIGIN + (at - ORIGIN) // HOURS.bucket * HOURS.bucket
