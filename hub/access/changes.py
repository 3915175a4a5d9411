"""Tells the brokers, in the transaction that makes it true, that what someone may do has changed."""

import uuid
from collections.abc import Iterable
from typing import Final, Literal

import msgspec
from sqlalchemy import text
from sqlmodel import Session

CHANNEL = "marvain_access"
EVERYBODY = "*"
# Postgres allows 8,000 bytes in a notification; a character takes at most 6 of them in JSON's escapes.
_MAX_REASON = 500
_NAMES_AT_ONCE: Final = 50
# Beyond that it is cheaper for all to look at everybody.
_MOST_NAMES: Final = 500
# Deep nesting raises the second; whoever listens must go on hearing the rest.
_NONE_OF_OURS: Final = (msgspec.MsgspecError, RecursionError)

Kind = Literal["revoked", "rotated", "changed", "ended", "kicked"]


class Change(msgspec.Struct, frozen=True):
    """What is told: `revoked`, `rotated`, `ended` close the session, `changed` has its grants read again.

    `kicked` closes the connection of one who may come back. `username` may be `*`: everybody's grants are to be read
    again.
    """

    username: str
    kind: Kind
    reason: str = ""


class _ChangeOfMany(msgspec.Struct, frozen=True):
    """The same news about several names."""

    usernames: tuple[str, ...]
    kind: Kind
    reason: str = ""


def announce(session: Session, username: str, kind: Kind, reason: str = "") -> None:
    """Notify every broker when the transaction commits."""
    _notify(session, Change(username, kind, reason[:_MAX_REASON]))


def announce_many(session: Session, usernames: Iterable[str], kind: Kind, reason: str = "") -> None:
    """Notify every broker of the same news about many, in few notifications; of very many as of everybody."""
    names = sorted(set(usernames))
    if len(names) > _MOST_NAMES and kind == "changed":
        announce(session, EVERYBODY, kind, reason)
        return
    for start in range(0, len(names), _NAMES_AT_ONCE):
        some = tuple(names[start : start + _NAMES_AT_ONCE])
        if len(some) == 1:
            announce(session, some[0], kind, reason)
        else:
            _notify(session, _ChangeOfMany(some, kind, reason[:_MAX_REASON]))


def announce_user(session: Session, user_id: uuid.UUID, kind: Kind, reason: str = "") -> None:
    """The same about all pages that a user has open."""
    names = session.execute(
        text(
            "SELECT c.username FROM credentials c JOIN user_sessions s USING (session_id)"
            " WHERE s.user_id = :user_id AND c.kind = 'browser' AND c.expires_at > now()"
        ),
        {"user_id": user_id},
    ).scalars()
    announce_many(session, names.all(), kind, reason)


def read_all(payload: str) -> list[Change]:
    """The changes in a notification's payload; empty when it is not one of ours."""
    try:
        many = msgspec.json.decode(payload, type=_ChangeOfMany)
    except _NONE_OF_OURS:
        one = _read_one(payload)
        return [one] if one is not None else []
    return [Change(username, many.kind, many.reason) for username in many.usernames]


def read(payload: str) -> Change | None:
    """A notification's payload as one change, for listeners that do not tell names apart; None when it is not ours.

    News about several names becomes news about everybody: looking at more than was asked is always right.
    """
    if (one := _read_one(payload)) is not None:
        return one
    return Change(EVERYBODY, "changed") if read_all(payload) else None


def _read_one(payload: str) -> Change | None:
    try:
        return msgspec.json.decode(payload, type=Change)
    except _NONE_OF_OURS:
        return None


def _notify(session: Session, news: Change | _ChangeOfMany) -> None:
    payload = msgspec.json.encode(news).decode()
    session.execute(text("SELECT pg_notify(:channel, :payload)"), {"channel": CHANNEL, "payload": payload})
