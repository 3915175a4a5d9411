"""What the hub has to say over MQTT: written in the transaction that makes it true, published after its commit.

Topics here stand below the root. Messages of one transaction are published in the order in which they were enqueued,
and transactions that touch the same rows in the order of their commits.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec
from sqlalchemy import text
from sqlmodel import Session

from hub_protocol.catalogue import encode

CHANNEL: Final = "marvain_outbox"
_PENDING: Final = "outbox"


@dataclass(frozen=True, slots=True)
class Message:
    """One message to publish; `payload` is empty for a retained topic that is purged."""

    topic: str
    payload: bytes
    qos: int = 1
    retain: bool = False
    command_id: uuid.UUID | None = None
    outbox_id: int = 0


def enqueue(
    session: Session,
    topic: str,
    message: msgspec.Struct,
    *,
    qos: int = 1,
    command_id: uuid.UUID | None = None,
) -> None:
    """Publish `message` on `topic` once this transaction has committed."""
    _pending(session).append(Message(topic, encode(message), qos, command_id=command_id))


def retain(session: Session, topic: str, message: msgspec.Struct, *, device_id: uuid.UUID | None = None) -> None:
    """Publish `message` as the retained message of `topic`, and keep it in the ledger of retained topics."""
    payload = encode(message)
    _pending(session).append(Message(topic, payload, retain=True))
    session.execute(
        text(
            "INSERT INTO retained_topics (topic, device_id, payload) VALUES (:topic, :device_id, :payload) "
            "ON CONFLICT (topic) DO UPDATE SET payload = excluded.payload, updated_at = now()"
        ),
        {"topic": topic, "device_id": device_id, "payload": payload},
    )


def purge(session: Session, topics: Sequence[str]) -> None:
    """Remove the retained messages of `topics` from the broker and from the ledger."""
    for topic in topics:
        _pending(session).append(Message(topic, b"", retain=True))
    session.execute(text("DELETE FROM retained_topics WHERE topic = ANY(:topics)"), {"topics": list(topics)})


def flush(session: Session) -> None:
    """Write what was enqueued in this transaction, and wake the publisher at its commit."""
    pending: list[Message] = session.info.pop(_PENDING, [])
    if not pending:
        return
    session.flush()  # a command's row must stand before the outbox refers to it
    session.execute(
        text(
            "INSERT INTO outbox (topic, payload, qos, retain, command_id) "
            "SELECT topic, payload, qos, retain, command_id FROM unnest(CAST(:topics AS text[]), "
            "CAST(:payloads AS bytea[]), CAST(:qos AS smallint[]), CAST(:retains AS boolean[]), "
            "CAST(:commands AS uuid[])) WITH ORDINALITY AS m (topic, payload, qos, retain, command_id, n) ORDER BY n"
        ),
        {
            "topics": [message.topic for message in pending],
            "payloads": [message.payload for message in pending],
            "qos": [message.qos for message in pending],
            "retains": [message.retain for message in pending],
            "commands": [message.command_id for message in pending],
        },
    )
    session.execute(text("SELECT pg_notify(:channel, '')"), {"channel": CHANNEL})


def discard(session: Session) -> None:
    """Forget what was enqueued but not flushed (the transaction was rolled back)."""
    session.info.pop(_PENDING, None)


def claim(session: Session, limit: int) -> list[Message]:
    """Take up to `limit` messages, oldest first; they are gone for good once this transaction commits.

    Rows that another hub process holds are left to it.
    """
    rows = session.execute(
        text(
            "DELETE FROM outbox WHERE outbox_id IN (SELECT outbox_id FROM outbox ORDER BY outbox_id LIMIT :limit "
            "FOR UPDATE SKIP LOCKED) RETURNING topic, payload, qos, retain, command_id, outbox_id"
        ),
        {"limit": limit},
    )
    messages = [Message(*row) for row in rows]
    messages.sort(key=lambda message: message.outbox_id)
    return messages


def say(session: Session, topic: str, payload: bytes, *, qos: int = 1) -> None:
    """Publish these bytes on `topic` once this transaction has committed; for what has no type of the catalogue."""
    _pending(session).append(Message(topic, payload, qos))


def again(session: Session, topic: str, payload: bytes, *, retain: bool) -> None:
    """Publish what could not be published earlier, as it was."""
    _pending(session).append(Message(topic, payload, retain=retain))


def retained(session: Session) -> list[Message]:
    """Everything that the hub has retained, for a broker that lost its memory."""
    rows = session.execute(text("SELECT topic, payload FROM retained_topics ORDER BY topic"))
    return [Message(topic, payload, retain=True) for topic, payload in rows]


def _pending(session: Session) -> list[Message]:
    pending: list[Message] = session.info.setdefault(_PENDING, [])
    return pending
