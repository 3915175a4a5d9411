"""What was refused: counted per minute, shown to people, kept for them to act on."""

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

from sqlalchemy import text
from sqlmodel import Session

from hub import feed
from hub.access.principals import INTEGRATION_PREFIX

Refusable = Literal["connect", "publish", "subscribe", "message"]

_MAX_TEXT: Final = 500
# All three texts of a row together must fit into its index.
_MAX_BYTES: Final = 800
# Different refusals of one name that get a row of their own in a minute.
MOST_PER_MINUTE: Final = 60
_MANY: Final = "too many different refusals in this minute; this counts those that are not shown"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Something refused `count` times for one reason, at last at `at`. `principal` is the name that was given."""

    principal: str
    action: Refusable
    topic: str
    reason: str
    at: datetime
    count: int = 1


Gathered = dict[tuple[datetime, str, Refusable, str, str], Refusal]


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
    integration_id: uuid.UUID | None = None


def record(session: Session, refusals: Iterable[Refusal]) -> int:
    """Add refusals to the rows of their minute, and tell the agents that they concern; returns the rows.

    They concern the agent of the device or integration of that name; other names are strangers to all.
    """
    gathered: Gathered = {}
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
    kept = _bounded(session, gathered)
    for key in sorted(kept):
        _upsert(session, key[0], kept[key])
    return len(kept)


def recent(
    session: Session,
    *,
    agent_id: uuid.UUID | None = None,
    device_id: uuid.UUID | None = None,
    integration_id: uuid.UUID | None = None,
    principal: str | None = None,
    minutes: int | None = None,
    limit: int = 50,
) -> list[Denial]:
    """The newest denials, one per minute and refusal, newest first: of an agent, or of one of those it has.

    `minutes` says how far to look back.
    """
    rows = session.execute(
        text(
            "SELECT principal, device_id, action, topic, reason, count, last_at, integration_id FROM denials"
            " WHERE (CAST(:agent_id AS uuid) IS NULL OR agent_id = :agent_id)"
            " AND (CAST(:device_id AS uuid) IS NULL OR device_id = :device_id)"
            " AND (CAST(:integration_id AS uuid) IS NULL OR integration_id = :integration_id)"
            " AND (CAST(:principal AS text) IS NULL OR principal = :principal)"
            " AND (CAST(:minutes AS integer) IS NULL OR last_at > now() - make_interval(mins => :minutes))"
            " ORDER BY last_at DESC, denial_id DESC LIMIT :limit"
        ),
        {
            "agent_id": agent_id,
            "device_id": device_id,
            "integration_id": integration_id,
            "principal": None if principal is None else _clean(principal),
            "minutes": minutes,
            "limit": limit,
        },
    ).all()
    return [Denial(*row) for row in rows]


def _bounded(session: Session, gathered: Gathered) -> Gathered:
    """The same, where names with too many different refusals in a minute have the rest of them counted as one."""
    kept: Gathered = {}
    known: dict[tuple[datetime, str], set[tuple[str, str, str]]] = {}
    for key, refusal in gathered.items():
        minute, principal, action, topic, reason = key
        rows = known.get((minute, principal))
        if rows is None:
            found = session.execute(
                text("SELECT action, topic, reason FROM denials WHERE minute = :minute AND principal = :principal"),
                {"minute": minute, "principal": principal},
            )
            rows = known[minute, principal] = {(row.action, row.topic, row.reason) for row in found}
        if (action, topic, reason) in rows or len(rows) < MOST_PER_MINUTE:
            rows.add((action, topic, reason))
            kept[key] = refusal
            continue
        rest = (minute, principal, action, "", _MANY)
        others = kept.get(rest)
        count = refusal.count + (others.count if others else 0)
        at = max(refusal.at, others.at) if others else refusal.at
        kept[rest] = Refusal(principal, action, "", _MANY, at, count)
    return kept


def _upsert(session: Session, minute: datetime, refusal: Refusal) -> None:
    is_integration = refusal.principal.startswith(INTEGRATION_PREFIX)
    row = session.execute(
        text(
            "INSERT INTO denials (minute, principal, agent_id, device_id, integration_id, action, topic, reason, count,"
            " last_at) SELECT :minute, :principal, coalesce(d.agent_id, i.agent_id), d.device_id, i.integration_id,"
            " :action, :topic, :reason, :count, :at FROM (SELECT 1) one LEFT JOIN devices d ON d.handle = :principal"
            " LEFT JOIN integrations i ON i.handle = :integration"
            " ON CONFLICT (minute, principal, action, topic, reason) DO UPDATE"
            " SET count = denials.count + excluded.count, last_at = greatest(denials.last_at, excluded.last_at)"
            " RETURNING agent_id, device_id, integration_id, count, last_at"
        ),
        {
            "minute": minute,
            "principal": refusal.principal,
            "integration": refusal.principal[len(INTEGRATION_PREFIX) :] if is_integration else "",
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
            "device_id": str(row.device_id) if row.device_id else None,
            "integration_id": str(row.integration_id) if row.integration_id else None,
            "action": refusal.action,
            "topic": refusal.topic,
            "reason": refusal.reason,
            "count": row.count,
            "last_at": row.last_at,
        }
        feed.tell(session, row.agent_id, "denials", "denials.new", item)


def _clean(given: str) -> str:
    """Text that somebody hostile chose, as Postgres can store and a page can show it."""
    cut = given[:_MAX_TEXT].replace("\0", "�").encode("utf-8", "replace")
    return cut[:_MAX_BYTES].decode("utf-8", "ignore")
