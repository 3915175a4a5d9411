"""Down-sampling: samples condensed to minutes and hours, as often as needed and always to the same result."""

from datetime import datetime
from typing import Final

from sqlalchemy import text
from sqlmodel import Session

from hub.telemetry import partitions
from hub.telemetry.tiers import HOURS, MINUTES, ORIGIN

# Hours of streams condensed in one transaction: as long may a batch of the inbox have to wait for one of them.
AT_ONCE: Final = 50

_TAKE: Final = (
    "DELETE FROM telemetry_stale WHERE (stream_id, hour) IN (SELECT stream_id, hour FROM telemetry_stale"
    " ORDER BY hour, stream_id LIMIT :limit FOR UPDATE SKIP LOCKED) RETURNING stream_id, hour"
)
_ANEW: Final = (
    " ON CONFLICT (stream_id, at) DO UPDATE SET min = excluded.min, max = excluded.max, sum = excluded.sum,"
    " count = excluded.count, last = excluded.last"
)
_OF_HOURS: Final = (
    " FROM unnest(CAST(:ids AS integer[]), CAST(:hours AS timestamptz[])) AS h (stream_id, hour) JOIN {table} AS s"
    " ON s.stream_id = h.stream_id AND s.at >= h.hour AND s.at < h.hour + interval '1 hour' GROUP BY 1, 2"
)
_TO_MINUTES: Final = (
    "INSERT INTO telemetry_minutes (stream_id, at, min, max, sum, count, last) SELECT s.stream_id,"
    " date_bin('1 minute', s.at, :origin), min(s.value), max(s.value), sum(s.value), count(*),"
    " (array_agg(s.value ORDER BY s.at DESC))[1]" + _OF_HOURS.format(table="telemetry_samples") + _ANEW
)
_TO_HOURS: Final = (
    "INSERT INTO telemetry_hours (stream_id, at, min, max, sum, count, last) SELECT s.stream_id, h.hour, min(s.min),"
    " max(s.max), sum(s.sum), sum(s.count)::bigint, (array_agg(s.last ORDER BY s.at DESC))[1]"
    + _OF_HOURS.format(table="telemetry_minutes")
    + _ANEW
)


def downsample(session: Session, limit: int = AT_ONCE) -> int:
    """Condense hours that have got samples since they last were, oldest first; returns how many.

    An hour to which samples are being added at this moment is left for the next time. Always from what is stored, so a
    repetition changes nothing and a late sample is counted. What has no samples any more keeps its minutes and hours.
    """
    taken = session.execute(text(_TAKE), {"limit": limit}).all()
    if not taken:
        return 0
    hours: list[datetime] = [row.hour for row in taken]
    for tier in (MINUTES, HOURS):
        partitions.ensure(session, tier, {tier.partition(hour) for hour in hours})
    given = {"ids": [row.stream_id for row in taken], "hours": hours}
    # Statements of their own: they see what was committed until the rows above were locked.
    session.execute(text(_TO_MINUTES), given | {"origin": ORIGIN})
    session.execute(text(_TO_HOURS), given)
    return len(taken)
