"""What open pages are told: changes, collected during a transaction and written as its last step.

Each agent has one revision that rises by one with every feed message, so that a page can see a gap and ask for it.
"""

import uuid
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, cast

import msgspec
from sqlalchemy import text
from sqlmodel import Session

from hub import outbox
from hub.audit.actors import Actor
from hub_protocol.catalogue import FEEDS, encode
from hub_protocol.messages import Feed
from hub_protocol.topics import Topics

# What tells two items of a type apart; of several about the same element, only the newest is told.
IDENTITY: Final = {
    "presence.updated": "device_id",
    "devices.updated": "device_id",
    "claims.updated": "claim_id",
    "enrolments.updated": "enrolment_id",
    "events.new": "event_id",
    "commands.updated": "command_id",
    "actions.updated": "action_id",
    "config.updated": "device_id",
}
# One message stays below the size limit of the catalogue and of any broker, whatever the items hold.
ITEMS_PER_MESSAGE: Final = 100
BYTES_PER_MESSAGE: Final = 65_536
_PENDING: Final = "feed"
_TOPICS: Final = Topics.below_root()


@dataclass(frozen=True, slots=True)
class FeedGap:
    """What a page missed: `messages` in order up to `rev`; `reset` when too much is gone and it must read all anew."""

    rev: int
    messages: list[dict[str, Any]] = field(default_factory=list)
    reset: bool = False


def tell(session: Session, agent_id: uuid.UUID, feed: str, kind: str, item: dict[str, Any]) -> None:
    """Tell the agent's open pages of a change once this transaction has committed."""
    if feed not in FEEDS:
        raise ValueError(f"unknown feed {feed!r}")
    pending: dict[tuple[uuid.UUID, str, str], dict[Any, dict[str, Any]]] = session.info.setdefault(_PENDING, {})
    items = pending.setdefault((agent_id, feed, kind), {})
    identity = IDENTITY.get(kind)
    key = str(item[identity]) if identity else len(items)
    items.pop(key, None)  # re-inserted last, so that the order of items is the order of their newest changes
    # A name may be an `Actor`, which JSON knows nothing of.
    items[key] = {name: str(value) if isinstance(value, Actor) else value for name, value in item.items()}


def flush(session: Session) -> None:
    """Write the collected changes and the outbox: the last thing before a commit.

    Agents are taken in one order, so that two transactions can wait for each other but never in a circle.
    """
    pending = session.info.pop(_PENDING, {})
    by_agent: dict[uuid.UUID, list[tuple[str, str, list[msgspec.Raw]]]] = {}
    for (agent_id, feed, kind), items in pending.items():
        for chunk in _chunks(list(items.values())):
            by_agent.setdefault(agent_id, []).append((feed, kind, chunk))
    if by_agent:
        session.flush()
    for agent_id in sorted(by_agent):
        _write(session, agent_id, by_agent[agent_id])
    outbox.flush(session)


def discard(session: Session) -> None:
    """Forget what was collected but not written (the transaction was rolled back)."""
    session.info.pop(_PENDING, None)
    outbox.discard(session)


def revision(session: Session, agent_id: uuid.UUID) -> int:
    """The agent's current revision; 0 before the first change."""
    rev = session.execute(text("SELECT rev FROM feed_revisions WHERE agent_id = :agent"), {"agent": agent_id}).scalar()
    return int(rev or 0)


def since(
    session: Session, agent_id: uuid.UUID, rev: int, limit: int = 500, *, feeds: Collection[str] = FEEDS
) -> FeedGap:
    """What these feeds told after `rev`, oldest first; `reset` when all told is more than `limit` or no longer kept."""
    current = revision(session, agent_id)
    if rev == current:
        return FeedGap(current)
    if rev > current or current - rev > limit:
        return FeedGap(current, reset=True)
    rows = session.execute(
        text(
            "SELECT feed, message FROM feed_entries WHERE agent_id = :agent AND rev > :rev AND rev <= :current "
            "ORDER BY rev"
        ),
        {"agent": agent_id, "rev": rev, "current": current},
    ).all()
    if len(rows) != current - rev:
        return FeedGap(current, reset=True)
    return FeedGap(current, [row.message for row in rows if row.feed in feeds])


def trim(session: Session, before: datetime) -> int:
    """Remove entries told before `before`; a page away for longer reads everything anew. Returns how many."""
    removed = session.execute(
        text("WITH gone AS (DELETE FROM feed_entries WHERE at < :before RETURNING 1) SELECT count(*) FROM gone"),
        {"before": before},
    ).scalar_one()
    return int(removed)


def _chunks(items: list[dict[str, Any]]) -> Iterator[list[msgspec.Raw]]:
    """Items as JSON, each made once: of a burst of events there are thousands."""
    chunk: list[msgspec.Raw] = []
    size = 0
    for item in items:
        encoded = msgspec.json.encode(item)
        weight = len(encoded)
        if chunk and (len(chunk) == ITEMS_PER_MESSAGE or size + weight > BYTES_PER_MESSAGE):
            yield chunk
            chunk, size = [], 0
        chunk.append(msgspec.Raw(encoded))
        size += weight
    yield chunk


def _write(session: Session, agent_id: uuid.UUID, told: list[tuple[str, str, list[msgspec.Raw]]]) -> None:
    # The row lock on the revision is held until the commit: a later revision can never be seen before an earlier one.
    last = session.execute(
        text(
            "INSERT INTO feed_revisions (agent_id, rev) VALUES (:agent, :n) "
            "ON CONFLICT (agent_id) DO UPDATE SET rev = feed_revisions.rev + excluded.rev RETURNING rev"
        ),
        {"agent": agent_id, "n": len(told)},
    ).scalar_one()
    now = datetime.now(UTC)
    entries = []
    for rev, (feed, kind, items) in enumerate(told, start=last - len(told) + 1):
        message = Feed(kind, str(agent_id), rev, now, cast("list[Any]", items))
        entries.append({"rev": rev, "feed": feed, "message": msgspec.Raw(encode(message))})
        outbox.enqueue(session, _TOPICS.feed(str(agent_id), feed), message)
    session.execute(
        text(
            "INSERT INTO feed_entries (agent_id, rev, feed, message, at) SELECT :agent, rev, feed, message, :at "
            "FROM json_to_recordset(CAST(:entries AS json)) AS n (rev bigint, feed text, message jsonb)"
        ),
        {"agent": agent_id, "at": now, "entries": msgspec.json.encode(entries).decode()},
    )
