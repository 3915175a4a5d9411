"""Who published what during the last day, counted per hour: an edit of access is held against it before it is saved."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import text
from sqlmodel import Session

# A device may publish to ever new topics: what goes beyond is counted under the topic "".
MOST_TOPICS: Final = 200
# Longer ones do not fit the index; they are counted under "" too.
MOST_TOPIC_BYTES: Final = 1_024
DAY: Final = timedelta(hours=24)

_GIVEN: Final = (
    "unnest(CAST(:principals AS text[]), CAST(:topics AS text[]), CAST(:counts AS bigint[])) AS g (principal, topic, n)"
)


def record(session: Session, counts: Mapping[tuple[str, str], int], now: datetime) -> None:
    """Add messages counted by (principal, whole topic) to the rows of this hour: at most `MOST_TOPICS` + 1 for each."""
    given: Counter[tuple[str, str]] = Counter()
    for (principal, topic), count in counts.items():
        if count > 0 and principal and _storable(principal):
            given[principal, topic if _storable(topic) else ""] += count
    if not given:
        return
    # One writer at a time, so that the bound holds and two of them cannot block each other.
    session.execute(text("SELECT pg_advisory_xact_lock(hashtextextended('marvain: traffic', 0))"))
    hour = now.replace(minute=0, second=0, microsecond=0)
    known = session.execute(
        text(
            "UPDATE traffic t SET count = t.count + g.n, last_at = greatest(t.last_at, :now)"
            f" FROM {_GIVEN} WHERE t.hour = :hour AND t.principal = g.principal AND t.topic = g.topic"
            " RETURNING t.principal, t.topic"
        ),
        {"hour": hour, "now": now, **_columns(given)},
    )
    for row in known:
        del given[row.principal, row.topic]
    if not given:
        return
    session.execute(
        text(
            "INSERT INTO traffic (hour, principal, topic, count, last_at)"
            f" SELECT :hour, g.principal, g.topic, g.n, :now FROM {_GIVEN}"
            " ON CONFLICT (hour, principal, topic) DO UPDATE"
            " SET count = traffic.count + excluded.count, last_at = greatest(traffic.last_at, excluded.last_at)"
        ),
        {"hour": hour, "now": now, **_columns(_bounded(session, given, hour))},
    )


def of_day(session: Session, usernames: Sequence[str], now: datetime) -> dict[tuple[str, str], tuple[int, datetime]]:
    """What these principals published in the last 24 hours: (principal, topic) → (messages, the last one's time).

    The topic "" stands for all messages whose topics were not kept.
    """
    rows = session.execute(
        text(
            "SELECT principal, topic, sum(count)::bigint AS messages, max(last_at) AS last_at FROM traffic"
            " WHERE principal = ANY(:usernames) AND hour > :before AND last_at > :since GROUP BY principal, topic"
        ),
        {"usernames": list(usernames), "before": now - DAY - timedelta(hours=1), "since": now - DAY},
    )
    return {(row.principal, row.topic): (row.messages, row.last_at) for row in rows}


def forget(session: Session, before: datetime) -> int:
    """Remove the hours that began before `before`; returns the number of rows."""
    removed = session.execute(
        text("WITH gone AS (DELETE FROM traffic WHERE hour < :before RETURNING 1) SELECT count(*) FROM gone"),
        {"before": before},
    ).scalar_one()
    return int(removed)


def _bounded(session: Session, new: Counter[tuple[str, str]], hour: datetime) -> Counter[tuple[str, str]]:
    """The same, where principals with too many topics in this hour have the rest of them counted under ""."""
    rows = session.execute(
        text(
            "SELECT principal, count(*) AS topics FROM traffic"
            " WHERE hour = :hour AND principal = ANY(:principals) AND topic <> '' GROUP BY principal"
        ),
        {"hour": hour, "principals": list({principal for principal, _ in new})},
    )
    topics = Counter({row.principal: row.topics for row in rows})
    kept: Counter[tuple[str, str]] = Counter()
    for (principal, topic), count in new.items():
        if topic and topics[principal] < MOST_TOPICS:
            topics[principal] += 1
            kept[principal, topic] = count
        else:
            kept[principal, ""] += count
    return kept


def _columns(counts: Counter[tuple[str, str]]) -> dict[str, list[str] | list[int]]:
    return {
        "principals": [principal for principal, _ in counts],
        "topics": [topic for _, topic in counts],
        "counts": list(counts.values()),
    }


def _storable(name: str) -> bool:
    try:
        return "\0" not in name and len(name.encode()) <= MOST_TOPIC_BYTES
    except UnicodeEncodeError:
        return False
