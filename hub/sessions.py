"""Signed-in browsers: a random token in a cookie, its hash in a row that dies of 30 idle days or of signing out."""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import select as sql_select
from sqlalchemy import text
from sqlmodel import Session, col, select

from hub import audit
from hub.access import changes
from hub.audit.actors import Actor
from hub.errors import NotFound
from hub.identity import can_sign_in
from hub.tables import User, UserSession

SESSION_IDLE: Final = timedelta(days=30)
_SEEN_EVERY: Final = timedelta(minutes=1)
_MAX_USER_AGENT: Final = 300


@dataclass(frozen=True)
class VisitorUser:
    """The user behind a request, as plain values."""

    user_id: UUID
    email: str
    display_name: str


@dataclass
class Visitor:
    """A signed-in browser; `renewed` says that the session was prolonged just now, so its cookie should be too."""

    user: VisitorUser
    session_id: UUID
    expires_at: datetime
    renewed: bool

    @property
    def label(self) -> Actor:
        """Short name of the user for ledgers (`by=`)."""
        return Actor(self.user.email or self.user.display_name or str(self.user.user_id), "person")


def start_session(
    session: Session, user: User, address: str, user_agent: str, now: datetime, *, way: str = "password"
) -> str:
    """Sign `user` in on a browser; returns the token for its cookie. Sessions that ran out are swept away.

    `way` tells the audit how: by password, by a link, or the address of a provider.
    """
    token = secrets.token_urlsafe(32)
    session.execute(text("DELETE FROM user_sessions WHERE expires_at <= :now"), {"now": now})
    user.last_seen = now
    session.add(user)
    session.flush()
    row = UserSession(
        user_id=user.user_id,
        token_hash=_hash(token),
        address=_clean(address, 64),
        user_agent=_clean(user_agent, _MAX_USER_AGENT),
        created_at=now,
        last_seen_at=now,
        expires_at=now + SESSION_IDLE,
    )
    session.add(row)
    session.flush()
    name = user.email or str(user.user_id)
    audit.record(
        session,
        None,
        by=Actor(name, "person"),
        action="user.signed_in",
        subject=name,
        subject_id=user.user_id,
        after={"way": way, "address": row.address, "browser": row.user_agent},
    )
    return token


def resume(session: Session, token: str, now: datetime) -> Visitor | None:
    """Who the bearer of this token is; None when nobody (any more). Notes that it was seen, at most once a minute."""
    row = session.execute(
        sql_select(
            col(UserSession.session_id),
            col(UserSession.last_seen_at),
            col(UserSession.expires_at),
            col(User.user_id),
            col(User.email),
            col(User.display_name),
        )
        .join(User, col(User.user_id) == UserSession.user_id)
        .where(col(UserSession.token_hash) == _hash(token), col(UserSession.expires_at) > now, can_sign_in())
    ).one_or_none()
    if row is None:
        return None
    expires_at: datetime = row.expires_at
    renewed = now - row.last_seen_at >= _SEEN_EVERY
    if renewed:
        expires_at = now + SESSION_IDLE
        session.execute(
            text(
                "WITH seen AS (UPDATE user_sessions SET last_seen_at = :now, expires_at = :expires_at"
                " WHERE session_id = :session_id AND last_seen_at < :now RETURNING user_id)"
                " UPDATE users SET last_seen = :now FROM seen WHERE users.user_id = seen.user_id"
            ),
            {"now": now, "expires_at": expires_at, "session_id": row.session_id},
        )
    user = VisitorUser(row.user_id, row.email or "", row.display_name or "")
    return Visitor(user, row.session_id, expires_at, renewed)


def sessions_of(session: Session, user_id: UUID, now: datetime) -> list[UserSession]:
    """The user's signed-in browsers, the one used last first."""
    open_ones = select(UserSession).where(UserSession.user_id == user_id, UserSession.expires_at > now)
    return list(session.exec(open_ones.order_by(col(UserSession.last_seen_at).desc(), col(UserSession.session_id))))


def sign_out(session: Session, session_id: UUID, reason: str = "signed out", *, by: str | None = None) -> None:
    """End a session; the live connections of its pages are told and closed. Ending it twice is fine.

    `by` is who ended it: without a name, whoever it was of.
    """
    # A page that asks for a credential at this moment has it before (and is told) or never gets one.
    session.execute(
        text("SELECT 1 FROM user_sessions WHERE session_id = :session_id FOR UPDATE"), {"session_id": session_id}
    )
    usernames = session.execute(
        text("SELECT username FROM credentials WHERE session_id = :session_id AND kind = 'browser'"),
        {"session_id": session_id},
    ).scalars()
    for username in usernames.all():
        changes.announce(session, username, "ended", reason)
    ended = session.execute(
        text(
            "DELETE FROM user_sessions AS s USING users AS u WHERE s.session_id = :session_id AND u.user_id = s.user_id"
            " RETURNING u.user_id, coalesce(nullif(u.email, ''), u.user_id::text) AS name, s.address, s.user_agent"
        ),
        {"session_id": session_id},
    ).one_or_none()
    if ended is not None:
        audit.record(
            session,
            None,
            by=by or Actor(ended.name, "person"),
            action="user.signed_out",
            subject=ended.name,
            subject_id=ended.user_id,
            before={"address": ended.address, "browser": ended.user_agent},
            after={"reason": reason},
        )


def end_session(session: Session, user_id: UUID, session_id: UUID) -> None:
    """End one of the user's own sessions; another's is not found."""
    row = session.exec(
        select(UserSession).where(UserSession.session_id == session_id, UserSession.user_id == user_id)
    ).one_or_none()
    if row is None:
        raise NotFound("This session has ended already.")
    session.expunge(row)
    sign_out(session, session_id, "ended from another browser")


def end_all(session: Session, user_id: UUID, reason: str, *, but: UUID | None = None, by: str | None = None) -> None:
    """End all of the user's sessions, except `but`; `by` as for `sign_out`."""
    for session_id in session.exec(select(UserSession.session_id).where(UserSession.user_id == user_id)).all():
        if session_id != but:
            sign_out(session, session_id, reason, by=by)


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()


def _clean(words: str, most: int) -> str:
    return words.replace("\0", "")[:most]
