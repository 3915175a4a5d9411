"""Agents: made, described, switched off and on again, and deleted with all that is theirs, bit by bit."""

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import text
from sqlmodel import Session, col, select

from hub import audit, identity, presence_records
from hub.access import changes
from hub.access.principals import INTEGRATION_PREFIX
from hub.errors import Conflict, Forbidden, Invalid, NotFound
from hub.presence import end
from hub.presence_records import Known
from hub.tables import Agent, AgentMembership, Space, User

NAME_MAX: Final = 80
ABOUT_MAX: Final = 400
OWNED_MAX: Final = 50
# Rows of one table that one transaction removes.
PURGE_AT_ONCE: Final = 5_000
# What grows without bound, each by what leads to the agent; the rest goes with the agent's own row.
_BIG: Final = ("feed_entries", "denials", "commands", "events", "memories", "actions")


@dataclass(frozen=True, slots=True)
class AgentView:
    """An agent as its people see it, those switched off and those that are going too."""

    agent_id: uuid.UUID
    name: str
    about: str
    role: str
    revision: int
    disabled: bool
    deleted_at: datetime | None
    created_at: datetime
    devices: int
    spaces: int
    members: int


@dataclass(frozen=True, slots=True)
class Losses:
    """What is gone when an agent is deleted, as counts."""

    devices: int
    integrations: int
    members: int
    spaces: int
    roles: int
    events: int
    commands: int
    memories: int
    actions: int


def create(session: Session, user_id: uuid.UUID, name: str, about: str = "", *, by: str) -> Agent:
    """A new agent with a space named Home; the user becomes its owner.

    Whoever owns an agent may make another: `Forbidden` for others, `Conflict` for too many, `Invalid` (name, about).
    """
    name, about = _checked(name, about)
    # Held until the end: two at once must not both find the last place free.
    user = session.get_one(User, user_id, with_for_update=True)
    owned = session.exec(
        select(AgentMembership.agent_id)
        .join(Agent, col(Agent.agent_id) == AgentMembership.agent_id)
        .where(AgentMembership.user_id == user_id, AgentMembership.role == "owner", col(Agent.deleted_at).is_(None))
    ).all()
    if not owned:
        raise Forbidden("only those who own an agent make another; ask an owner, or the hub's operator")
    if len(owned) >= OWNED_MAX:
        raise Conflict(f"you own {OWNED_MAX} agents already", field="name")
    return create_for(session, user, name, about, by=by)


def create_for(session: Session, owner: User, name: str, about: str = "", *, by: str) -> Agent:
    """The same for an owner whom the hub's operator names. Raises `Invalid` (name, about)."""
    name, about = _checked(name, about)
    agent = Agent(name=name, about=about)
    session.add(agent)
    session.flush()
    session.add(Space(agent_id=agent.agent_id, name=identity.FIRST_NAME))
    session.flush()
    _audit(session, agent, "created", by, after={"name": name, "about": about})
    identity.join(session, agent.agent_id, owner, "owner", by=by)
    return agent


def of_user(session: Session, user_id: uuid.UUID) -> list[AgentView]:
    """All agents that the user belongs to: also those switched off, and those that are being removed."""
    rows = session.execute(
        text(
            "SELECT a.agent_id, a.name, a.about, m.role, a.revision, a.disabled, a.deleted_at, a.created_at,"
            " (SELECT count(*) FROM devices d WHERE d.agent_id = a.agent_id AND d.deleted_at IS NULL) AS devices,"
            " (SELECT count(*) FROM spaces s WHERE s.agent_id = a.agent_id) AS spaces,"
            " (SELECT count(*) FROM agent_memberships o WHERE o.agent_id = a.agent_id AND o.revoked_at IS NULL"
            " AND o.role <> 'blocked') AS members"
            " FROM agents a JOIN agent_memberships m USING (agent_id) JOIN users u USING (user_id)"
            " WHERE m.user_id = :user AND m.revoked_at IS NULL AND m.role <> 'blocked' AND NOT u.disabled"
            " ORDER BY a.deleted_at IS NOT NULL, a.disabled, a.created_at, a.agent_id"
        ),
        {"user": user_id},
    )
    return [AgentView(**row._mapping) for row in rows]  # noqa: SLF001  (SQLAlchemy's public name)


def view(session: Session, user_id: uuid.UUID, agent_id: uuid.UUID) -> AgentView:
    """One of them; `NotFound` for one that is not the user's, or is being removed."""
    for found in of_user(session, user_id):
        if found.agent_id == agent_id and found.deleted_at is None:
            return found
    raise NotFound("There is no such agent among yours.", field="agent")


def losses(session: Session, agent_id: uuid.UUID) -> Losses:
    """What would be gone."""
    counts = {
        "devices": "devices WHERE agent_id = :agent AND deleted_at IS NULL",
        "integrations": "integrations WHERE agent_id = :agent",
        "members": "agent_memberships WHERE agent_id = :agent AND revoked_at IS NULL",
        "spaces": "spaces WHERE agent_id = :agent",
        "roles": "roles WHERE agent_id = :agent",
        "events": "events WHERE agent_id = :agent",
        "commands": "commands WHERE agent_id = :agent",
        "memories": "memories WHERE agent_id = :agent",
        "actions": "actions WHERE agent_id = :agent",
    }
    chosen = ", ".join(f"(SELECT count(*) FROM {what}) AS {name}" for name, what in counts.items())
    row = session.execute(text(f"SELECT {chosen}"), {"agent": agent_id}).one()
    return Losses(**row._mapping)  # noqa: SLF001  (SQLAlchemy's public name)


def change(session: Session, agent_id: uuid.UUID, name: str, about: str, *, revision: int, by: str) -> Agent:
    """Rename and describe it; `Conflict` when it is no longer at `revision`, `Invalid` (name, about)."""
    name, about = _checked(name, about)
    agent = _locked(session, agent_id)
    if agent.revision != revision:
        raise Conflict(f"somebody changed it meanwhile: it is now named {agent.name}", field="revision")
    before = {"name": agent.name, "about": agent.about}
    after = {"name": name, "about": about}
    if before == after:
        return agent
    agent.name, agent.about = name, about
    agent.revision += 1
    session.add(agent)
    session.flush()
    _audit(session, agent, "changed", by, before=before, after=after)
    return agent


def set_disabled(session: Session, agent_id: uuid.UUID, *, disabled: bool, by: str) -> None:
    """Switch it off, so that nobody and nothing of it is let in, or on again; at once on open sessions."""
    agent = _locked(session, agent_id)
    if agent.disabled == disabled:
        return
    agent.disabled = disabled
    agent.revision += 1
    session.add(agent)
    session.flush()
    why = f"the agent was {'disabled' if disabled else 'enabled'} by {by}"
    if disabled:
        _all_offline(session, agent_id, why)
    _announce(session, agent_id, why)
    _audit(session, agent, "disabled" if disabled else "enabled", by)


def delete(session: Session, agent_id: uuid.UUID, typed: str, *, by: str) -> Losses:
    """Delete it for good: it is gone for everybody at once, and its rows are removed in the background.

    `typed` must be its name. What was done to it stays in the audit. Returns what is lost.
    """
    agent = _locked(session, agent_id)
    if typed.strip() != agent.name:
        raise Invalid(f"type the agent's name, {agent.name}, to delete it", field="typed")
    lost = losses(session, agent_id)
    session.execute(
        text(
            "INSERT INTO retired_handles (handle) SELECT handle FROM devices WHERE agent_id = :agent"
            " UNION SELECT handle FROM integrations WHERE agent_id = :agent ON CONFLICT DO NOTHING"
        ),
        {"agent": agent_id},
    )
    why = f"the agent was deleted by {by}"
    _all_offline(session, agent_id, why)
    agent.disabled, agent.deleted_at, agent.deleted_by = True, datetime.now(UTC), by
    session.add(agent)
    session.flush()
    _announce(session, agent_id, why)
    facts = {name: getattr(lost, name) for name in Losses.__slots__}
    _audit(session, agent, "deleted", by, before={"name": agent.name}, after=facts)
    audit.record(session, None, by=by, action="agent.deleted", subject=agent.name, subject_id=agent_id, after=facts)
    return lost


def purge(session: Session) -> bool:
    """Remove a bounded part of what deleted agents left; False when nothing is left to do."""
    row = session.execute(
        text(
            "SELECT agent_id FROM agents WHERE deleted_at IS NOT NULL ORDER BY deleted_at LIMIT 1"
            " FOR UPDATE SKIP LOCKED"
        )
    ).first()
    if row is None:
        return False
    for table in _BIG:
        gone = session.execute(
            text(
                f"DELETE FROM {table} WHERE ctid = ANY(ARRAY("
                f"SELECT ctid FROM {table} WHERE agent_id = :agent LIMIT :limit))"
            ),
            {"agent": row.agent_id, "limit": PURGE_AT_ONCE},
        )
        if getattr(gone, "rowcount", 0):
            return True
    session.execute(text("DELETE FROM agents WHERE agent_id = :agent"), {"agent": row.agent_id})
    return True


def remaining(session: Session, agent_id: uuid.UUID) -> int:
    """How many rows of a deleted agent are still there."""
    summed = " + ".join(f"(SELECT count(*) FROM {table} WHERE agent_id = :agent)" for table in _BIG)
    return int(session.execute(text(f"SELECT {summed}"), {"agent": agent_id}).scalar_one())


def _all_offline(session: Session, agent_id: uuid.UUID, why: str) -> None:
    rows = session.execute(text("SELECT device_id, handle FROM devices WHERE agent_id = :agent"), {"agent": agent_id})
    handles = {row.device_id: row.handle for row in rows}
    now = datetime.now(UTC)
    ended = {}
    for device_id, evidence in presence_records.lock(session, list(handles)).items():
        if evidence.verdict != "offline":
            known = Known(device_id, agent_id, handles[device_id], evidence)
            ended[device_id] = (known, end(evidence, why, now))
    presence_records.save(session, ended)


def _announce(session: Session, agent_id: uuid.UUID, why: str) -> None:
    names = session.execute(
        text(
            "SELECT handle FROM devices WHERE agent_id = :agent AND revoked_at IS NULL"
            " UNION SELECT :prefix || handle FROM integrations WHERE agent_id = :agent AND revoked_at IS NULL"
        ),
        {"agent": agent_id, "prefix": INTEGRATION_PREFIX},
    ).scalars()
    changes.announce_many(session, names.all(), "changed", why)
    users = session.execute(
        text("SELECT user_id FROM agent_memberships WHERE agent_id = :agent AND revoked_at IS NULL"),
        {"agent": agent_id},
    ).scalars()
    for user_id in users.all():
        changes.announce_user(session, user_id, "changed", why)


def _locked(session: Session, agent_id: uuid.UUID) -> Agent:
    agent = session.exec(
        select(Agent)
        .where(Agent.agent_id == agent_id, col(Agent.deleted_at).is_(None))
        .with_for_update(key_share=True),
        execution_options={"populate_existing": True},
    ).one_or_none()
    if agent is None:
        raise NotFound("There is no such agent among yours.", field="agent")
    return agent


def _checked(name: str, about: str) -> tuple[str, str]:
    name, about = " ".join(name.split()), " ".join(about.split())
    if not name or len(name) > NAME_MAX or not name.isprintable():
        raise Invalid(f"is 1 to {NAME_MAX} printable characters", field="name")
    if len(about) > ABOUT_MAX or not about.isprintable():
        raise Invalid(f"is at most {ABOUT_MAX} printable characters", field="about")
    return name, about


def _audit(session: Session, agent: Agent, verb: str, by: str, **facts: Any) -> None:
    audit.record(
        session,
        agent.agent_id,
        by=by,
        action=f"agent.{verb}",
        subject=agent.name,
        subject_id=agent.agent_id,
        **facts,
    )
