"""For how long an agent keeps what it gathers, and the removal of what is older, a bounded number at a time.

The audit is kept for good. What is no agent's (refusals of strangers, say) goes by the defaults.
"""

import uuid
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import text
from sqlmodel import Session

from hub import agents, audit, presence_history
from hub.errors import Conflict, Invalid
from hub.policies.records import RATE_MAX_S
from hub.telemetry.tiers import TIERS

DAYS_MAX: Final = 3_650
# A sample may come a week late, and the condensing goes back to it.
TELEMETRY_DAYS_MIN: Final = 7
# The hub's own bound, and as far as pages look back.
PRESENCE_DAYS_MAX: Final = presence_history.KEPT.days
# Rows of one transaction: a few milliseconds of locks, on rows that nobody else changes.
AT_ONCE: Final = 2_000


@dataclass(frozen=True, slots=True)
class Kept:
    """Days, at the defaults: a year of events, five of telemetry (the hub's own bound holds too), and so on."""

    events_days: int = 365
    telemetry_days: int = 1_830
    commands_days: int = 90
    actions_days: int = 365
    denials_days: int = 14
    dead_letters_days: int = 30
    presence_days: int = presence_history.KEPT.days


@dataclass(frozen=True, slots=True)
class Rule:
    """Rows of one table that have had their time. `order` finds an agent's oldest by an index, `at` is what ages them.

    `over` is a condition for those that may go at all.
    """

    name: str
    table: str
    order: str
    at: str
    over: str = "true"


RULES: Final = (
    Rule("events_days", "events", "event_no", "created_at"),
    Rule("commands_days", "commands", "created_at", "coalesce(finished_at, created_at)", "finished_at IS NOT NULL"),
    Rule(
        "actions_days",
        "actions",
        "created_at",
        "coalesce(completed_at, created_at)",
        # What a schedule does stands in the action that was approved, and policies count what they approved.
        "completed_at IS NOT NULL AND NOT EXISTS (SELECT FROM schedules AS s WHERE s.action_id = actions.action_id"
        " AND s.next_at IS NOT NULL) AND (approved_at IS NULL OR decided_kind <> 'policy'"
        f" OR approved_at < now() - make_interval(secs => {RATE_MAX_S}))",
    ),
    Rule("denials_days", "denials", "last_at", "last_at"),
    Rule("dead_letters_days", "dead_letters", "dead_letter_id", "parked_at"),
)
NAMES: Final = tuple(one.name for one in fields(Kept))


@dataclass(frozen=True, slots=True)
class RetentionView:
    """What an agent keeps; `revision` is 0 while it goes by the defaults."""

    kept: Kept
    revision: int


def view(session: Session, agent_id: uuid.UUID) -> RetentionView:
    """How long this agent keeps things."""
    return _all(session).get(agent_id, RetentionView(Kept(), 0))


def change(session: Session, agent_id: uuid.UUID, days: dict[str, int], *, revision: int, by: str) -> RetentionView:
    """Keep for so many days from now on; what is not named stays. What is older goes within minutes, for good.

    Raises `Invalid` (the field), and `Conflict` (revision) when somebody changed it meanwhile.
    """
    agent = agents.held(session, agent_id)
    before = view(session, agent_id)
    if before.revision != revision:
        raise Conflict("somebody changed how long things are kept meanwhile", field="revision")
    after = Kept(**asdict(before.kept) | days)
    for name in NAMES:
        least = TELEMETRY_DAYS_MIN if name == "telemetry_days" else 1
        most = PRESENCE_DAYS_MAX if name == "presence_days" else DAYS_MAX
        if not least <= getattr(after, name) <= most:
            raise Invalid(f"is {least} to {most:,} days", field=name)
    if after == before.kept:
        return before
    names = ", ".join(NAMES)
    session.execute(
        text(
            f"INSERT INTO agent_retention AS r (agent_id, {names}) VALUES (:agent, :{', :'.join(NAMES)})"
            f" ON CONFLICT (agent_id) DO UPDATE SET ({names}) = ROW (excluded.{', excluded.'.join(NAMES)}),"
            " revision = r.revision + 1"
        ),
        {"agent": agent_id} | asdict(after),
    )
    changed = [name for name in NAMES if getattr(after, name) != getattr(before.kept, name)]
    audit.record(
        session,
        agent_id,
        by=by,
        action="agent.retention_changed",
        subject=agent.name,
        subject_id=agent_id,
        before={name: getattr(before.kept, name) for name in changed},
        after={name: getattr(after, name) for name in changed},
    )
    return RetentionView(after, before.revision + 1)


def plan(session: Session) -> dict[uuid.UUID | None, Kept]:
    """How long everybody keeps things; None stands for what is no agent's."""
    chosen = _all(session)
    ids = session.execute(text("SELECT agent_id FROM agents WHERE deleted_at IS NULL ORDER BY agent_id")).scalars()
    kept: dict[uuid.UUID | None, Kept] = {None: Kept()}
    for agent_id in ids:
        kept[agent_id] = chosen[agent_id].kept if agent_id in chosen else Kept()
    return kept


def remove_some(session: Session, rule: Rule, agent_id: uuid.UUID | None, before: datetime) -> int:
    """Remove those of an agent's oldest rows that are older than `before`; returns how many.

    Only its `AT_ONCE` oldest are looked at: where nothing is due, this reads no more than that.
    """
    owner = "agent_id IS NULL" if agent_id is None else "agent_id = :agent"
    gone = session.execute(
        text(
            f"WITH oldest AS MATERIALIZED (SELECT ctid AS place, {rule.at} AS at FROM {rule.table}"
            f" WHERE {owner} AND {rule.over} ORDER BY {rule.order} LIMIT :limit),"
            f" gone AS (DELETE FROM {rule.table} WHERE ctid = ANY(ARRAY(SELECT place FROM oldest WHERE at < :before))"
            " RETURNING 1) SELECT count(*) FROM gone"
        ),
        {"agent": agent_id, "before": before, "limit": AT_ONCE},
    )
    return int(gone.scalar_one())


def remove_samples(session: Session, agent_id: uuid.UUID, before: datetime) -> int:
    """Remove an agent's samples, minutes and hours that are older than `before`, a bounded number; how many."""
    removed = 0
    for tier in TIERS.values():
        gone = session.execute(
            text(
                f"WITH gone AS (DELETE FROM {tier.table} WHERE (stream_id, at) IN (SELECT t.stream_id, t.at"
                f" FROM telemetry_streams AS s JOIN {tier.table} AS t USING (stream_id)"
                " WHERE s.agent_id = :agent AND t.at < :before LIMIT :limit) RETURNING 1) SELECT count(*) FROM gone"
            ),
            {"agent": agent_id, "before": before, "limit": AT_ONCE},
        )
        removed += int(gone.scalar_one())
    return removed


def older_than(now: datetime, days: int) -> datetime:
    """The time before which something has been kept for so many days."""
    return now - timedelta(days=days)


def _all(session: Session) -> dict[uuid.UUID, RetentionView]:
    rows: Any = session.execute(text(f"SELECT agent_id, revision, {', '.join(NAMES)} FROM agent_retention"))
    return {
        row.agent_id: RetentionView(Kept(**{name: getattr(row, name) for name in NAMES}), row.revision) for row in rows
    }
