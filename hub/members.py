"""What people are to an agent, changed by its admins: at once on pages that are open, and never into a lock-out."""

from typing import Final
from uuid import UUID

from sqlmodel import Session, col, select

from hub import audit, identity
from hub.access import changes
from hub.errors import Conflict, Forbidden, Invalid, NotFound
from hub.tables import AgentMembership, User

_CHANGING: Final = frozenset({"owner", "admin"})


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
    if user.disabled or user.password_hash is None:
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
    return user.email or user.display_name or str(by_user_id)


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
                col(User.disabled).is_(False),
                col(User.password_hash).is_not(None),
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
