"""Signing in: an e-mail address and a password, behind the brake. Links and sessions are reached from here as well."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import text
from sqlmodel import Session

from hub import audit, brakes, identity, passwords
from hub.links import LinkView, invite_link, peek_link, redeem, setup_link
from hub.sessions import (
    SESSION_IDLE,
    Visitor,
    VisitorUser,
    end_session,
    resume,
    sessions_of,
    sign_out,
    start_session,
)
from hub.sessions import end_all as end_sessions
from hub.tables import User

__all__ = [
    "SESSION_IDLE",
    "LinkView",
    "SignInRefused",
    "SignedIn",
    "Visitor",
    "VisitorUser",
    "change_password",
    "end_session",
    "end_sessions",
    "invite_link",
    "peek_link",
    "redeem",
    "resume",
    "sessions_of",
    "setup_link",
    "sign_in",
    "sign_out",
    "start_session",
]

_WRONG: Final = "The e-mail address or the password is wrong."


@dataclass(frozen=True)
class SignedIn:
    """It was right; `token` goes into the cookie and is stored nowhere."""

    user: User
    token: str


@dataclass(frozen=True)
class SignInRefused:
    """It was wrong or too soon. Returned, not raised: the count of failures must be committed."""

    message: str
    retry_after_s: float


def sign_in(
    session: Session, email: str, password: str, address: str, user_agent: str, now: datetime
) -> SignedIn | SignInRefused:
    """Check the password, start a session. Neither the answer nor its time tells whether the account exists."""
    account, origin = brakes.account_key(email), brakes.address_key(address)
    refused = _held_back(session, account, origin, now)
    if refused is not None:
        return refused
    # The key is the cleaned address, so what is looked up is exactly what is counted.
    user = identity.find_user(session, account.removeprefix("account:"))
    stored = user.password_hash if user is not None and not user.disabled else None
    right, fresh = passwords.verify(password, stored)
    if user is None or not right or not _is_still(session, user, stored):
        return _wrong(session, account, origin, now, _WRONG)
    if fresh is not None:
        user.password_hash = fresh
    brakes.succeeded(session, account, now)
    return SignedIn(user, start_session(session, user, address, user_agent, now))


def change_password(
    session: Session, visitor: Visitor, *, current: str, new: str, address: str, now: datetime
) -> SignInRefused | None:
    """Give the visitor a new password and end all other sessions; None when done. Guessing is braked here too."""
    passwords.check_new(new, email=visitor.user.email, field="new_password")
    account, origin = brakes.account_key(visitor.user.email), brakes.address_key(address)
    refused = _held_back(session, account, origin, now)
    if refused is not None:
        return refused
    user = session.get_one(User, visitor.user.user_id)
    right, _ = passwords.verify(current, user.password_hash)
    if not right:
        return _wrong(session, account, origin, now, "This is not your current password.")
    brakes.succeeded(session, account, now)
    identity.set_password(session, user, new)
    end_sessions(session, user.user_id, "the password was changed", but=visitor.session_id)
    audit.record(
        session,
        None,
        by=visitor.label,
        action="user.password_changed",
        subject=visitor.label,
        subject_id=visitor.user.user_id,
    )
    return None


def _is_still(session: Session, user: User, stored: str | None) -> bool:
    """Whether the password that was just checked is still the user's, and stays so until this transaction ends.

    Checking takes a while. A reset in that time ends all sessions, and must not miss the one that begins here.
    """
    held = text("SELECT password_hash FROM users WHERE user_id = :user_id AND NOT disabled FOR UPDATE")
    return stored is not None and session.execute(held, {"user_id": user.user_id}).scalar_one_or_none() == stored


def _held_back(session: Session, account: str, origin: str | None, now: datetime) -> SignInRefused | None:
    if not brakes.take_turn(session, account):
        return SignInRefused("Another attempt is being checked right now. Try again in a second.", 1)
    wait = brakes.wait_s(session, account, origin, now)
    return SignInRefused(f"Too many attempts. Try again in {_words(wait)}.", wait) if wait > 0 else None


def _wrong(session: Session, account: str, origin: str | None, now: datetime, message: str) -> SignInRefused:
    wait = brakes.failed(session, account, origin, now)
    return SignInRefused(f"{message} Try again in {_words(wait)}." if wait else message, wait)


def _words(seconds: float) -> str:
    whole = max(1, round(seconds))
    if whole < 120:
        return "a second" if whole == 1 else f"{whole} seconds"
    return f"{round(whole / 60)} minutes"
