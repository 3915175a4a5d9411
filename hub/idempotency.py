"""Requests that may be sent twice: the first answer is kept under the caller's key, and given again.

The row is written in the transaction of the request itself, so an answer is remembered exactly when its work was done.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import msgspec
from sqlalchemy import text
from sqlmodel import Session

from hub.errors import Conflict, Invalid

KEPT: Final = timedelta(days=1)
KEY_MAX: Final = 200
HEADER: Final = "Idempotency-Key"


@dataclass(frozen=True, slots=True)
class Answer:
    """What was answered: an HTTP status and a JSON value."""

    status: int
    body: Any


def check_key(key: str) -> str:
    """The key; raises `Invalid` unless it is 1 to 200 visible ASCII characters."""
    if not key or len(key) > KEY_MAX or not all("!" <= letter <= "~" for letter in key):
        raise Invalid(f"is 1 to {KEY_MAX} visible ASCII characters without spaces", field=HEADER)
    return key


def recall(session: Session, principal: str, key: str, request_hash: str) -> Answer | None:
    """The answer that this request had already; None when it is new. Two at once wait for each other.

    Raises `Conflict` when the key was used for another request.
    """
    session.execute(
        text("SELECT pg_advisory_xact_lock(hashtextextended(:key, 1))"), {"key": f"idempotency:{principal}:{key}"}
    )
    row = session.execute(
        text("SELECT request_hash, status, body FROM idempotency_keys WHERE principal = :principal AND key = :key"),
        {"principal": principal, "key": key},
    ).one_or_none()
    if row is None:
        return None
    if row.request_hash != request_hash:
        raise Conflict("this key was used for another request; take a new one for each", field=HEADER)
    return Answer(row.status, row.body)


def keep(session: Session, principal: str, key: str, request_hash: str, answer: Answer) -> None:
    """Remember an answer; it must hold no secret."""
    session.execute(
        text(
            "INSERT INTO idempotency_keys (principal, key, request_hash, status, body)"
            " VALUES (:principal, :key, :hash, :status, CAST(:body AS jsonb))"
        ),
        {
            "principal": principal,
            "key": key,
            "hash": request_hash,
            "status": answer.status,
            "body": msgspec.json.encode(answer.body).decode(),
        },
    )


def forget(session: Session, before: datetime) -> int:
    """Remove the keys of requests that came before then; returns how many."""
    gone = session.execute(
        text("DELETE FROM idempotency_keys WHERE created_at < :before RETURNING 1"), {"before": before}
    )
    return len(gone.all())
