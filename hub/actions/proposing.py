"""Somebody proposes an action: checked against its tool, weighed, bound to its digest, and stored once."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
from sqlalchemy import text
from sqlmodel import Session

from hub import audit
from hub.actions import approval_rules, digests, moving, records
from hub.actions.records import ActionView
from hub.audit.actors import Actor, kind_of
from hub.errors import Conflict, Invalid, NotFound, Throttled
from hub.idempotency import check_key
from hub.policies import judging
from hub.tables import Agent
from hub.tools import registry

WHY_MAX: Final = 1_000
# What one proposer may leave waiting for people: a device that runs wild buries nobody's own proposals.
WAITING_MAX: Final = 100
ASK_AGAIN_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Proposer:
    """Who proposes: a principal as limits know it ("device:<id>", "user:<id>", "automation:<id>"), and its name."""

    principal: str
    label: Actor


@dataclass(frozen=True, slots=True)
class Proposal:
    """What is to be done, and why. `key` makes it harmless to propose it twice; `ttl_s` is how long it may wait."""

    tool: str
    args: Mapping[str, Any] = field(default_factory=dict)
    why: str = ""
    cause_event_id: uuid.UUID | None = None
    space_id: uuid.UUID | None = None
    key: str | None = None
    ttl_s: float | None = None


@dataclass(frozen=True, slots=True)
class Proposed:
    """The action; `is_new` is False when it had been proposed with the same key before."""

    action: ActionView
    is_new: bool


def propose(
    session: Session, agent_id: uuid.UUID, proposal: Proposal, *, proposer: Proposer, now: datetime
) -> Proposed:
    """Store the proposal, for people or a policy to decide.

    Raises `Invalid` (tool, args or args.<path>, why, key, ttl_s), `NotFound` for a space, device or event that the
    agent does not have, `Conflict` when its key stands for another action or the agent is off, `Throttled` when too
    many of this proposer's wait already.
    """
    if session.get_one(Agent, agent_id).disabled:
        raise Conflict("this agent is disabled, so nothing is done for it")
    tool = registry.find(proposal.tool)
    need = tool.check(session, agent_id, proposal.args)
    why = _checked_why(proposal.why)
    _check_places(session, agent_id, proposal)
    rules = approval_rules.view(session, agent_id)
    ttl_s = rules.expires_s if proposal.ttl_s is None else proposal.ttl_s
    if not 0 < ttl_s <= approval_rules.EXPIRES_MAX_S:
        raise Invalid("is more than 0 seconds and at most 30 days", field="ttl_s")
    mark = digests.of(agent_id, tool.name, proposal.args, proposal.space_id)
    if proposal.key is not None and (known := _known(session, agent_id, proposer, proposal.key, mark)):
        return Proposed(records.find(session, agent_id, known), is_new=False)
    _check_room(session, agent_id, proposer)
    action_id = session.execute(
        text(
            "INSERT INTO actions (agent_id, space_id, kind, payload, required_scopes, risk, device_id, proposer, "
            "proposed_by, proposer_kind, why, cause_event_id, created_at, updated_at, expires_at, digest, "
            "proposed_digest, approvals_needed, idempotency_key) VALUES (:agent, :space, :tool, CAST(:args AS jsonb), "
            "CAST(:scopes AS jsonb), :risk, :device, :proposer, :label, :kind, :why, :cause, :now, :now, :expires, "
            ":digest, :digest, :needed, :key) RETURNING action_id"
        ),
        {
            "agent": agent_id,
            "space": proposal.space_id,
            "tool": tool.name,
            "args": msgspec.json.encode(dict(proposal.args)).decode(),
            "scopes": msgspec.json.encode(sorted(need.scopes)).decode(),
            "risk": need.risk,
            "device": need.device_id,
            "proposer": proposer.principal,
            "label": str(proposer.label),
            "kind": kind_of(proposer.label),
            "why": why,
            "cause": proposal.cause_event_id,
            "now": now,
            "expires": now + timedelta(seconds=ttl_s),
            "digest": mark,
            "needed": rules.of(need.risk).approvals,
            "key": proposal.key,
        },
    ).scalar_one()
    moving.step(session, agent_id, action_id, "proposed", at=now, witness=str(proposer.label), note=why)
    audit.record(
        session,
        agent_id,
        by=proposer.label,
        action="action.proposed",
        subject=tool.name,
        subject_id=action_id,
        after={"digest": mark, "risk": need.risk, "scopes": sorted(need.scopes), "why": why},
    )
    return Proposed(judging.judge(session, records.find(session, agent_id, action_id), now), is_new=True)


def _checked_why(given: str) -> str:
    why = given.strip()
    if len(why) > WHY_MAX:
        raise Invalid(f"is at most {WHY_MAX:,} characters long", field="why")
    if "\0" in why:
        raise Invalid("holds the character U+0000, which cannot be kept", field="why")
    return why


def _check_places(session: Session, agent_id: uuid.UUID, proposal: Proposal) -> None:
    for table, column, field_, value in (
        ("spaces", "space_id", "space", proposal.space_id),
        ("events", "event_id", "cause_event_id", proposal.cause_event_id),
    ):
        if value is None:
            continue
        found = session.execute(
            text(f"SELECT 1 FROM {table} WHERE {column} = :id AND agent_id = :agent"), {"id": value, "agent": agent_id}
        ).first()
        if found is None:
            raise NotFound(f"the agent has no such {table[:-1]}", field=field_)


def _known(session: Session, agent_id: uuid.UUID, proposer: Proposer, key: str, mark: str) -> uuid.UUID | None:
    """The action proposed with this key earlier. Two at once wait for each other, until the transaction ends."""
    try:
        check_key(key)
    except Invalid as error:
        raise Invalid(error.message, field="key") from None
    session.execute(
        text("SELECT pg_advisory_xact_lock(hashtextextended(:key, 2))"),
        {"key": f"{agent_id}:{proposer.principal}:{key}"},
    )
    row = session.execute(
        text(
            "SELECT action_id, proposed_digest FROM actions WHERE agent_id = :agent AND proposer = :proposer "
            "AND idempotency_key = :key"
        ),
        {"agent": agent_id, "proposer": proposer.principal, "key": key},
    ).one_or_none()
    if row is None:
        return None
    if mark != row.proposed_digest:
        raise Conflict("this key stands for another action; take a new one for each", field="key")
    return uuid.UUID(str(row.action_id))


def _check_room(session: Session, agent_id: uuid.UUID, proposer: Proposer) -> None:
    waiting = session.execute(
        text("SELECT count(*) FROM actions WHERE agent_id = :agent AND proposer = :proposer AND status = 'proposed'"),
        {"agent": agent_id, "proposer": proposer.principal},
    ).scalar_one()
    if waiting >= WAITING_MAX:
        raise Throttled(
            f"{WAITING_MAX} of your proposals wait for people already; propose more when they are decided",
            retry_after_s=ASK_AGAIN_S,
        )
