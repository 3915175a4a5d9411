"""Tokens of people for scripts: they name permissions, run out, are shown once and stored as a hash.

`mvp.` and 43 characters: 256 random bits, so that a plain SHA-256 is enough to look one up and gives nothing away.
"""

import hashlib
import secrets
import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import text
from sqlmodel import Session, col, select

from hub import audit
from hub.access import permissions
from hub.errors import Conflict, Invalid, NotFound
from hub.tables import PersonalToken, User

PREFIX: Final = "mvp."
NAME_MAX: Final = 80
LONGEST: Final = timedelta(days=366)
PER_USER: Final = 50
_SEEN_EVERY: Final = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Bearer:
    """Whose token it is and what it names."""

    token_id: uuid.UUID
    token_name: str
    user_id: uuid.UUID
    email: str
    display_name: str
    scopes: tuple[str, ...]
    expires_at: datetime


def create(
    session: Session, user_id: uuid.UUID, name: str, scopes: list[str], expires_at: datetime, now: datetime
) -> tuple[PersonalToken, str]:
    """A new token: its row, and the token itself, seen this once. Raises `Invalid` (name, scopes, expires_at)."""
    name = " ".join(name.split())
    if not name or len(name) > NAME_MAX or not name.isprintable():
        raise Invalid(f"is 1 to {NAME_MAX} printable characters", field="name")
    if expires_at.tzinfo is None or not now < expires_at <= now + LONGEST:
        raise Invalid(
            f"is a time with its zone in the future, at most {LONGEST.days} days from now", field="expires_at"
        )
    checked = permissions.check(scopes)
    # Held until the end: two at once must not both find the last place free.
    user = session.get_one(User, user_id, with_for_update=True)
    open_ones = sum(1 for one in of_user(session, user_id) if one.revoked_at is None and one.expires_at > now)
    if open_ones >= PER_USER:
        raise Conflict(f"there are {PER_USER} tokens already; revoke one that is not used any more", field="name")
    token = PREFIX + secrets.token_urlsafe(32)
    row = PersonalToken(user_id=user_id, name=name, token_hash=_hash(token), scopes=checked, expires_at=expires_at)
    row.created_at = now
    session.add(row)
    session.flush()
    after = {"scopes": checked, "expires_at": expires_at}
    _audit(session, user, "created", row, after=after)
    return row, token


def of_user(session: Session, user_id: uuid.UUID) -> list[PersonalToken]:
    """The user's tokens, the newest first; those revoked and run out too."""
    mine = select(PersonalToken).where(PersonalToken.user_id == user_id)
    return list(session.exec(mine.order_by(col(PersonalToken.created_at).desc(), col(PersonalToken.token_id))))


def revoke(session: Session, user_id: uuid.UUID, token_id: uuid.UUID, now: datetime) -> None:
    """End one of the user's own tokens; another's is not found, one that has ended already a `Conflict`."""
    row = session.exec(
        select(PersonalToken)
        .where(PersonalToken.token_id == token_id, PersonalToken.user_id == user_id)
        .with_for_update()
    ).one_or_none()
    if row is None:
        raise NotFound("there is no such token")
    if row.revoked_at is not None:
        raise Conflict("this token is revoked already")
    row.revoked_at = now
    session.add(row)
    session.flush()
    _audit(session, session.get_one(User, user_id), "revoked", row)


def find_bearer(session: Session, token: str, now: datetime) -> Bearer | None:
    """Whose token this is; None when it is nobody's (any more). Notes its use, at most once a minute."""
    row = session.execute(
        text(
            "SELECT t.token_id, t.name, t.user_id, u.email, u.display_name, t.scopes, t.expires_at, t.last_used_at"
            " FROM personal_tokens t JOIN users u USING (user_id) WHERE t.token_hash = :hash AND t.revoked_at IS NULL"
            " AND t.expires_at > :now AND NOT u.disabled"
        ),
        {"hash": _hash(token), "now": now},
    ).one_or_none()
    if row is None:
        return None
    if row.last_used_at is None or now - row.last_used_at >= _SEEN_EVERY:
        session.execute(
            text(
                "WITH used AS (UPDATE personal_tokens SET last_used_at = :now WHERE token_id = :token_id"
                " AND (last_used_at IS NULL OR last_used_at < :now) RETURNING user_id)"
                " UPDATE users SET last_seen = :now FROM used WHERE users.user_id = used.user_id"
            ),
            {"now": now, "token_id": row.token_id},
        )
    return Bearer(
        row.token_id, row.name, row.user_id, row.email or "", row.display_name or "", tuple(row.scopes), row.expires_at
    )


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()


def _audit(session: Session, user: User, verb: str, row: PersonalToken, **facts: Any) -> None:
    audit.record(
        session,
        None,
        by=user.email or user.display_name or str(user.user_id),
        action=f"token.{verb}",
        subject=row.name,
        subject_id=row.token_id,
        **facts,
    )
