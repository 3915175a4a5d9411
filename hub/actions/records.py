"""Actions as they are shown: one with its timeline and its approvals, pages of them, and what waits for people."""

import uuid
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from sqlalchemy import text
from sqlmodel import Session

from hub.actions.states import Status
from hub.errors import Invalid, NotFound
from hub.verbs import Risk

PAGE_MAX: Final = 200
_COLUMNS: Final = (
    "a.action_id, a.agent_id, a.kind AS tool, a.payload AS args, a.required_scopes AS scopes, a.status, a.risk, "
    "a.space_id, s.name AS space, a.device_id, d.handle, d.name AS device, a.proposer, a.proposed_by, "
    "a.proposer_kind, a.why, a.cause_event_id, a.created_at, a.updated_at, a.expires_at, a.digest, a.approved_digest, "
    "a.approvals_needed, a.decided_by, a.decided_kind, a.decision_reason, a.policy, a.approved_at, a.executed_at, "
    "a.completed_at, a.result, a.error, a.revision, a.attempt, a.run_after, "
    "(SELECT count(*) FROM action_approvals AS y WHERE y.action_id = a.action_id AND y.digest = a.digest) AS approvals"
)
_FROM: Final = (
    " FROM actions AS a LEFT JOIN spaces AS s ON s.space_id = a.space_id "
    "LEFT JOIN devices AS d ON d.device_id = a.device_id "
)


@dataclass(frozen=True, slots=True)
class Step:
    """One line of a timeline: a status that was reached, or what happened within one; who says so."""

    step: str
    witness: str
    note: str
    detail: Any
    at: datetime


@dataclass(frozen=True, slots=True)
class Approval:
    """A yes. `counts` is False when the arguments were edited since."""

    principal: str
    label: str
    reason: str
    at: datetime
    counts: bool


@dataclass(frozen=True, slots=True)
class ActionView:
    """An action. `approvals` of `approvals_needed` people have said yes to it as it is now."""

    action_id: uuid.UUID
    agent_id: uuid.UUID
    tool: str
    args: dict[str, Any]
    scopes: list[str]
    status: Status
    risk: Risk
    space_id: uuid.UUID | None
    space: str | None
    device_id: uuid.UUID | None
    handle: str | None
    device: str | None
    proposer: str
    proposed_by: str
    proposer_kind: str
    why: str
    cause_event_id: uuid.UUID | None
    created_at: datetime
    updated_at: datetime
    expires_at: datetime
    digest: str
    approved_digest: str | None
    approvals_needed: int
    decided_by: str | None
    decided_kind: str | None
    decision_reason: str | None
    policy: Any
    approved_at: datetime | None
    executed_at: datetime | None
    completed_at: datetime | None
    result: Any
    error: str | None
    revision: int
    attempt: int
    run_after: datetime | None
    approvals: int
    steps: list[Step] = field(default_factory=list)
    said_yes: list[Approval] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Filter:
    """Which actions; all that is given must hold."""

    status: Status | None = None
    tool: str | None = None
    device_id: uuid.UUID | None = None
    space_id: uuid.UUID | None = None
    proposer: str | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """Actions, newest first; `next` is where the following page begins, None at the end."""

    items: list[ActionView]
    next: tuple[datetime, uuid.UUID] | None


def find(session: Session, agent_id: uuid.UUID, action_id: uuid.UUID) -> ActionView:
    """The action with its timeline and approvals; `NotFound` also for another agent's."""
    for found in _views(session, "WHERE a.action_id = :id AND a.agent_id = :agent", id=action_id, agent=agent_id):
        _load(session, found)
        return found
    raise NotFound("there is no such action")


def lock(session: Session, agent_id: uuid.UUID, action_id: uuid.UUID) -> ActionView:
    """The action, held until this transaction ends, without its timeline; `NotFound` also for another agent's."""
    held = session.execute(
        text("SELECT 1 FROM actions WHERE action_id = :id AND agent_id = :agent FOR NO KEY UPDATE"),
        {"id": action_id, "agent": agent_id},
    ).first()
    if held is None:
        raise NotFound("there is no such action")
    [found] = _views(session, "WHERE a.action_id = :id", id=action_id)
    return found


def page(
    session: Session,
    agent_id: uuid.UUID,
    wanted: Filter,
    *,
    before: tuple[datetime, uuid.UUID] | None = None,
    limit: int = 50,
) -> Page:
    """A page of the agent's actions, newest first, without timelines; raises `Invalid` (limit)."""
    if not 1 <= limit <= PAGE_MAX:
        raise Invalid(f"is 1 to {PAGE_MAX}", field="limit")
    at, last = before or (None, None)
    rows = _views(
        session,
        "WHERE a.agent_id = :agent AND (CAST(:status AS text) IS NULL OR a.status = :status)"
        " AND (CAST(:tool AS text) IS NULL OR a.kind = :tool)"
        " AND (CAST(:device AS uuid) IS NULL OR a.device_id = :device)"
        " AND (CAST(:space AS uuid) IS NULL OR a.space_id = :space)"
        " AND (CAST(:proposer AS text) IS NULL OR a.proposer = :proposer)"
        " AND (CAST(:at AS timestamptz) IS NULL OR (a.created_at, a.action_id) < (:at, CAST(:last AS uuid)))"
        " ORDER BY a.created_at DESC, a.action_id DESC LIMIT :limit",
        agent=agent_id,
        status=wanted.status,
        tool=wanted.tool,
        device=wanted.device_id,
        space=wanted.space_id,
        proposer=wanted.proposer,
        at=at,
        last=last,
        limit=limit + 1,
    )
    items = rows[:limit]
    return Page(items, (items[-1].created_at, items[-1].action_id) if len(rows) > limit else None)


def waiting(session: Session, agent_id: uuid.UUID, limit: int = PAGE_MAX) -> list[ActionView]:
    """What waits for people, the one that runs out first first."""
    return _views(
        session,
        "WHERE a.agent_id = :agent AND a.status = 'proposed' ORDER BY a.expires_at, a.action_id LIMIT :limit",
        agent=agent_id,
        limit=limit,
    )


def count_waiting(session: Session, agent_id: uuid.UUID) -> int:
    """How many wait for people."""
    counted = session.execute(
        text("SELECT count(*) FROM actions WHERE agent_id = :agent AND status = 'proposed'"), {"agent": agent_id}
    )
    return int(counted.scalar_one())


def _views(session: Session, condition: str, **values: Any) -> list[ActionView]:
    rows = session.execute(text(f"SELECT {_COLUMNS}{_FROM}{condition}"), values)
    return [ActionView(**row._mapping) for row in rows]  # noqa: SLF001  (SQLAlchemy's public name)


def _load(session: Session, view: ActionView) -> None:
    steps = session.execute(
        text("SELECT step, witness, note, detail, at FROM action_steps WHERE action_id = :id ORDER BY step_no"),
        {"id": view.action_id},
    )
    view.steps.extend(Step(*row) for row in steps)
    said = session.execute(
        text(
            "SELECT principal, label, reason, at, digest = :digest FROM action_approvals WHERE action_id = :id "
            "ORDER BY at, principal"
        ),
        {"id": view.action_id, "digest": view.digest},
    )
    view.said_yes.extend(Approval(*row) for row in said)
