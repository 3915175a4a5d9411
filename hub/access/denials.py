"""What was refused: counted per minute, shown to people, kept for them to act on."""

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import text
from sqlmodel import Session

from hub import feed

Refusable = Literal["connect", "publish", "subscribe", "message"]

_MAX_TEXT = 500


@dataclass(frozen=True, slots=True)
class Refusal:
    """Something refused `count` times for one reason, at last at `at`. `principal` is the name that was given."""

    principal: str
    action: Refusable
    topic: str
    reason: str
    at: datetime
    count: int = 1


@dataclass(frozen=True, slots=True)
class Denial:
    """A row for people: who was refused what and why, how often in that minute."""

    principal: str
    device_id: uuid.UUID | None
    action: str
    topic: str
    reason: str
    count: int
    last_at: datetime


def record(session: Session, refusals: Iterable[Refusal]) -> int:
    """Add refusals to the rows of their minute, and tell the agents whose devices they concern; returns the rows."""
    gathered: dict[tuple[datetime, str, Refusable, str, str], Refusal] = {}
    for given in refusals:
        refusal = Refusal(
            _clean(given.principal), given.action, _clean(given.topic), _clean(given.reason), given.at, given.count
        )
        minute = refusal.at.replace(second=0, microsecond=0)
        key = (minute, refusal.principal, refusal.action, refusal.topic, refusal.reason)
        earlier = gathered.get(key)
        if earlier is not None:
            refusal = Refusal(
                refusal.principal,
                refusal.action,
                refusal.topic,
                refusal.reason,
                max(earlier.at, refusal.at),
                earlier.count + refusal.count,
            )
        gathered[key] = refusal
    # In one order everywhere, so that two brokers that write the same rows cannot block each other.
    for key in sorted(gathered):
        _upsert(session, key[0], gathered[key])
    return len(gathered)


def recent(
    session: Session, *, agent_id: uuid.UUID | None = None, device_id: uuid.UUID | None = None, limit: int = 50
) -> list[Denial]:
    """The newest denials of an agent's devices, or of one device, newest first."""
    rows = session.execute(
        text(
            "SELECT principal, device_id, action, topic, reason, count, last_at FROM denials"
            " WHERE (CAST(:agent_id AS uuid) IS NULL OR agent_id = :agent_id)"
            " AND (CAST(:device_id AS uuid) IS NULL OR device_id = :device_id)"
            " ORDER BY last_at DESC, denial_id DESC LIMIT :limit"
        ),
        {"agent_id": agent_id, "device_id": device_id, "limit": limit},
    ).all()
    return [Denial(*row) for row in rows]


def _upsert(session: Session, minute: datetime, refusal: Refusal) -> None:
    row = session.execute(
        text(
            "INSERT INTO denials (minute, principal, agent_id, device_id, action, topic, reason, count, last_at)"
            " SELECT :minute, :principal, d.agent_id, d.device_id, :action, :topic, :reason, :count, :at"
            " FROM (SELECT 1) one LEFT JOIN devices d ON d.handle = :principal"
            " ON CONFLICT (minute, principal, action, topic, reason) DO UPDATE"
            " SET count = denials.count + excluded.count, last_at = greatest(denials.last_at, excluded.last_at)"
            " RETURNING agent_id, device_id, count, last_at"
        ),
        {
            "minute": minute,
            "principal": refusal.principal,
            "action": refusal.action,
            "topic": refusal.topic,
            "reason": refusal.reason,
            "count": refusal.count,
            "at": refusal.at,
        },
    ).one()
    if row.agent_id is not None:
        item: dict[str, Any] = {
            "principal": refusal.principal,
            "device_id": str(row.device_id),
            "action": refusal.action,
            "topic": refusal.topic,
            "reason": refusal.reason,
            "count": row.count,
            "last_at": row.last_at,
        }
        feed.tell(session, row.agent_id, "denials", "denials.new", item)


def _clean(given: str) -> str:
    """Text that somebody hostile chose, as Postgres can store and a page can show it."""
    return given[:_MAX_TEXT].replace("\0", "�").encode("utf-8", "replace").decode()
