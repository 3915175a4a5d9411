"""Agents: made, described, switched off and on again. One that is off is refused everywhere."""

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import text
from sqlmodel import Session, col, select

from hub import audit, command_ends, identity, outbox, presence_records
from hub.access import changes
from hub.access.principals import INTEGRATION_PREFIX
from hub.errors import Conflict, Forbidden, Invalid, NotFound
from hub.presence import end
from hub.presence_records import Known
from hub.tables import Agent, AgentMembership, Space, User
from hub_protocol.topics import Topics

NAME_MAX: Final = 80
ABOUT_MAX: Final = 400
OWNED_MAX: Final = 50
_TOPICS: Final = Topics.below_root()


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
    """The agents that the user belongs to; to owners also those switched off, and those that are being removed."""
    rows = session.execute(
        text(
            "SELECT a.agent_id, a.name, a.about, m.role, a.revision, a.disabled, a.deleted_at, a.created_at,"
            " (SELECT count(*) FROM devices d WHERE d.agent_id = a.agent_id AND d.deleted_at IS NULL) AS devices,"
            " (SELECT count(*) FROM spaces s WHERE s.agent_id = a.agent_id) AS spaces,"
            " (SELECT count(*) FROM agent_memberships o WHERE o.agent_id = a.agent_id AND o.revoked_at IS NULL"
            " AND o.role <> 'blocked') AS members"
            " FROM agents a JOIN agent_memberships m USING (agent_id) JOIN users u USING (user_id)"
            " WHERE m.user_id = :user AND m.revoked_at IS NULL AND m.role <> 'blocked' AND NOT u.disabled"
            " AND (m.role = 'owner' OR NOT a.disabled)"
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


def change(session: Session, agent_id: uuid.UUID, name: str, about: str, *, revision: int, by: str) -> Agent:
    """Rename and describe it; `Conflict` when it is no longer at `revision`, `Invalid` (name, about)."""
    name, about = _checked(name, about)
    agent = held(session, agent_id)
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
    agent = held(session, agent_id)
    if agent.disabled == disabled:
        return
    agent.disabled = disabled
    agent.revision += 1
    session.add(agent)
    session.flush()
    why = f"the agent {agent.name} was {'disabled' if disabled else 'enabled'} by {by}"
    if disabled:
        shut_out(session, agent_id, why)
    else:
        changes.announce_many(session, [*_usernames(session, agent_id), *_pages(session, agent_id)], "changed", why)
    _audit(session, agent, "disabled" if disabled else "enabled", by)


def shut_out(session: Session, agent_id: uuid.UUID, why: str) -> None:
    """End what the agent has open: sessions of devices and integrations, commands, feeds of its people."""
    rows = session.execute(
        text("SELECT device_id, handle FROM devices WHERE agent_id = :agent AND revoked_at IS NULL"),
        {"agent": agent_id},
    )
    handles = {row.device_id: row.handle for row in rows}
    now = datetime.now(UTC)
    ended = {}
    for device_id, evidence in presence_records.lock(session, list(handles)).items():
        if evidence.verdict != "offline":
            known = Known(device_id, agent_id, handles[device_id], evidence)
            ended[device_id] = (known, end(evidence, why, now))
    presence_records.save(session, ended)
    command_ends.give_up(session, list(handles), why, witness="the hub")
    outbox.purge(session, [_TOPICS.state(handle) for handle in handles.values()])
    changes.announce_many(session, _usernames(session, agent_id), "revoked", why)
    changes.announce_many(session, _pages(session, agent_id), "changed", why)


def held(session: Session, agent_id: uuid.UUID) -> Agent:
    """The agent, locked until this transaction ends; `NotFound` when it is gone, or going."""
    agent = session.exec(
        select(Agent)
        .where(Agent.agent_id == agent_id, col(Agent.deleted_at).is_(None))
        .with_for_update(key_share=True),
        execution_options={"populate_existing": True},
    ).one_or_none()
    if agent is None:
        raise NotFound("There is no such agent among yours.", field="agent")
    return agent


def _usernames(session: Session, agent_id: uuid.UUID) -> list[str]:
    names = session.execute(
        text(
            "SELECT handle FROM devices WHERE agent_id = :agent AND revoked_at IS NULL"
            " UNION SELECT :prefix || handle FROM integrations WHERE agent_id = :agent AND revoked_at IS NULL"
        ),
        {"agent": agent_id, "prefix": INTEGRATION_PREFIX},
    ).scalars()
    return list(names)


def _pages(session: Session, agent_id: uuid.UUID) -> list[str]:
    """What the pages that the agent's people have open are named at the broker."""
    names = session.execute(
        text(
            "SELECT c.username FROM credentials AS c JOIN user_sessions AS s USING (session_id)"
            " JOIN agent_memberships AS m USING (user_id)"
            " WHERE m.agent_id = :agent AND m.revoked_at IS NULL AND c.kind = 'browser' AND c.expires_at > now()"
        ),
        {"agent": agent_id},
    ).scalars()
    return list(names)


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
