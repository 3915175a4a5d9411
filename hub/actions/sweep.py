"""What nobody does for an action: proposals run out, leases of runners that died end, lost jobs are put again."""

from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import text
from sqlmodel import Session

from hub import audit, schedules
from hub.actions import execution, moving, queue
from hub.tools import registry

AT_ONCE: Final = 200
# An approved action that could not be begun for so long (its agent off, the hub away) is not what people meant.
APPROVED_KEPT: Final = timedelta(hours=1)
# A job is lost when there is none although its time has come, and not just now.
LOST_AFTER: Final = timedelta(seconds=10)
LOST_LEASE: Final = "whoever did it ended in the middle"


def sweep(session: Session, now: datetime) -> bool:
    """One bounded round; True when there may be more."""
    counts = [_expire(session, now), _recover(session, now), _put_again(session, now)]
    scheduled = schedules.carry_out(session, now)
    return max(counts) == AT_ONCE or scheduled == schedules.AT_ONCE


def take_over(session: Session) -> None:
    """A hub begins: jobs that the one before it had at hand are nobody's, and so are leases without a command.

    Exactly one hub works on a database.
    """
    session.execute(
        text("DELETE FROM procrastinate_jobs WHERE queue_name = :queue AND status = 'doing'"), {"queue": queue.QUEUE}
    )
    session.execute(
        text(
            "UPDATE actions AS a SET lease_until = now() WHERE a.status = 'executing' AND NOT EXISTS "
            "(SELECT 1 FROM commands AS c WHERE c.action_id = a.action_id)"
        )
    )


def _expire(session: Session, now: datetime) -> int:
    rows = session.execute(
        text(
            "SELECT action_id, agent_id, kind, status FROM actions WHERE status IN ('proposed', 'approved') AND CASE "
            "status WHEN 'proposed' THEN expires_at <= :now ELSE "
            "greatest(approved_at, run_after) <= :kept END ORDER BY action_id LIMIT :limit FOR UPDATE SKIP LOCKED"
        ),
        {"now": now, "kept": now - APPROVED_KEPT, "limit": AT_ONCE},
    ).all()
    for row in rows:
        note = "nobody decided in time" if row.status == "proposed" else "it could not be begun in time"
        if moving.move(session, row.action_id, "expired", at=now, witness=str(execution.HUB), note=note):
            audit.record(
                session,
                row.agent_id,
                by=execution.HUB,
                action="action.expired",
                subject=row.kind,
                subject_id=row.action_id,
                before={"status": row.status},
            )
    return len(rows)


def _recover(session: Session, now: datetime) -> int:
    rows = session.execute(
        text(
            "SELECT action_id, kind, attempt, lease FROM actions WHERE status = 'executing' AND lease_until <= :now "
            # An open command has an end of its own, and settles it.
            "AND NOT EXISTS (SELECT 1 FROM commands AS c WHERE c.action_id = actions.action_id "
            "AND c.finished_at IS NULL) ORDER BY action_id LIMIT :limit FOR UPDATE SKIP LOCKED"
        ),
        {"now": now, "limit": AT_ONCE},
    ).all()
    tools = registry.load()
    for row in rows:
        tool = tools.get(row.kind)
        if tool is not None and tool.is_repeatable and row.attempt < execution.TRIES_MAX:
            execution.try_again(session, row.action_id, now, now, LOST_LEASE, lease=row.lease)
        else:
            execution.end(session, row.action_id, "unknown", now, lease=row.lease, error=LOST_LEASE)
    return len(rows)


def _put_again(session: Session, now: datetime) -> int:
    rows = session.execute(
        text(
            "SELECT a.action_id FROM actions AS a JOIN agents AS g USING (agent_id) "
            "WHERE a.status = 'approved' AND NOT g.disabled "
            "AND greatest(a.approved_at, a.run_after) <= :lost AND NOT EXISTS (SELECT 1 FROM procrastinate_jobs AS j "
            "WHERE j.queue_name = :queue AND j.status IN ('todo', 'doing') "
            "AND j.args ->> 'action_id' = a.action_id::text) ORDER BY a.action_id LIMIT :limit"
        ),
        {"lost": now - LOST_AFTER, "queue": queue.QUEUE, "limit": AT_ONCE},
    ).scalars()
    lost = list(rows)
    for action_id in lost:
        queue.put(session, action_id)
    return len(lost)
