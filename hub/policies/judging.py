"""A proposal before the agent's policies: the first that covers it approves it, and the decision is stored with it."""

import uuid
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
from sqlalchemy import text
from sqlmodel import Session

from hub import audit
from hub.actions import moving, queue, records
from hub.actions.records import ActionView
from hub.audit.actors import Actor
from hub.policies import match
from hub.policies import records as policies
from hub.policies.match import Asked
from hub.policies.records import PolicyView

REASONS_MAX: Final = 10


def judge(session: Session, action: ActionView, now: datetime) -> ActionView:
    """Approve it if a policy covers it; what was decided, and why, is stored either way where there are policies.

    A policy is nobody's second yes: what takes several people is theirs alone.
    """
    known = policies.enabled_for(session, action.agent_id, action.tool)
    if not known:
        return action
    asked = asked_of(session, action, now)
    reasons: dict[str, str] = {}
    for policy in known:
        why = match.fault(policy.row, asked)
        if not why and action.approvals_needed > 1:
            why = f"it takes {action.approvals_needed} people"
        if not why and _is_spent(session, policy, now):
            why = f"it approves at most {policy.rate_count} in {policy.rate_s:g} s"
        if not why:
            _approve(session, action, policy, now)
            return records.find(session, action.agent_id, action.action_id)
        reasons[policy.name] = why
    told = dict(list(reasons.items())[:REASONS_MAX])
    session.execute(
        text("UPDATE actions SET policy = CAST(:policy AS jsonb) WHERE action_id = :id"),
        {"id": action.action_id, "policy": msgspec.json.encode({"covered": False, "why_not": told}).decode()},
    )
    return records.find(session, action.agent_id, action.action_id)


def asked_of(session: Session, action: ActionView, at: datetime) -> Asked:
    """The action as a policy sees it."""
    tags = session.execute(
        text("SELECT tag FROM device_tags WHERE device_id = :id"), {"id": action.device_id}
    ).scalars()
    return Asked(
        action.tool,
        action.args,
        frozenset(action.scopes),
        action.risk,
        action.device_id,
        frozenset(tags) if action.device_id else frozenset(),
        action.proposer_kind,
        at,
    )


def _is_spent(session: Session, policy: PolicyView, now: datetime) -> bool:
    """Whether it has approved as many as it may. It is held, so two at once are counted one after the other."""
    if policy.rate_count is None or policy.rate_s is None:
        return False
    approved = session.execute(
        text(
            "SELECT count(*) FROM actions WHERE agent_id = :agent AND policy ->> 'policy_id' = :policy "
            "AND approved_at > :since"
        ),
        {
            "agent": policy.agent_id,
            "policy": str(policy.policy_id),
            "since": now - timedelta(seconds=policy.rate_s),
        },
    ).scalar_one()
    return int(approved) >= policy.rate_count


def _approve(session: Session, action: ActionView, policy: PolicyView, now: datetime) -> None:
    by = Actor(policy.name, "policy")
    decision: dict[str, Any] = {
        "covered": True,
        "policy_id": str(policy.policy_id),
        "name": policy.name,
        "revision": policy.revision,
    }
    moved = moving.move(
        session,
        action.action_id,
        "approved",
        at=now,
        witness=str(by),
        note="by this policy",
        approved_at=now,
        approved_digest=action.digest,
        decided_by=str(by),
        decided_kind="policy",
        decision_reason=f"the policy {policy.name}",
        policy=decision,
    )
    if not moved:
        return
    queue.put(session, action.action_id)
    audit.record(
        session,
        action.agent_id,
        by=by,
        action="action.approved",
        subject=action.tool,
        subject_id=action.action_id,
        after={"digest": action.digest, "policy_id": uuid.UUID(str(policy.policy_id)), "revision": policy.revision},
    )
