"""The verdicts of devices over time as rows: written in bulk as they are drawn, read for one device, forgotten."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import text
from sqlmodel import Session

from hub.automations import happening
from hub.presence import Evidence
from hub.uptime import Drawn, Span, timeline

KEPT: Final = timedelta(days=30)
# Only who flaps can come to so many; of those the newest are kept.
CHANGES_MAX: Final = 5_000
FORGOTTEN_AT_ONCE: Final = 10_000
# A hub that is back within this time is taken not to have been away.
WATCH_GAP: Final = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class Change:
    """A verdict that was drawn just now."""

    device_id: uuid.UUID
    agent_id: uuid.UUID
    at: datetime
    evidence: Evidence


def record(session: Session, changes: Sequence[Change]) -> None:
    """Write these verdicts down, by one statement."""
    if not changes:
        return
    session.execute(
        text(
            "INSERT INTO presence_history (device_id, agent_id, at, verdict, why, epoch) "
            "SELECT * FROM unnest(CAST(:devices AS uuid[]), CAST(:agents AS uuid[]), CAST(:times AS timestamptz[]), "
            "CAST(:verdicts AS text[]), CAST(:whys AS text[]), CAST(:epochs AS bigint[]))"
        ),
        {
            "devices": [one.device_id for one in changes],
            "agents": [one.agent_id for one in changes],
            "times": [one.at for one in changes],
            "verdicts": [one.evidence.verdict for one in changes],
            "whys": [one.evidence.why for one in changes],
            "epochs": [one.evidence.epoch for one in changes],
        },
    )
    happening.presence(
        session,
        [(one.device_id, one.agent_id, one.at, one.evidence.verdict, one.evidence.why) for one in changes],
    )


def watch(session: Session, now: datetime) -> None:
    """The hub hears and judges at this moment; a pause longer than `WATCH_GAP` stays a gap."""
    session.execute(
        text(
            "WITH latest AS (SELECT watch_no, until FROM presence_watches ORDER BY until DESC LIMIT 1), "
            "longer AS (UPDATE presence_watches AS w SET until = greatest(w.until, :now) FROM latest "
            "WHERE w.watch_no = latest.watch_no AND latest.until >= :earliest RETURNING w.watch_no) "
            "INSERT INTO presence_watches (since, until) SELECT :now, :now WHERE NOT EXISTS (SELECT FROM longer)"
        ),
        {"now": now, "earliest": now - WATCH_GAP},
    )


def of_device(session: Session, device_id: uuid.UUID, since: datetime, until: datetime) -> list[Span]:
    """How its connection stood from `since` to `until`, without a gap, oldest first."""
    rows = session.execute(
        text(
            "SELECT at, verdict, why FROM presence_history WHERE device_id = :device AND change_no >= coalesce("
            "(SELECT max(change_no) FROM presence_history WHERE device_id = :device AND at <= :since), 0) "
            "AND at < :until ORDER BY change_no DESC LIMIT :most"
        ),
        {"device": device_id, "since": since, "until": until, "most": CHANGES_MAX},
    ).all()
    watches = session.execute(
        text("SELECT since, until FROM presence_watches WHERE until > :since AND since < :until ORDER BY since"),
        {"since": since, "until": until},
    ).all()
    # The latest watch goes on: it is written down every few seconds only.
    seen = [(begins, until if until - ends <= WATCH_GAP else ends) for begins, ends in watches]
    return timeline([Drawn(*row) for row in reversed(rows)], seen, since, until)


def forget_of_agent(session: Session, agent_id: uuid.UUID, before: datetime, limit: int) -> int:
    """Remove an agent's that are older, at most `limit`, but what stood then; returns how many."""
    gone = session.execute(
        text(
            "WITH gone AS (DELETE FROM presence_history WHERE change_no IN (SELECT h.change_no FROM presence_history "
            "AS h WHERE h.agent_id = :agent AND h.at < :before AND EXISTS (SELECT FROM presence_history AS n "
            "WHERE n.device_id = h.device_id AND n.change_no > h.change_no AND n.at < :before) "
            "ORDER BY h.at LIMIT :limit) RETURNING 1) SELECT count(*) FROM gone"
        ),
        {"agent": agent_id, "before": before, "limit": limit},
    )
    return int(gone.scalar_one())


def forget(session: Session, before: datetime) -> None:
    """Remove what is older, a bounded number at a time; what stood then is kept, for it may stand still."""
    session.execute(
        text(
            "DELETE FROM presence_history WHERE change_no IN (SELECT h.change_no FROM presence_history AS h "
            "WHERE h.at < :before AND EXISTS (SELECT FROM presence_history AS n WHERE n.device_id = h.device_id "
            "AND n.change_no > h.change_no AND n.at < :before) ORDER BY h.at LIMIT :most)"
        ),
        {"before": before, "most": FORGOTTEN_AT_ONCE},
    )
    session.execute(
        text(
            "DELETE FROM presence_history AS h USING (SELECT device_id, (SELECT change_no FROM presence_history AS n "
            "WHERE n.device_id = p.device_id ORDER BY change_no DESC OFFSET :most LIMIT 1) AS last "
            "FROM device_presence AS p WHERE p.flapping) AS full_ "
            "WHERE h.device_id = full_.device_id AND h.change_no <= full_.last"
        ),
        {"most": CHANGES_MAX},
    )
    session.execute(text("DELETE FROM presence_watches WHERE until < :before"), {"before": before})
