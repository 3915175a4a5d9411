"""A stream over time: at most so many points, each with the least, the greatest and the mean of its time."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import text
from sqlmodel import Session

from hub.errors import Invalid
from hub.telemetry.streams import StreamView
from hub.telemetry.tiers import ORIGIN, RAW, Tier, choose

POINTS_MAX: Final = 1_000
LONGEST: Final = timedelta(days=10 * 366)
_BUCKET: Final = "date_bin(CAST(:bucket AS interval), at, :origin)"
# Of raw samples a point bears the time of its last one: what is alone in its bucket stands where it was measured.
_OF_RAW: Final = "max(at) AS at, min(value), max(value), sum(value), count(*), (array_agg(value ORDER BY at DESC))[1]"
_OF_ROLLUPS: Final = f"{_BUCKET} AS at, min(min), max(max), sum(sum), sum(count), (array_agg(last ORDER BY at DESC))[1]"


@dataclass(frozen=True, slots=True)
class Point:
    """All samples of one stretch of time."""

    at: datetime
    min: float
    max: float
    mean: float
    count: int
    last: float


@dataclass(frozen=True, slots=True)
class Series:
    """Points, oldest first; those that have no samples are missing. `bucket` is how long each one lasts."""

    tier: Tier
    bucket: timedelta
    points: list[Point]


def series(
    session: Session, stream: StreamView, since: datetime, until: datetime, points: int, now: datetime
) -> Series:
    """The stream from `since` until before `until`; raises `Invalid` for a bad span or number of points."""
    check_span(since, until)
    if not 2 <= points <= POINTS_MAX:
        raise Invalid(f"is 2 to {POINTS_MAX}", field="points")
    tier, bucket = choose(since, until, points, now)
    rows = session.execute(
        text(
            f"SELECT {_OF_RAW if tier is RAW else _OF_ROLLUPS} FROM {tier.table} WHERE stream_id = :id"
            f" AND at >= :since AND at < :until GROUP BY {_BUCKET} ORDER BY 1"
        ),
        {"id": stream.stream_id, "since": since, "until": until, "bucket": bucket, "origin": ORIGIN},
    )
    return Series(tier, bucket, [_point(row) for row in rows])


def check_span(since: datetime, until: datetime) -> None:
    """Raise `Invalid` for a span that is empty or too long."""
    if since >= until:
        raise Invalid("must be earlier than `until`", field="since")
    if until - since > LONGEST:
        raise Invalid(f"is at most {LONGEST.days} days before `until`", field="since")


def _point(row: Any) -> Point:
    at, low, high, total, count, last = row
    # The sum of many rounded values can lie a hair outside; a mean never does.
    return Point(at, low, high, min(max(total / int(count), low), high), int(count), last)
