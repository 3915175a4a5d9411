"""Joining a further agent with an account that one has: by a link that its admins hand over, accepted signed in.

Being named makes nobody a member. Somebody could have made an account with a foreign address: the link goes to the
person who is meant, and only both together, the link and the account, open the door.
"""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import text
from sqlmodel import Session

from hub import identity
from hub.audit.actors import Actor
from hub.errors import Conflict, Forbidden, NotFound
from hub.links import INVITE_LIFETIME
from hub.tables import User

_GONE = "This link was used already, has run out, or was replaced by a newer one."


@dataclass(frozen=True, slots=True)
class Offer:
    """What a link offers to whom."""

    agent_id: UUID
    agent_name: str
    role: str
    user_id: UUID
    email: str
    invited_by: str
    expires_at: datetime


def link(session: Session, agent_id: UUID, user: User, role: str, now: datetime, *, by: str) -> str:
    """A token with which this user joins the agent; it replaces the one before."""
    token = secrets.token_urlsafe(32)
    session.execute(
        text(
            "DELETE FROM one_time_links WHERE purpose = 'join' AND used_at IS NULL AND agent_id = :a AND user_id = :u"
        ),
        {"a": agent_id, "u": user.user_id},
    )
    session.execute(
        text(
            "INSERT INTO one_time_links (purpose, token_hash, user_id, agent_id, role, invited_by, created_at,"
            " expires_at)"
            " VALUES ('join', :hash, :user, :agent, :role, :by, :now, :until)"
        ),
        {
            "hash": _hash(token),
            "user": user.user_id,
            "agent": agent_id,
            "role": role,
            "by": str(by),
            "now": now,
            "until": now + INVITE_LIFETIME,
        },
    )
    return token


def peek(session: Session, token: str, now: datetime) -> Offer:
    """What the link offers, without using it up; `NotFound` when it does not work (any more)."""
    row = session.execute(
        text(
            "SELECT l.agent_id, a.name AS agent_name, l.role, l.user_id, coalesce(u.email, '') AS email, l.invited_by,"
            " l.expires_at FROM one_time_links AS l JOIN agents AS a USING (agent_id) JOIN users AS u USING (user_id)"
            " WHERE l.token_hash = :hash AND l.purpose = 'join' AND l.used_at IS NULL AND l.expires_at > :now"
            " AND NOT a.disabled"
        ),
        {"hash": _hash(token), "now": now},
    ).one_or_none()
    if row is None:
        raise NotFound(_GONE, field="token")
    return Offer(**row._mapping)  # noqa: SLF001  (SQLAlchemy's public name)


def accept(session: Session, token: str, user_id: UUID, now: datetime) -> Offer:
    """Join with the account that is signed in; of two at once one wins.

    Raises `NotFound` for a link that does not work, `Forbidden` for another account than the one invited, `Conflict`
    for who was blocked meanwhile.
    """
    offer = peek(session, token, now)
    if offer.user_id != user_id:
        raise Forbidden(f"This invitation is for {offer.email}. Sign in with that account.")
    used = session.execute(
        text("UPDATE one_time_links SET used_at = :now WHERE token_hash = :hash AND used_at IS NULL RETURNING 1"),
        {"now": now, "hash": _hash(token)},
    ).first()
    if used is None:
        raise NotFound(_GONE, field="token")
    standing = session.execute(
        text(
            "SELECT role FROM agent_memberships WHERE agent_id = :agent AND user_id = :user AND revoked_at IS NULL"
            " FOR UPDATE"
        ),
        {"agent": offer.agent_id, "user": user_id},
    ).scalar()
    if standing == "blocked":
        raise Conflict(f"You cannot join {offer.agent_name}. Ask its owner.")
    if standing is None:
        user = session.get_one(User, user_id)
        by = Actor(f"{offer.email}, invited by {offer.invited_by}", "person")
        identity.join(session, offer.agent_id, user, offer.role, by=by)
    return offer


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()
