"""Tells the brokers, in the transaction that makes it true, that what someone may do has changed."""

from typing import Literal

import msgspec
from sqlalchemy import text
from sqlmodel import Session

CHANNEL = "marvain_access"
EVERYBODY = "*"
# Postgres allows 8,000 bytes in a notification; a character takes at most 6 of them in JSON's escapes.
_MAX_REASON = 500

Kind = Literal["revoked", "rotated", "changed", "ended"]


class Change(msgspec.Struct, frozen=True):
    """What is told: `revoked`, `rotated` and `ended` close the session, `changed` has its grants read again.

    `username` may be `*`: everybody's grants are to be read again.
    """

    username: str
    kind: Kind
    reason: str = ""


def announce(session: Session, username: str, kind: Kind, reason: str = "") -> None:
    """Notify every broker when the transaction commits."""
    payload = msgspec.json.encode(Change(username, kind, reason[:_MAX_REASON])).decode()
    session.execute(text("SELECT pg_notify(:channel, :payload)"), {"channel": CHANNEL, "payload": payload})


def read(payload: str) -> Change | None:
    """A notification's payload; None when it is not one of ours."""
    try:
        return msgspec.json.decode(payload, type=Change)
    except msgspec.MsgspecError:
        return None
