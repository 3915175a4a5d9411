"""Who somebody is at an OpenID Connect provider: sign-ins under way, and the link from an identity to a user."""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import text
from sqlmodel import Session, col, select

from hub import audit, identity
from hub.audit.actors import Actor
from hub.errors import Conflict, Forbidden, NotFound, Throttled
from hub.tables import ForeignSignIn, User, UserIdentity

LIFETIME: Final = timedelta(minutes=10)
# Anybody can begin one; more than this at a time are nobody's household.
MAX_UNDER_WAY: Final = 10_000


@dataclass(frozen=True)
class Begun:
    """A new sign-in: `token` is for the browser's cookie, the rest for the provider."""

    token: str
    state: str
    nonce: str
    code_verifier: str


@dataclass(frozen=True)
class UnderWay:
    """A sign-in that came back to the browser in which it began."""

    nonce: str
    code_verifier: str
    redirect_uri: str
    behind: str


@dataclass(frozen=True)
class Claims:
    """What a verified ID token says of its bearer."""

    issuer: str
    subject: str
    email: str
    email_verified: bool


def begin(session: Session, redirect_uri: str, behind: str, now: datetime) -> Begun:
    """Note a sign-in that goes to the provider; raises `Throttled` when too many are under way."""
    session.execute(text("DELETE FROM foreign_sign_ins WHERE expires_at <= :now"), {"now": now})
    if session.execute(text("SELECT count(*) FROM foreign_sign_ins")).scalar_one() >= MAX_UNDER_WAY:
        raise Throttled("Too many sign-ins are under way. Try again in some minutes.", retry_after_s=60)
    begun = Begun(*(secrets.token_urlsafe(32) for _ in range(4)))
    session.add(
        ForeignSignIn(
            token_hash=_hash(begun.token),
            state_hash=_hash(begun.state),
            nonce=begun.nonce,
            code_verifier=begun.code_verifier,
            redirect_uri=redirect_uri,
            behind=behind,
            expires_at=now + LIFETIME,
        )
    )
    session.flush()
    return begun


def take(session: Session, token: str, state: str, now: datetime) -> UnderWay | None:
    """The sign-in of this browser and state, which is used up by that; None when there is none."""
    row = session.execute(
        text(
            "DELETE FROM foreign_sign_ins WHERE token_hash = :token AND state_hash = :state AND expires_at > :now"
            " RETURNING nonce, code_verifier, redirect_uri, behind"
        ),
        {"token": _hash(token), "state": _hash(state), "now": now},
    ).one_or_none()
    return None if row is None else UnderWay(*row)


def user_of(session: Session, claims: Claims, now: datetime) -> User:
    """The user with this identity, their row held; the first time it is linked by the verified address.

    Raises `Forbidden`, saying what to do, for whoever is unknown, disabled, or whose address is not verified.
    """
    known = _linked(session, claims)
    user = known or _by_address(session, claims, now)
    if user.disabled:
        raise Forbidden("This account is disabled. Ask an admin of this hub.")
    return _link(session, user, claims) if known is None else user


def of_user(session: Session, user_id: UUID) -> list[UserIdentity]:
    """The identities with which this user signs in, the oldest first."""
    rows = select(UserIdentity).where(UserIdentity.user_id == user_id)
    return list(session.exec(rows.order_by(col(UserIdentity.created_at), col(UserIdentity.issuer))))


def unlink(session: Session, user_id: UUID, issuer: str, *, by: str) -> None:
    """Let the user's identity at this provider bring nobody in any more.

    Raises `NotFound` for one that is not linked, and `Conflict` while there is no password: nobody locks themself out.
    """
    user = session.get_one(User, user_id, with_for_update=True, populate_existing=True)
    row = session.exec(
        select(UserIdentity).where(UserIdentity.user_id == user_id, UserIdentity.issuer == issuer)
    ).one_or_none()
    if row is None:
        raise NotFound("This identity is not linked to your account (any more).")
    if user.password_hash is None:
        raise Conflict("You have no password, so this is your only way in. Ask the hub's operator for a link first.")
    session.delete(row)
    session.flush()
    name = user.email or str(user_id)
    audit.record(
        session,
        None,
        by=by,
        action="user.identity_unlinked",
        subject=name,
        subject_id=user_id,
        before={"issuer": row.issuer, "identity": row.subject},
    )


def _linked(session: Session, claims: Claims) -> User | None:
    return session.exec(
        select(User)
        .join(UserIdentity, col(UserIdentity.user_id) == User.user_id)
        .where(UserIdentity.issuer == claims.issuer, UserIdentity.subject == claims.subject)
        .with_for_update(of=User),
        execution_options={"populate_existing": True},
    ).one_or_none()


def _by_address(session: Session, claims: Claims, now: datetime) -> User:
    """The account or the invitation of that address, its row held."""
    if not claims.email or not claims.email_verified:
        raise Forbidden(
            "The provider does not say that your e-mail address is verified. Verify it there, then try again."
        )
    unknown = Forbidden(f"Nobody here has the address {claims.email}. Ask an admin of this hub to invite it.")
    found = identity.find_user(session, claims.email)
    if found is None:
        raise unknown
    user = session.get_one(User, found.user_id, with_for_update=True, populate_existing=True)
    # A row from an earlier system is no account until somebody invites its address.
    if not identity.has_way_in(session, user) and not _is_invited(session, user, now):
        raise unknown
    return user


def _is_invited(session: Session, user: User, now: datetime) -> bool:
    open_ones = text(
        "SELECT 1 FROM one_time_links WHERE user_id = :user_id AND used_at IS NULL AND expires_at > :now LIMIT 1"
    )
    return session.execute(open_ones, {"user_id": user.user_id, "now": now}).first() is not None


def _link(session: Session, user: User, claims: Claims) -> User:
    made = session.execute(
        text(
            "INSERT INTO user_identities (issuer, subject, user_id) VALUES (:issuer, :subject, :user_id)"
            " ON CONFLICT DO NOTHING RETURNING user_id"
        ),
        {"issuer": claims.issuer, "subject": claims.subject, "user_id": user.user_id},
    ).first()
    if made is None:
        # Another request was first: with the same identity (fine), or this user has another one there.
        linked = _linked(session, claims)
        if linked is None or linked.disabled:
            raise Forbidden(
                "This account is linked to another identity of the provider. Use your password, or ask an admin."
            )
        return linked
    # The invitation is accepted by this; its link must not give a password to whoever finds it later.
    if user.password_hash is None:
        session.execute(
            text("DELETE FROM one_time_links WHERE user_id = :user_id AND used_at IS NULL"), {"user_id": user.user_id}
        )
    audit.record(
        session,
        None,
        by=Actor(user.email or str(user.user_id), "person"),
        action="user.identity_linked",
        subject=user.email or str(user.user_id),
        subject_id=user.user_id,
        after={"issuer": claims.issuer, "identity": claims.subject},
    )
    return user


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode(errors="surrogatepass")).hexdigest()
