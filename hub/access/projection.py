"""What hub and broker adapter tell each other through the database: the adapter's state, and secrets for it alone.

Mosquitto's plugin takes a new client's password in clear, and the database keeps hashes. So an adapter publishes a
public key; whoever issues a credential seals the secret for it; the adapter carries it to the broker and it is erased.
"""

import uuid
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any, Final

import msgspec
from nacl.public import PublicKey, SealedBox
from sqlalchemy import text
from sqlmodel import Session

from hub.access import carrying, changes
from hub.tables import BrokerState

_KEY_BYTES: Final = 32
_LOCK: Final = "hashtextextended('marvain: sealing key', 0)"


def sealing_key(session: Session) -> bytes | None:
    """The public key for which secrets are to be sealed; None while no adapter carries secrets.

    Until this transaction ends the key cannot change, so what is sealed for it is seen by the adapter that has it.
    """
    session.execute(text(f"SELECT pg_advisory_xact_lock_shared({_LOCK})"))
    key = session.execute(text("SELECT sealing_key FROM broker_state")).scalar_one_or_none()
    return bytes(key) if key is not None else None


def publish_key(session: Session, kind: str, public_key: bytes | None, now: datetime) -> None:
    """Say at the start which broker runs, and the adapter's key (32 bytes) where it carries secrets.

    Secrets that were sealed for another key are erased: the adapter must read all hashes *after* this is committed.
    """
    if public_key is not None and len(public_key) != _KEY_BYTES:
        raise ValueError(f"a sealing key has {_KEY_BYTES} bytes")
    # Rows before the key, as those do who replace a credential: so that neither waits for the other.
    session.execute(text("SELECT 1 FROM credentials WHERE sealed IS NOT NULL ORDER BY credential_id FOR UPDATE"))
    session.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"))
    if public_key is None or sealing_key(session) != public_key:
        session.execute(text("UPDATE credentials SET sealed = NULL WHERE sealed IS NOT NULL"))
    session.execute(
        text(
            "INSERT INTO broker_state (kind, sealing_key, started_at, reported_at) VALUES (:kind, :key, :now, :now)"
            " ON CONFLICT (one) DO UPDATE SET kind = excluded.kind, sealing_key = excluded.sealing_key,"
            " started_at = excluded.started_at, reported_at = excluded.reported_at, detail = excluded.detail"
        ),
        {"kind": kind, "key": public_key, "now": now},
    )


def report(session: Session, kind: str, detail: Mapping[str, Any], now: datetime) -> None:
    """Say that the broker is there and how it does; `detail` holds plain values."""
    session.execute(
        text(
            "INSERT INTO broker_state (kind, started_at, reported_at, detail) VALUES (:kind, :now, :now,"
            " CAST(:detail AS jsonb)) ON CONFLICT (one) DO UPDATE SET kind = excluded.kind,"
            " reported_at = excluded.reported_at, detail = excluded.detail"
        ),
        {"kind": kind, "now": now, "detail": msgspec.json.encode(dict(detail)).decode()},
    )


def state(session: Session) -> BrokerState | None:
    """Which broker runs, since when, and what it last said; None before the first has started."""
    return session.get(BrokerState, True, populate_existing=True)


def seal(session: Session, secret: str) -> bytes | None:
    """The secret as the adapter alone can read it; None while no adapter carries secrets."""
    key = sealing_key(session)
    return SealedBox(PublicKey(key)).encrypt(secret.encode()) if key is not None else None


def keep_sealed(session: Session, credential_id: uuid.UUID, username: str, secret: str) -> None:
    """Seal a credential's secret beside its hash and tell the adapter; nothing while no adapter carries secrets."""
    sealed = seal(session, secret)
    if sealed is not None:
        session.execute(
            text("UPDATE credentials SET sealed = :sealed WHERE credential_id = :id"),
            {"sealed": sealed, "id": credential_id},
        )
        changes.announce(session, username, "changed", "a new credential")
        carrying.note(session, username)


def pending(session: Session) -> list[tuple[uuid.UUID, str, str, bytes]]:
    """What waits to be carried, the oldest first: (credential_id, username, kind, sealed secret)."""
    rows = session.execute(
        text(
            "SELECT credential_id, username, kind, sealed FROM credentials"
            " WHERE sealed IS NOT NULL AND replaced_at IS NULL ORDER BY created_at, credential_id"
        )
    )
    return [(row.credential_id, row.username, row.kind, bytes(row.sealed)) for row in rows]


def carried(session: Session, credential_ids: Collection[uuid.UUID]) -> None:
    """Erase what the broker has now; with them what was replaced before it was carried."""
    session.execute(
        text(
            "UPDATE credentials SET sealed = NULL WHERE sealed IS NOT NULL"
            " AND (credential_id = ANY(:ids) OR replaced_at IS NOT NULL)"
        ),
        {"ids": list(credential_ids)},
    )


def is_carried(session: Session, username: str) -> bool:
    """Whether nothing of this name waits: its newest secret counts at the broker."""
    waiting = session.execute(
        text("SELECT 1 FROM credentials WHERE username = :username AND sealed IS NOT NULL AND replaced_at IS NULL"),
        {"username": username},
    ).first()
    return waiting is None
