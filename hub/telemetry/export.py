"""Telemetry as CSV (RFC 4180): a page of rows at a time, so that any length takes the same memory and holds no lock.

Rows hold times and numbers only. Nothing that a device wrote as text gets in, so no spreadsheet reads one as a formula.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import text
from sqlmodel import Session

from hub.telemetry.streams import StreamView
from hub.telemetry.tiers import RAW, Tier

PAGE: Final = 10_000
_COLUMNS: Final = {True: ("at", "value"), False: ("at", "min", "max", "mean", "count", "last")}


def header(tier: Tier) -> str:
    """The first line."""
    return ",".join(_COLUMNS[tier is RAW]) + "\r\n"


def page(
    session: Session, stream: StreamView, tier: Tier, since: datetime, until: datetime, *, limit: int = PAGE
) -> Sequence[Any]:
    """Rows from `since` until before `until`, oldest first, at most `limit`; the first column is the time."""
    columns = "at, value" if tier is RAW else "at, min, max, sum, count, last"
    return session.execute(
        text(
            f"SELECT {columns} FROM {tier.table} WHERE stream_id = :id AND at >= :since AND at < :until"
            " ORDER BY at LIMIT :limit"
        ),
        {"id": stream.stream_id, "since": since, "until": until, "limit": limit},
    ).all()


def lines(tier: Tier, rows: Iterable[Any]) -> str:
    """Rows of a page as CSV."""
    if tier is RAW:
        return "".join(f"{_time(at)},{value!r}\r\n" for at, value in rows)
    return "".join(
        f"{_time(at)},{low!r},{high!r},{min(max(total / count, low), high)!r},{count},{last!r}\r\n"
        for at, low, high, total, count, last in rows
    )


def file_name(stream: StreamView, tier: Tier) -> str:
    """What the file is called; handles and names of streams hold nothing that a file system or a header minds."""
    return f"{stream.handle}-{stream.name}-{tier.name}.csv"


def _time(at: datetime) -> str:
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")
