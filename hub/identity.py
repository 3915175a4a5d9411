"""Who there is: agents and their spaces, users, and what each user is to each agent."""

from typing import Final
from uuid import UUID

from email_validator import SPECIAL_USE_DOMAIN_NAMES, EmailNotValidError, validate_email
from sqlalchemy import ColumnElement, and_, exists, func, or_, text
from sqlmodel import Session, col, select

from hub import audit, passwords
from hub.access import changes
from hub.errors import Conflict, Forbidden, Invalid, NotFound
from hub.tables import Agent, AgentMembership, Space, User, UserIdentity

# Lowest first. `blocked` is no role: whoever has it is no member, here and in every list.
ROLES: Final = ("guest", "member", "admin", "owner")
FIRST_NAME: Final = "Home"
MAX_NAME: Final = 100

# Nothing is ever sent to these addresses, so names that exist in a home network alone ("ann@hub.local") will do.
SPECIAL_USE_DOMAIN_NAMES[:] = [name for name in SPECIAL_USE_DOMAIN_NAMES if name not in {"local", "arpa", "localhost"}]


def check_email(email: str) -> str:
    """The address in lower case; raises `Invalid`."""
    try:
        checked = validate_email(email.strip(), check_deliverability=False, globally_deliverable=False)
    except EmailNotValidError as error:
        raise Invalid(f"This is not an e-mail address: {error}", field="email") from None
    return checked.normalized.lower()


def check_display_name(name: str) -> str:
    """The name in one line without surrounding space; raises `Invalid`."""
    name = " ".join(name.split())
    if len(name) > MAX_NAME:
        raise Invalid(f"Use at most {MAX_NAME} characters.", field="display_name")
    if not name.isprintable():
        raise Invalid("Control characters cannot be part of a name.", field="display_name")
    return name


def ensure_first_agent(session: Session) -> Agent:
    """The oldest agent; on a fresh instance "Home" with a space of that name is made, once, however many ask."""
    hold_agents(session)
    for oldest in list_agents(session):
        return oldest
    agent = Agent(name=FIRST_NAME)
    session.add(agent)
    session.flush()
    space = Space(agent_id=agent.agent_id, name=FIRST_NAME)
    session.add(space)
    session.flush()
    for noun, made in (("agent", agent.agent_id), ("space", space.space_id)):
        audit.record(
            session,
            agent.agent_id,
            by="the hub",
            action=f"{noun}.created",
            subject=FIRST_NAME,
            subject_id=made,
            after={"name": FIRST_NAME},
        )
    return agent


def hold_agents(session: Session) -> None:
    """Until this transaction ends nobody else makes the first agent, or deletes one."""
    session.execute(text("SELECT pg_advisory_xact_lock(hashtextextended('marvain: first agent', 0))"))


def list_agents(session: Session) -> list[Agent]:
    """All agents, disabled ones too, the oldest first; not those that are being deleted."""
    there = select(Agent).where(col(Agent.deleted_at).is_(None))
    return list(session.exec(there.order_by(col(Agent.created_at), col(Agent.agent_id))))


def find_agent(session: Session, ref: str | None = None) -> Agent:
    """The agent of that name or id; without a ref the only one there is."""
    agents = list_agents(session)
    choices = ", ".join(agent.name for agent in agents) or "none yet"
    if ref is None:
        if len(agents) == 1:
            return agents[0]
        raise Invalid(f"say which agent is meant; there are: {choices}", field="agent")
    found = [agent for agent in agents if str(agent.agent_id) == ref.lower()]
    found = found or [agent for agent in agents if agent.name == ref]
    found = found or [agent for agent in agents if agent.name.casefold() == ref.casefold()]
    if not found:
        raise NotFound(f"there is no agent {ref!r}; there are: {choices}", field="agent")
    if len(found) > 1:
        raise Invalid(f"several agents are named {ref!r}; give the id of the one that is meant", field="agent")
    return found[0]


def spaces_of(session: Session, agent_id: UUID) -> list[Space]:
    """The agent's spaces by name."""
    spaces = select(Space).where(Space.agent_id == agent_id).order_by(func.lower(Space.name), col(Space.space_id))
    return list(session.exec(spaces))


def find_space(session: Session, agent_id: UUID, ref: str) -> Space:
    """The agent's space of that name or id; another agent's is not found."""
    spaces = spaces_of(session, agent_id)
    found = [space for space in spaces if str(space.space_id) == ref.lower()]
    found = found or [space for space in spaces if space.name == ref]
    found = found or [space for space in spaces if space.name.casefold() == ref.casefold()]
    if not found:
        choices = ", ".join(space.name for space in spaces) or "none yet"
        raise NotFound(f"there is no space {ref!r} in this agent; there are: {choices}", field="space")
    if len(found) > 1:
        raise Invalid(f"several spaces are named {ref!r}; give the id of the one that is meant", field="space")
    return found[0]


def memberships_of(session: Session, user_id: UUID) -> list[tuple[Agent, str]]:
    """The agents that the user may see, with the role in each; the oldest first."""
    rows = session.exec(
        select(Agent, AgentMembership.role)
        .join(AgentMembership, col(AgentMembership.agent_id) == Agent.agent_id)
        .join(User, col(User.user_id) == AgentMembership.user_id)
        .where(AgentMembership.user_id == user_id, *_effective())
        .order_by(col(Agent.created_at), col(Agent.agent_id))
    )
    return list(rows)


def role_in(session: Session, user_id: UUID, agent_id: UUID) -> str | None:
    """The user's role in the agent; None for no member, a blocked or revoked one, a disabled user or agent."""
    return session.exec(
        select(AgentMembership.role)
        .join(Agent, col(Agent.agent_id) == AgentMembership.agent_id)
        .join(User, col(User.user_id) == AgentMembership.user_id)
        .where(AgentMembership.user_id == user_id, AgentMembership.agent_id == agent_id, *_effective())
    ).one_or_none()


def require_role(session: Session, user_id: UUID, agent_id: UUID, at_least: str) -> str:
    """The role, when it is enough: `NotFound` for those who are no members, `Forbidden` for a role that is too low."""
    role = role_in(session, user_id, agent_id)
    if role is None:
        raise NotFound("There is no such agent among yours.", field="agent")
    if ROLES.index(role) < ROLES.index(at_least):
        raise Forbidden(f"This takes the role {at_least} in this agent; yours is {role}.")
    return role


def join(session: Session, agent_id: UUID, user: User, role: str | None = None, *, by: str = "the hub") -> str:
    """Make the user a member or change their role; returns it. By default the first is owner, others are members.

    Raises `Conflict` for a second owner, and for the owner's own role: ownership is handed over, never overwritten.
    """
    session.flush()
    owner = session.exec(
        select(AgentMembership.user_id).where(
            AgentMembership.agent_id == agent_id,
            AgentMembership.role == "owner",
            col(AgentMembership.revoked_at).is_(None),
        )
    ).first()
    membership = session.get(AgentMembership, (agent_id, user.user_id))
    if membership is not None and membership.revoked_at is None and role in {None, membership.role}:
        return membership.role
    if owner == user.user_id:
        raise Conflict("the owner's role cannot be changed", field="role")
    role = role or ("owner" if owner is None else "member")
    if role == "owner" and owner is not None:
        raise Conflict("the agent has an owner already", field="role")
    before = {"role": membership.role} if membership is not None and membership.revoked_at is None else None
    membership = membership or AgentMembership(agent_id=agent_id, user_id=user.user_id, role=role)
    membership.role = role
    membership.revoked_at = None
    session.add(membership)
    session.flush()
    changes.announce_user(session, user.user_id, "changed", f"made {role} by {by}")
    audit.record(
        session,
        agent_id,
        by=by,
        action="member.role_changed" if before else "member.added",
        subject=user.email or str(user.user_id),
        subject_id=user.user_id,
        before=before,
        after={"role": role},
    )
    return role


def create_user(
    session: Session, email: str, display_name: str = "", password: str | None = None, *, by: str = "the hub"
) -> User:
    """Somebody new. A row of that address which never could sign in (from an earlier system) becomes that user."""
    email = check_email(email)
    display_name = check_display_name(display_name)
    known = find_user(session, email)
    if known is not None and has_way_in(session, known):
        raise Conflict(f"There is a user {email} already.", field="email")
    user = known or User(email=email)
    if display_name:
        user.display_name = display_name
    session.add(user)
    if password is not None:
        set_password(session, user, password)
    session.flush()
    audit.record(
        session,
        None,
        by=by,
        action="user.created",
        subject=email,
        subject_id=user.user_id,
        after={"display_name": user.display_name, "has_password": user.password_hash is not None},
    )
    return user


def find_user(session: Session, email: str) -> User | None:
    """The user of that address: the one that can sign in, else the oldest that bears it."""
    return session.exec(
        select(User)
        .where(func.lower(User.email) == email.strip().lower())
        .order_by(col(User.password_hash).is_(None), ~_way_in(), col(User.created_at), col(User.user_id))
        .limit(1)
    ).first()


def can_sign_in() -> ColumnElement[bool]:
    """Who can sign in, in a query of users: not disabled, with a password or an identity at a provider."""
    return and_(col(User.disabled).is_(False), _way_in())


def has_way_in(session: Session, user: User) -> bool:
    """Whether this user, disabled or not, has a password or an identity at a provider."""
    session.flush()
    return session.exec(select(User.user_id).where(User.user_id == user.user_id, _way_in())).first() is not None


def rename(session: Session, user_id: UUID, display_name: str, *, by: str) -> None:
    """Give the user the name that others see, or none; raises `Invalid`."""
    name = check_display_name(display_name) or None
    user = session.get_one(User, user_id)
    if name == user.display_name:
        return
    before, user.display_name = user.display_name, name
    session.add(user)
    session.flush()
    audit.record(
        session,
        None,
        by=by,
        action="user.renamed",
        subject=user.email or str(user_id),
        subject_id=user_id,
        before={"display_name": before},
        after={"display_name": name},
    )


def set_password(session: Session, user: User, password: str) -> None:
    """Give the user this password; raises `Invalid` naming the rule that it breaks."""
    passwords.check_new(password, email=user.email or "")
    user.password_hash = passwords.hash_new(password)
    session.add(user)
    session.flush()


def has_owner(session: Session) -> bool:
    """Whether somebody who can sign in owns an agent; until then the set-up link is the way in."""
    found = session.exec(
        select(AgentMembership.user_id)
        .join(User, col(User.user_id) == AgentMembership.user_id)
        .where(
            AgentMembership.role == "owner",
            col(AgentMembership.revoked_at).is_(None),
            can_sign_in(),
        )
        .limit(1)
    ).first()
    return found is not None


def _way_in() -> ColumnElement[bool]:
    return or_(col(User.password_hash).is_not(None), exists().where(col(UserIdentity.user_id) == col(User.user_id)))


def _effective() -> tuple[ColumnElement[bool], ...]:
    """What makes a membership count, in a query that joins agents and users."""
    return (
        col(AgentMembership.revoked_at).is_(None),
        col(AgentMembership.role).in_(ROLES),
        col(Agent.disabled).is_(False),
        col(User.disabled).is_(False),
    )
