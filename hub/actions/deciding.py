"""Decisions on proposals: yes, no, other arguments, never mind. The first that counts wins; the others are told."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import msgspec
from sqlalchemy import text
from sqlmodel import Session

from hub import audit
from hub.actions import approval_rules, digests, moving, queue, records
from hub.actions.records import ActionView
from hub.actions.states import Status
from hub.audit.actors import Actor, kind_of
from hub.errors import Conflict, Forbidden, Invalid
from hub.tables import Agent
from hub.tools import registry

REASON_MAX: Final = 1_000
_WAITING: Final[tuple[Status, ...]] = ("proposed",)


@dataclass(frozen=True, slots=True)
class Decider:
    """Who decides. `role` is a person's in the agent; an integration decides as the role that it was given."""

    principal: str
    label: Actor
    role: str
    user_id: uuid.UUID | None = None


def approve(
    session: Session,
    agent_id: uuid.UUID,
    action_id: uuid.UUID,
    *,
    by: Decider,
    digest: str,
    reason: str = "",
    now: datetime,
) -> ActionView:
    """Say yes to exactly what has this digest; when enough have, it is queued. Returns how it stands.

    Raises `NotFound`, `Forbidden` (the role that it takes), `Conflict` when it is decided, has run out, was edited
    since (field digest) or has this one's yes already, `Invalid` (reason).
    """
    reason = _checked(reason)
    action = _held(session, agent_id, action_id, by, now)
    if digest != action.digest:
        raise Conflict("it was changed since you looked at it; look again", field="digest")
    added = session.execute(
        text(
            "INSERT INTO action_approvals (action_id, agent_id, principal, label, digest, reason, at) "
            "VALUES (:id, :agent, :principal, :label, :digest, :reason, :now) "
            "ON CONFLICT (action_id, principal) DO UPDATE SET digest = excluded.digest, reason = excluded.reason, "
            "at = excluded.at WHERE action_approvals.digest <> excluded.digest RETURNING 1"
        ),
        {
            "id": action_id,
            "agent": agent_id,
            "principal": by.principal,
            "label": str(by.label),
            "digest": digest,
            "reason": reason,
            "now": now,
        },
    ).first()
    if added is None:
        raise Conflict("you have said yes already; it takes others too")
    is_enough = action.approvals + 1 >= action.approvals_needed
    if is_enough:
        moving.move(
            session,
            action_id,
            "approved",
            was=_WAITING,
            at=now,
            witness=str(by.label),
            note=reason,
            approved_by=by.user_id,
            approved_at=now,
            approved_digest=digest,
            decided_by=str(by.label),
            decided_kind=kind_of(by.label),
            decision_reason=reason,
        )
        queue.put(session, action_id)
    else:
        note = f"{action.approvals + 1} of {action.approvals_needed}"
        moving.step(session, agent_id, action_id, "approval", at=now, witness=str(by.label), note=reason or note)
    facts = {"digest": digest, "reason": reason, "approvals": action.approvals + 1, "needed": action.approvals_needed}
    _audit(session, action, by, "action.approved" if is_enough else "action.approval_given", after=facts)
    return records.find(session, agent_id, action_id)


def reject(
    session: Session, agent_id: uuid.UUID, action_id: uuid.UUID, *, by: Decider, reason: str = "", now: datetime
) -> ActionView:
    """Say no: one is enough. Raises `NotFound`, `Forbidden`, `Conflict`, `Invalid` (reason)."""
    reason = _checked(reason)
    action = _held(session, agent_id, action_id, by, now)
    moving.move(
        session,
        action_id,
        "rejected",
        at=now,
        witness=str(by.label),
        note=reason,
        decided_by=str(by.label),
        decided_kind=kind_of(by.label),
        decision_reason=reason,
    )
    _audit(session, action, by, "action.rejected", after={"digest": action.digest, "reason": reason})
    return records.find(session, agent_id, action_id)


def edit(
    session: Session,
    agent_id: uuid.UUID,
    action_id: uuid.UUID,
    args: Mapping[str, Any],
    *,
    by: Decider,
    revision: int,
    now: datetime,
) -> ActionView:
    """Give a proposal other arguments, before it is approved; who said yes to the old ones has to say so again.

    `revision` is the one that the editor saw. Raises `NotFound`, `Forbidden`, `Conflict` (revision), and `Invalid`
    (args or args.<path>) as for a proposal.
    """
    action = _held(session, agent_id, action_id, by, now)
    if action.revision != revision:
        raise Conflict("somebody else edited it meanwhile; look again", field="revision")
    need = registry.find(action.tool).check(session, agent_id, args)
    mark = digests.of(agent_id, action.tool, args, action.space_id)
    if mark == action.digest:
        return records.find(session, agent_id, action_id)
    rules = approval_rules.view(session, agent_id)
    if not rules.may_decide(by.role, need.risk):
        raise Forbidden(_takes(rules.of(need.risk).role, need.risk, by.role))
    session.execute(
        text(
            "UPDATE actions SET payload = CAST(:args AS jsonb), required_scopes = CAST(:scopes AS jsonb), "
            "risk = :risk, device_id = :device, digest = :digest, revision = revision + 1, updated_at = :now, "
            "approvals_needed = :needed WHERE action_id = :id AND status = 'proposed'"
        ),
        {
            "id": action_id,
            "args": msgspec.json.encode(dict(args)).decode(),
            "scopes": msgspec.json.encode(sorted(need.scopes)).decode(),
            "risk": need.risk,
            "device": need.device_id,
            "digest": mark,
            "now": now,
            # Never fewer than it was proposed with: an edit is no way around the others.
            "needed": max(action.approvals_needed, rules.of(need.risk).approvals),
        },
    )
    moving.step(
        session,
        agent_id,
        action_id,
        "edited",
        at=now,
        witness=str(by.label),
        detail={"before": action.args, "after": dict(args)},
    )
    _audit(session, action, by, "action.edited", before={"digest": action.digest}, after={"digest": mark})
    return records.find(session, agent_id, action_id)


def cancel(
    session: Session, agent_id: uuid.UUID, action_id: uuid.UUID, *, by: Decider, reason: str = "", now: datetime
) -> ActionView:
    """Take back what has not begun: by who proposed it, or by who may decide on it.

    Raises `NotFound`, `Forbidden`, `Conflict` when it runs or is over, `Invalid` (reason).
    """
    reason = _checked(reason)
    action = records.lock(session, agent_id, action_id)
    rules = approval_rules.view(session, agent_id)
    if by.principal != action.proposer and not rules.may_decide(by.role, action.risk):
        raise Forbidden(_takes(rules.of(action.risk).role, action.risk, by.role))
    if not moving.move(session, action_id, "cancelled", at=now, witness=str(by.label), note=reason):
        raise Conflict(f"it is {action.status} and cannot be taken back")
    _audit(session, action, by, "action.cancelled", before={"status": action.status}, after={"reason": reason})
    return records.find(session, agent_id, action_id)


def _held(session: Session, agent_id: uuid.UUID, action_id: uuid.UUID, by: Decider, now: datetime) -> ActionView:
    """The proposal, held, after all doors: it waits, it has time left, and this one may decide on it."""
    action = records.lock(session, agent_id, action_id)
    if session.get_one(Agent, agent_id).disabled:
        raise Conflict("this agent is disabled, so nothing is done for it")
    rules = approval_rules.view(session, agent_id)
    if not rules.may_decide(by.role, action.risk):
        raise Forbidden(_takes(rules.of(action.risk).role, action.risk, by.role))
    if action.status != "proposed":
        who = f" by {action.decided_by}" if action.decided_by else ""
        raise Conflict(f"it is {action.status} already{who}")
    if action.expires_at <= now:
        raise Conflict("it has run out; propose it again")
    return action


def _takes(needed: str, risk: str, role: str) -> str:
    return f"actions of {risk} risk take the role {needed} in this agent; yours is {role}"


def _checked(given: str) -> str:
    reason = given.strip()
    if len(reason) > REASON_MAX:
        raise Invalid(f"is at most {REASON_MAX:,} characters long", field="reason")
    if "\0" in reason:
        raise Invalid("holds the character U+0000, which cannot be kept", field="reason")
    return reason


def _audit(
    session: Session,
    action: ActionView,
    by: Decider,
    what: str,
    *,
    before: Mapping[str, Any] | None = None,
    after: Mapping[str, Any] | None = None,
) -> None:
    audit.record(
        session,
        action.agent_id,
        by=by.label,
        action=what,
        subject=action.tool,
        subject_id=action.action_id,
        before=before,
        after=after,
    )
