"""What was approved to be done later, or again and again: when, by whom, and how it is stopped."""

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from croniter import CroniterError, croniter
from sqlalchemy import text
from sqlmodel import Session

from hub import audit
from hub.actions import digests, moving, queue
from hub.errors import Conflict, Invalid, NotFound

LATEST: Final = timedelta(days=366)
CRON_MAX: Final = 120
# Not more often than this: what is to be done each second is no action.
CLOSEST: Final = timedelta(minutes=1)
AT_ONCE: Final = 50
TOOL: Final = "schedule"


@dataclass(frozen=True, slots=True)
class ScheduleView:
    """A schedule; `next_at` is None once it is over or was stopped."""

    schedule_id: uuid.UUID
    action_id: uuid.UUID
    tool: str
    args: dict[str, Any]
    cron: str | None
    zone: str
    next_at: datetime | None
    left_over: int | None
    stopped_at: datetime | None
    stopped_by: str | None
    created_at: datetime
    approved_by: str | None


def zone_of(name: str, field: str) -> ZoneInfo:
    """The time zone; raises `Invalid` for a name that nobody knows."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise Invalid("is a time zone as in Europe/Berlin", field=field) from None


def check_cron(expression: str, field: str) -> str:
    """The expression; raises `Invalid` for one that is none, never comes, or comes more than once a minute."""
    words = expression.split()
    if len(words) != 5 or len(expression) > CRON_MAX:
        raise Invalid("has five parts: minute, hour, day, month, weekday", field=field)
    try:
        following(" ".join(words), ZoneInfo("UTC"), datetime(2026, 1, 1, tzinfo=UTC))
    except (CroniterError, ValueError, OverflowError):
        raise Invalid("is no cron expression that ever comes", field=field) from None
    return " ".join(words)


def following(cron: str, zone: ZoneInfo, after: datetime) -> datetime:
    """When it comes next after that, in UTC."""
    found: datetime = croniter(cron, after.astimezone(zone)).get_next(datetime)
    return found.astimezone(UTC)


def start(
    session: Session,
    agent_id: uuid.UUID,
    action_id: uuid.UUID,
    *,
    at: datetime | None,
    cron: str | None,
    zone: str,
    times: int | None,
    now: datetime,
) -> datetime:
    """Keep it; returns when it comes first. Once for an action, however often it is asked."""
    first = at if at is not None else following(cron or "", zone_of(zone, "args.zone"), now)
    session.execute(
        text(
            "INSERT INTO schedules (agent_id, action_id, cron, zone, next_at, left_over) "
            "VALUES (:agent, :action, :cron, :zone, :next, :times) ON CONFLICT (action_id) DO NOTHING"
        ),
        {"agent": agent_id, "action": action_id, "cron": cron, "zone": zone, "next": first, "times": times},
    )
    return first


def listed(session: Session, agent_id: uuid.UUID, limit: int = 200) -> list[ScheduleView]:
    """The agent's schedules, those that come next first."""
    rows = session.execute(
        text(
            "SELECT s.schedule_id, s.action_id, a.payload ->> 'tool', a.payload -> 'args', s.cron, s.zone, s.next_at, "
            "s.left_over, s.stopped_at, s.stopped_by, s.created_at, a.decided_by FROM schedules AS s "
            "JOIN actions AS a USING (action_id) WHERE s.agent_id = :agent "
            "ORDER BY s.next_at NULLS LAST, s.created_at DESC LIMIT :limit"
        ),
        {"agent": agent_id, "limit": limit},
    )
    return [ScheduleView(*row) for row in rows]


def stop(session: Session, agent_id: uuid.UUID, schedule_id: uuid.UUID, *, by: str, now: datetime) -> None:
    """End it for good; raises `NotFound`, also for another agent's, and `Conflict` when it is over."""
    row = session.execute(
        text(
            "SELECT s.action_id, s.next_at, a.payload ->> 'tool' AS tool FROM schedules AS s "
            "JOIN actions AS a USING (action_id) WHERE s.schedule_id = :id AND s.agent_id = :agent FOR UPDATE OF s"
        ),
        {"id": schedule_id, "agent": agent_id},
    ).first()
    if row is None:
        raise NotFound("there is no such schedule")
    if row.next_at is None:
        raise Conflict("it is over already")
    session.execute(
        text("UPDATE schedules SET next_at = NULL, stopped_at = :now, stopped_by = :by WHERE schedule_id = :id"),
        {"id": schedule_id, "now": now, "by": str(by)},
    )
    moving.step(session, agent_id, row.action_id, "schedule_stopped", at=now, witness=str(by))
    audit.record(session, agent_id, by=by, action="schedule.stopped", subject=str(row.tool), subject_id=schedule_id)


def carry_out(session: Session, now: datetime) -> int:
    """Make an action of each that is due, approved as the schedule was, and say when it comes next; returns how many.

    What could not be done while the hub was away is done once, not as often as it was missed.
    """
    rows = session.execute(
        text(
            "SELECT s.schedule_id, s.agent_id, s.action_id, s.cron, s.zone, s.next_at, s.left_over, a.payload, "
            "a.space_id, a.digest, a.approved_digest, a.approved_by, a.decided_by, a.decided_kind, a.risk, "
            "a.device_id, a.required_scopes, a.kind FROM schedules AS s JOIN actions AS a USING (action_id) "
            "JOIN agents AS g ON g.agent_id = s.agent_id WHERE s.next_at <= :now AND NOT g.disabled "
            "ORDER BY s.next_at LIMIT :limit FOR UPDATE OF s SKIP LOCKED"
        ),
        {"now": now, "limit": AT_ONCE},
    ).all()
    for row in rows:
        left = None if row.left_over is None else row.left_over - 1
        is_last = row.cron is None or left == 0
        following_at = None if is_last else following(row.cron, zone_of(row.zone, "zone"), now)
        if digests.of(row.agent_id, row.kind, row.payload, row.space_id) != row.approved_digest:
            following_at = None  # not what was approved: nothing of it is done, ever
        else:
            _make(session, row, now)
        session.execute(
            text(
                "UPDATE schedules SET next_at = :next, left_over = :left, "
                "stopped_at = CASE WHEN CAST(:next AS timestamptz) IS NULL THEN CAST(:now AS timestamptz) END, "
                "stopped_by = CASE WHEN CAST(:next AS timestamptz) IS NULL THEN 'it is over' END "
                "WHERE schedule_id = :id"
            ),
            {"id": row.schedule_id, "next": following_at, "left": left, "now": now},
        )
    return len(rows)


def _make(session: Session, row: Any, now: datetime) -> None:
    tool, args = row.payload["tool"], row.payload.get("args", {})
    mark = digests.of(row.agent_id, tool, args, row.space_id)
    label = f"schedule of {row.decided_by}"
    action_id = session.execute(
        text(
            "INSERT INTO actions (agent_id, space_id, kind, payload, required_scopes, risk, device_id, proposer, "
            "proposed_by, proposer_kind, why, created_at, updated_at, expires_at, digest, proposed_digest, "
            "idempotency_key) SELECT agent_id, space_id, :tool, payload -> 'args', required_scopes, risk, device_id, "
            ":proposer, :label, 'policy', :why, :now, :now, CAST(:now AS timestamptz) + interval '1 hour', :digest, "
            ":digest, :key FROM actions WHERE action_id = :origin ON CONFLICT DO NOTHING RETURNING action_id"
        ),
        {
            "tool": tool,
            "proposer": f"schedule:{row.schedule_id}",
            "label": label,
            "why": f"it was due at {row.next_at.isoformat(timespec='seconds')}",
            "now": now,
            "digest": mark,
            "key": row.next_at.isoformat(),
            "origin": row.action_id,
        },
    ).scalar_one_or_none()
    if action_id is None:
        return
    moving.step(session, row.agent_id, action_id, "proposed", at=now, witness=label)
    moving.move(
        session,
        action_id,
        "approved",
        at=now,
        witness=str(row.decided_by),
        note="with its schedule",
        approved_at=now,
        approved_by=row.approved_by,
        approved_digest=mark,
        decided_by=row.decided_by,
        decided_kind=row.decided_kind,
        decision_reason="with its schedule",
        policy={"schedule_id": str(row.schedule_id), "action_id": str(row.action_id)},
    )
    queue.put(session, action_id)
    audit.record(
        session,
        row.agent_id,
        by=row.decided_by or "the hub",
        action="action.scheduled",
        subject=tool,
        subject_id=action_id,
        after={"digest": mark, "schedule_id": row.schedule_id},
    )
