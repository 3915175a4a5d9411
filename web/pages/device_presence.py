"""The history of a satellite's presence on its page: two bars, how much of the time it was there, and a table."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from sqlmodel import Session

from hub import presence_history
from hub.uptime import Mark, Span, Uptime, marks, uptime

RANGES: Final = ((timedelta(hours=24), "24 h"), (timedelta(days=7), "7 days"))
# 24 hours in steps of five minutes, seven days in steps of 35.
STEPS: Final = 288
# The table tells the latest; all of them are told over HTTP.
TOLD: Final = 40


@dataclass(frozen=True, slots=True)
class Bar:
    """One range of time as it is drawn and said."""

    label: str
    marks: list[Mark]
    uptime: Uptime
    words: str
    step: str


def of_page(session: Session, device_id: UUID, now: datetime) -> dict[str, object]:
    """The bars, and the latest spans, newest first."""
    bars: list[Bar] = []
    spans: list[Span] = []
    for length, label in RANGES:
        spans = presence_history.of_device(session, device_id, now - length, now)
        found = uptime(spans)
        step = duration(length.total_seconds() / STEPS)
        bars.append(Bar(label, marks(spans, STEPS), found, in_words(found), step))
    return {"presence_bars": bars, "presence_spans": spans[::-1][:TOLD], "duration": duration}


def in_words(found: Uptime) -> str:
    """Such as "99.2 % of the 23 h that are known": a share of what is known, and how much that is."""
    if found.ratio is None:
        return "nothing is known"
    # Rounded down: 100 % means that it never failed.
    share = "100" if found.down_s == 0 else f"{int(found.ratio * 1000) / 10:g}"
    known = found.up_s + found.down_s
    if found.unknown_s < 1:
        return f"{share} % of the time"
    return f"{share} % of the {duration(known)} that are known"


def duration(seconds: float) -> str:
    """A length of time as people say it: 40 s, 12 min, 5 h 20 min, 3 d 4 h."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes = whole // 60
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if hours else f"{days} d"
