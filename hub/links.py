"""One-time links: set-up of the first owner, invitations, new passwords. Only a hash of each is stored."""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import text, update
from sqlmodel import Session, col, select

from hub import audit, identity, passwords
from hub.errors import Conflict, NotFound
from hub.sessions import end_all
from hub.tables import AgentMembership, OneTimeLink, User

LIFETIME: Final = timedelta(hours=24)
INVITE_LIFETIME: Final = timedelta(days=7)
_GONE: Final = "This link was used already, has run out, or was replaced by a newer one."


@dataclass(frozen=True)
class LinkView:
    """A link that still works; `purpose` is setup, invite or reset, the address and name are the user's."""

    purpose: str
    email: str
    display_name: str
    expires_at: datetime


def setup_link(session: Session, now: datetime) -> str | None:
    """A token that makes the first owner, replacing those handed out before; None once there is an owner."""
    _one_at_a_time(session)
    if identity.has_owner(session):
        return None
    session.execute(text("DELETE FROM one_time_links WHERE purpose = 'setup' AND used_at IS NULL"))
    audit.record(session, None, by="the hub", action="setup.offered", subject="the first owner")
    return _new(session, "setup", None, now + LIFETIME)


def invite_link(session: Session, user: User, now: datetime, *, by: str = "the hub") -> str:
    """A token with which the user chooses a password, the first or a new one; replaces the user's earlier ones."""
    session.flush()
    session.execute(
        text("DELETE FROM one_time_links WHERE user_id = :user_id AND used_at IS NULL AND purpose <> 'join'"),
        {"user_id": user.user_id},
    )
    is_new = user.password_hash is None
    _audit(session, user, "invited" if is_new else "reset_offered", by)
    if is_new:
        return _new(session, "invite", user, now + INVITE_LIFETIME)
    return _new(session, "reset", user, now + LIFETIME)


def peek_link(session: Session, token: str, now: datetime) -> LinkView | None:
    """What a link is for, without using it up; None when it does not work (any more)."""
    found = session.exec(
        select(OneTimeLink, User)
        .outerjoin(User, col(User.user_id) == OneTimeLink.user_id)
        .where(OneTimeLink.token_hash == _hash(token), col(OneTimeLink.used_at).is_(None), OneTimeLink.expires_at > now)
    ).one_or_none()
    if found is None:
        return None
    link, user = found
    if link.purpose == "setup":
        return None if identity.has_owner(session) else LinkView("setup", "", "", link.expires_at)
    if user is None or user.disabled or link.purpose == "join":
        return None
    return LinkView(link.purpose, user.email or "", user.display_name or "", link.expires_at)


def redeem(session: Session, token: str, *, email: str, display_name: str, password: str, now: datetime) -> User:
    """Use a link up: the first owner comes to be, or the user of an invitation gets the password.

    The caller rolls back when this raises (`NotFound` for a link that does not work, `Invalid`, `Conflict`), and the
    link stays good. With several at once exactly one wins.
    """
    view = peek_link(session, token, now)
    if view is None:
        raise NotFound(_GONE, field="token")
    # Looked at before the link's row is locked: hashing takes a while.
    passwords.check_new(password, email=email if view.purpose == "setup" else view.email)
    if view.purpose == "setup":
        _one_at_a_time(session)
    used = session.execute(
        update(OneTimeLink)
        .where(
            col(OneTimeLink.token_hash) == _hash(token),
            col(OneTimeLink.used_at).is_(None),
            col(OneTimeLink.expires_at) > now,
        )
        .values(used_at=now)
        .returning(col(OneTimeLink.user_id))
    ).one_or_none()
    if used is None:
        raise NotFound(_GONE, field="token")
    if view.purpose == "setup":
        return _first_owner(session, email, display_name, password, now)
    user = session.get_one(User, used.user_id)
    user.display_name = identity.check_display_name(display_name) or user.display_name
    identity.set_password(session, user, password)
    # Whoever had the old password may still be signed in with it.
    end_all(session, user.user_id, "the password was changed")
    _audit(session, user, "password_set", view.email)
    return user


def _first_owner(session: Session, email: str, display_name: str, password: str, now: datetime) -> User:
    if identity.has_owner(session):
        raise Conflict("This hub has an owner already. Sign in, or ask to be invited.")
    user = identity.create_user(session, email, display_name, password, by=identity.check_email(email))
    agent = identity.ensure_first_agent(session)
    # An owner from an earlier system who cannot sign in makes room, and stays an admin for when he is invited.
    made_room = session.execute(
        text(
            "UPDATE agent_memberships AS m SET role = 'admin' FROM users AS u WHERE m.agent_id = :agent_id"
            " AND m.role = 'owner' AND m.revoked_at IS NULL AND m.user_id <> :user_id AND u.user_id = m.user_id"
            " RETURNING m.user_id, coalesce(nullif(u.email, ''), m.user_id::text) AS name"
        ),
        {"agent_id": agent.agent_id, "user_id": user.user_id},
    ).all()
    for row in made_room:
        audit.record(
            session,
            agent.agent_id,
            by="the hub",
            action="member.role_changed",
            subject=row.name,
            subject_id=row.user_id,
            before={"role": "owner"},
            after={"role": "admin"},
        )
    membership = session.get(AgentMembership, (agent.agent_id, user.user_id))
    if membership is None:
        membership = AgentMembership(agent_id=agent.agent_id, user_id=user.user_id, role="owner", created_at=now)
    membership.role = "owner"
    membership.revoked_at = None
    session.add(membership)
    session.flush()
    name = user.email or str(user.user_id)
    audit.record(
        session,
        agent.agent_id,
        by=name,
        action="member.added",
        subject=name,
        subject_id=user.user_id,
        after={"role": "owner"},
    )
    return user


def _audit(session: Session, user: User, verb: str, by: str) -> None:
    audit.record(
        session, None, by=by, action=f"user.{verb}", subject=user.email or str(user.user_id), subject_id=user.user_id
    )


def _new(session: Session, purpose: str, user: User | None, expires_at: datetime) -> str:
    token = secrets.token_urlsafe(32)
    user_id = user.user_id if user is not None else None
    session.add(OneTimeLink(purpose=purpose, token_hash=_hash(token), user_id=user_id, expires_at=expires_at))
    session.flush()
    return token


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()


def _one_at_a_time(session: Session) -> None:
    """Only one set-up at a time, so that two links cannot make two owners."""
    session.execute(text("SELECT pg_advisory_xact_lock(hashtextextended('marvain: set-up', 0))"))
