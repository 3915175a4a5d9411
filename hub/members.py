"""What people are to an agent, changed by its admins: at once on pages that are open, and never into a lock-out."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

from sqlalchemy import text
from sqlmodel import Session, col, select

from hub import audit, identity, joining, links
from hub.access import changes
from hub.audit.actors import Actor
from hub.errors import Conflict, Forbidden, Invalid, NotFound
from hub.tables import AgentMembership, User

_CHANGING: Final = frozenset({"owner", "admin"})
# Nobody becomes owner by an invitation.
INVITABLE: Final = ("guest", "member", "admin")


@dataclass(frozen=True, slots=True)
class MemberView:
    """A member as a page shows it; `invited_until` while a link waits for somebody who never signed in."""

    user_id: UUID
    email: str
    display_name: str
    role: str
    since: datetime
    last_seen: datetime | None
    can_sign_in: bool
    disabled: bool
    invited_until: datetime | None


@dataclass(frozen=True, slots=True)
class Invitation:
    """Who was invited, and the token of their one-time link, seen this once.

    `is_new`: it lets them choose a password, and they are a member already; else it lets them join, signed in.
    """

    user_id: UUID
    email: str
    token: str
    is_new: bool


def overview(session: Session, agent_id: UUID, now: datetime, *, with_blocked: bool = True) -> list[MemberView]:
    """The agent's members: the owner first, then by role and name; those blocked come last."""
    rows = session.execute(
        text(
            "SELECT u.user_id, coalesce(u.email, '') AS email, coalesce(u.display_name, '') AS display_name, m.role,"
            " m.created_at AS since, u.last_seen,"
            " (u.password_hash IS NOT NULL OR EXISTS (SELECT FROM user_identities i WHERE i.user_id = u.user_id))"
            " AS can_sign_in, u.disabled,"
            " (SELECT max(l.expires_at) FROM one_time_links AS l WHERE l.user_id = u.user_id AND l.purpose = 'invite'"
            " AND l.used_at IS NULL AND l.expires_at > :now) AS invited_until"
            " FROM agent_memberships AS m JOIN users AS u USING (user_id)"
            " WHERE m.agent_id = :agent AND m.revoked_at IS NULL AND (:with_blocked OR m.role <> 'blocked')"
            " ORDER BY array_position(ARRAY['owner', 'admin', 'member', 'guest', 'blocked'], m.role),"
            " lower(coalesce(nullif(u.display_name, ''), u.email)), u.user_id"
        ),
        {"agent": agent_id, "now": now, "with_blocked": with_blocked},
    )
    return [MemberView(**row._mapping) for row in rows]  # noqa: SLF001  (SQLAlchemy's public name)


def view(session: Session, agent_id: UUID, user_id: UUID, now: datetime) -> MemberView:
    """One member, also a blocked one; `NotFound` for who is none."""
    for found in overview(session, agent_id, now):
        if found.user_id == user_id:
            return found
    raise NotFound("there is no such member", field="user")


def invite(
    session: Session, agent_id: UUID, email: str, role: str, *, by_user_id: UUID, now: datetime, name: str = ""
) -> Invitation:
    """Invite somebody by their address; the link, which replaces earlier ones, is for them alone.

    Who has no account yet is a member at once and chooses a password by it. Who has one joins by it, signed in: see
    `hub.joining`. Raises `Invalid` (email, role), `Forbidden` for who may not, and `Conflict` for who is a member (or
    blocked) already, and for an account that another agent made and that nobody has used yet: by a link of ours, one
    of our admins would become that person there.
    """
    if role not in INVITABLE:
        raise Invalid(f"is one of {', '.join(INVITABLE)}", field="role")
    address = identity.check_email(email)
    name = identity.check_display_name(name)
    members = _locked(session, agent_id)
    actor = _actor(session, agent_id, by_user_id, "")
    user = identity.find_user(session, address)
    if user is not None and user.user_id in members:
        role_now = members[user.user_id].role
        standing = "blocked here" if role_now == "blocked" else f"{role_now} already"
        raise Conflict(f"{address} is {standing}", field="email")
    if user is not None and identity.has_way_in(session, user):
        token = joining.link(session, agent_id, user, role, now, by=actor)
        _audit(session, agent_id, user.user_id, "invited", actor, None, {"role": role})
        return Invitation(user.user_id, address, token, is_new=False)
    if user is not None:
        _refuse_elsewhere(session, agent_id, user)
    user = user or identity.create_user(session, address, name, by=actor)
    identity.join(session, agent_id, user, role, by=actor)
    return Invitation(user.user_id, address, links.invite_link(session, user, now, by=actor), is_new=True)


def invite_again(session: Session, agent_id: UUID, user_id: UUID, *, by_user_id: UUID, now: datetime) -> Invitation:
    """A new link for a member who never signed in; the one before is worthless.

    `Conflict` for who can sign in, or belongs to another agent too: the link would make its bearer that person there.
    """
    members = _locked(session, agent_id)
    actor = _actor(session, agent_id, by_user_id, "")
    _member(members, user_id)
    user = session.get_one(User, user_id)
    if identity.has_way_in(session, user):
        raise Conflict("they can sign in already; a new password comes from the hub's operator (marvain user reset)")
    _refuse_elsewhere(session, agent_id, user)
    return Invitation(user_id, user.email or "", links.invite_link(session, user, now, by=actor), is_new=True)


def _refuse_elsewhere(session: Session, agent_id: UUID, user: User) -> None:
    elsewhere = session.execute(
        text(
            "SELECT 1 FROM agent_memberships WHERE user_id = :user AND agent_id <> :agent AND revoked_at IS NULL"
            " LIMIT 1"
        ),
        {"user": user.user_id, "agent": agent_id},
    ).first()
    if elsewhere is not None:
        raise Conflict(
            f"{user.email} was invited by another agent and has not come yet; ask them to use that link first",
            field="email",
        )


def set_role(
    session: Session, agent_id: UUID, user_id: UUID, role: str, *, by_user_id: UUID | None, by: str = ""
) -> None:
    """Give a member (also a blocked one) this role. To make somebody owner hands ownership over.

    `by_user_id` is the admin who does it; None is the hub's operator, named by `by`. Raises `Invalid` for an unknown
    role, `NotFound` for who is no member, `Forbidden` for who may not do it, and `Conflict` for the owner's own role
    and for the last admin's.
    """
    if role not in identity.ROLES:
        raise Invalid(f"is one of {', '.join(identity.ROLES)}", field="role")
    members = _locked(session, agent_id)
    actor = _actor(session, agent_id, by_user_id, by)
    membership = _member(members, user_id)
    if membership.role == role:
        return
    if role == "owner":
        _hand_over(session, members, membership, by_user_id, actor)
        return
    _keep_owner(membership)
    if role not in _CHANGING:
        _keep_last_admin(session, members, membership)
    _change(session, membership, role, actor)


def remove(session: Session, agent_id: UUID, user_id: UUID, *, by_user_id: UUID | None, by: str = "") -> None:
    """End a membership; the account stays. Raises as `set_role`; members may remove themselves."""
    members = _locked(session, agent_id)
    actor = _actor(session, agent_id, by_user_id, by, may_be=user_id)
    membership = _member(members, user_id)
    _keep_owner(membership)
    _keep_last_admin(session, members, membership)
    before = {"role": membership.role}
    session.delete(membership)
    session.flush()
    changes.announce_user(session, user_id, "changed", f"the membership was ended by {actor}")
    _audit(session, agent_id, user_id, "removed", actor, before, None)


def block(session: Session, agent_id: UUID, user_id: UUID, *, by_user_id: UUID | None, by: str = "") -> None:
    """Keep somebody out until they are given a role again. Raises as `set_role`."""
    members = _locked(session, agent_id)
    actor = _actor(session, agent_id, by_user_id, by)
    membership = _member(members, user_id)
    if membership.role == "blocked":
        return
    _keep_owner(membership)
    _keep_last_admin(session, members, membership)
    _change(session, membership, "blocked", actor)


def _hand_over(
    session: Session,
    members: dict[UUID, AgentMembership],
    heir: AgentMembership,
    by_user_id: UUID | None,
    actor: str,
) -> None:
    owner = next((one for one in members.values() if one.role == "owner"), None)
    if by_user_id is not None and (owner is None or by_user_id != owner.user_id):
        raise Forbidden("Only the owner can hand ownership over; where there is none, the hub's operator names one.")
    user = session.get_one(User, heir.user_id)
    if user.disabled or not identity.has_way_in(session, user):
        raise Conflict("an owner must be able to sign in; this account cannot yet", field="role")
    if owner is not None:  # first, so that there are never two
        _change(session, owner, "admin", actor)
    _change(session, heir, "owner", actor)


def _change(session: Session, membership: AgentMembership, role: str, actor: str) -> None:
    before = {"role": membership.role}
    membership.role = role
    session.add(membership)
    session.flush()
    # Pages of guests subscribe to other topics: they come back by themselves, with those of their new role.
    kind: changes.Kind = "ended" if "guest" in (before["role"], role) else "changed"
    changes.announce_user(session, membership.user_id, kind, f"made {role} by {actor}")
    verb = "blocked" if role == "blocked" else "role_changed"
    _audit(session, membership.agent_id, membership.user_id, verb, actor, before, {"role": role})


def _locked(session: Session, agent_id: UUID) -> dict[UUID, AgentMembership]:
    """All memberships of the agent, held until this transaction ends: two changes at once see each other."""
    rows = session.exec(
        select(AgentMembership)
        .where(AgentMembership.agent_id == agent_id, col(AgentMembership.revoked_at).is_(None))
        .order_by(col(AgentMembership.user_id))
        .with_for_update(),
        execution_options={"populate_existing": True},
    )
    return {one.user_id: one for one in rows}


def _actor(session: Session, agent_id: UUID, by_user_id: UUID | None, by: str, *, may_be: UUID | None = None) -> str:
    """Who does it, for the audit; `Forbidden` or `NotFound` unless it is an admin (or `may_be`, a member)."""
    if by_user_id is None:
        return by or "the hub"
    identity.require_role(session, by_user_id, agent_id, "guest" if by_user_id == may_be else "admin")
    user = session.get_one(User, by_user_id)
    return Actor(user.email or user.display_name or str(by_user_id), "person")


def _member(members: dict[UUID, AgentMembership], user_id: UUID) -> AgentMembership:
    membership = members.get(user_id)
    if membership is None:
        raise NotFound("there is no such member", field="user")
    return membership


def _keep_owner(membership: AgentMembership) -> None:
    if membership.role == "owner":
        raise Conflict("the owner stays until ownership is handed over: make somebody else owner first", field="role")


def _keep_last_admin(session: Session, members: dict[UUID, AgentMembership], membership: AgentMembership) -> None:
    """`Conflict` when nobody who can sign in would be left to change anything."""
    able = set(
        session.exec(
            select(User.user_id).where(
                col(User.user_id).in_([one.user_id for one in members.values() if one.role in _CHANGING]),
                identity.can_sign_in(),
            )
        )
    )
    if able == {membership.user_id}:
        raise Conflict(
            "this is the last one who can change anything here; make somebody else admin first", field="role"
        )


def _audit(
    session: Session,
    agent_id: UUID,
    user_id: UUID,
    verb: str,
    actor: str,
    before: dict[str, str] | None,
    after: dict[str, str] | None,
) -> None:
    user = session.get_one(User, user_id)
    audit.record(
        session,
        agent_id,
        by=actor,
        action=f"member.{verb}",
        subject=user.email or user.display_name or str(user_id),
        subject_id=user_id,
        before=before,
        after=after,
    )
