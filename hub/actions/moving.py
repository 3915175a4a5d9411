"""The one way in which an action's status changes: guarded by what it was, with a step that says who did it."""

import uuid
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any, Final

import msgspec
from sqlalchemy import text
from sqlmodel import Session

from hub import feed, outbox
from hub.actions import states
from hub.actions.states import OPEN, Status
from hub_protocol import messages
from hub_protocol.topics import Topics

# What a move may write beside the status; anything else is a programming error.
_COLUMNS: Final = frozenset(
    {
        "approved_at",
        "approved_by",
        "approved_digest",
        "attempt",
        "decided_by",
        "decided_kind",
        "decision_reason",
        "error",
        "executed_at",
        "policy",
        "result",
        "run_after",
    }
)
_JSON: Final = frozenset({"policy", "result"})
_TOPICS: Final = Topics.below_root()


def move(
    session: Session,
    action_id: uuid.UUID,
    to: Status,
    *,
    at: datetime,
    witness: str,
    was: Collection[Status] | None = None,
    note: str = "",
    detail: Any = None,
    lease: uuid.UUID | None = None,
    **values: Any,
) -> bool:
    """Give the action another status if it is in one that may become it; returns whether it was.

    `was` narrows which; `lease` asks that the action be held under it. An action that ends, or goes back to
    `approved`, holds none any more. Whoever loses the race changes nothing.
    """
    if to == "executing":
        raise ValueError("an action is claimed, with a lease, by hub.actions.execution")
    unknown = set(values) - _COLUMNS
    if unknown:
        raise ValueError(f"a move does not write {', '.join(sorted(unknown))}")
    allowed = states.before(to) & frozenset(was) if was is not None else states.before(to)
    given = {name: _encoded(value) if name in _JSON else value for name, value in values.items()}
    written = [f"{name} = CAST(:{name} AS jsonb)" if name in _JSON else f"{name} = :{name}" for name in values]
    written += ["lease = NULL", "lease_until = NULL"]
    if to not in OPEN:
        written.append("completed_at = :at")
    row = session.execute(
        text(
            f"UPDATE actions SET status = :to, updated_at = :at, {', '.join(written)} WHERE action_id = :id "
            "AND status = ANY(:allowed) AND (CAST(:held AS uuid) IS NULL OR lease = :held) RETURNING agent_id"
        ),
        given | {"id": action_id, "to": to, "at": at, "allowed": sorted(allowed), "held": lease},
    ).first()
    if row is None:
        return False
    step(session, row.agent_id, action_id, to, at=at, witness=witness, note=note, detail=detail)
    return True


def step(
    session: Session,
    agent_id: uuid.UUID,
    action_id: uuid.UUID,
    name: str,
    *,
    at: datetime,
    witness: str,
    note: str = "",
    detail: Any = None,
) -> None:
    """Write one line of the action's timeline, and tell open pages."""
    session.execute(
        text(
            "INSERT INTO action_steps (action_id, agent_id, step, witness, note, detail, at) "
            "VALUES (:id, :agent, :step, :witness, :note, CAST(:detail AS jsonb), :at)"
        ),
        {
            "id": action_id,
            "agent": agent_id,
            "step": name,
            "witness": witness,
            "note": note,
            "detail": _encoded(detail),
            "at": at,
        },
    )
    tell(session, [action_id])


def tell(session: Session, ids: Collection[uuid.UUID]) -> None:
    """Tell open pages how these actions stand."""
    rows = session.execute(
        text(
            "SELECT action_id, agent_id, kind, status, space_id, device_id, risk, revision, updated_at FROM actions "
            "WHERE action_id = ANY(:ids)"
        ),
        {"ids": list(ids)},
    )
    for row in rows:
        item: Mapping[str, Any] = {
            "action_id": str(row.action_id),
            "tool": row.kind,
            "status": row.status,
            "space_id": str(row.space_id) if row.space_id else None,
            "device_id": str(row.device_id) if row.device_id else None,
            "risk": row.risk,
            "revision": row.revision,
            "updated_at": row.updated_at,
        }
        feed.tell(session, row.agent_id, "actions", "actions.updated", dict(item))
    _tell_integrations(session, ids)


def _tell_integrations(session: Session, ids: Collection[uuid.UUID]) -> None:
    """Tell those that may decide, each on its own topic."""
    rows = session.execute(
        text(
            "SELECT i.handle AS integration, a.action_id, a.status, a.kind, a.payload, a.risk, a.proposed_by, a.why, "
            "a.digest, a.expires_at, d.handle AS device FROM actions AS a JOIN integrations AS i "
            "ON i.agent_id = a.agent_id AND i.revoked_at IS NULL AND i.scopes ? 'actions:approve' "
            "LEFT JOIN devices AS d ON d.device_id = a.device_id WHERE a.action_id = ANY(:ids) ORDER BY i.handle"
        ),
        {"ids": list(ids)},
    )
    for row in rows:
        told = messages.Pending(
            str(row.action_id),
            row.status,
            row.kind,
            row.payload,
            row.risk,
            row.proposed_by,
            row.why,
            row.digest,
            row.expires_at,
            row.device,
        )
        outbox.enqueue(session, _TOPICS.out_actions(row.integration), told)


def _encoded(value: Any) -> str | None:
    return None if value is None else msgspec.json.encode(value).decode()
