"""The evidence of every device as rows: locked, changed in bulk, and told to whoever may know."""

import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import text
from sqlmodel import Session

from hub import feed, outbox
from hub.presence import MISSED_HEARTBEATS, Evidence
from hub_protocol import messages
from hub_protocol.topics import Topics

_TOPICS: Final = Topics.below_root()
_FIELDS: Final = (
    "epoch, verdict, why, since, heartbeat_s, last_heard_at, last_hello_at, last_heartbeat_at, asleep_until, probes, "
    "probed_at, source"
)


@dataclass(frozen=True, slots=True)
class Known:
    """A device with its evidence, its row locked until the transaction ends."""

    device_id: uuid.UUID
    agent_id: uuid.UUID
    handle: str
    evidence: Evidence


def create(session: Session, device_id: uuid.UUID) -> None:
    """Begin with no evidence at all."""
    session.execute(text("INSERT INTO device_presence (device_id) VALUES (:device_id)"), {"device_id": device_id})


def lock(session: Session, device_ids: Collection[uuid.UUID]) -> dict[uuid.UUID, Evidence]:
    """Read and lock the evidence of these devices, always in the order of their ids."""
    rows = session.execute(
        text(
            f"SELECT device_id, {_FIELDS} FROM device_presence WHERE device_id = ANY(:ids) "
            "ORDER BY device_id FOR UPDATE"
        ),
        {"ids": list(device_ids)},
    )
    return {row[0]: Evidence(*row[1:]) for row in rows}


def lock_silent(session: Session, now: datetime, *, after: uuid.UUID | None = None, limit: int = 500) -> list[Known]:
    """Those not offline from whom nothing came for two heartbeats, locked; rows that others hold are left out.

    Finds candidates only: `presence.silence` judges them. By device id, those behind `after`.
    """
    rows = session.execute(
        text(
            f"SELECT p.device_id, d.agent_id, d.handle, {_FIELDS} FROM device_presence AS p JOIN devices AS d "
            "USING (device_id) WHERE p.verdict <> 'offline' "
            "AND coalesce(p.asleep_until, p.last_heard_at, p.since) "
            "< CAST(:now AS timestamptz) - make_interval(secs => p.heartbeat_s * :missed) "
            "AND (CAST(:after AS uuid) IS NULL OR p.device_id > :after) "
            "ORDER BY p.device_id LIMIT :limit FOR UPDATE OF p SKIP LOCKED"
        ),
        {"now": now, "after": after, "limit": limit, "missed": MISSED_HEARTBEATS},
    )
    return [Known(row[0], row[1], row[2], Evidence(*row[3:])) for row in rows]


def save(session: Session, changes: Mapping[uuid.UUID, tuple[Known, Evidence]]) -> None:
    """Write new evidence for many devices at once; a changed verdict is retained on MQTT and told to open pages."""
    changed = {key: (known, after) for key, (known, after) in changes.items() if after != known.evidence}
    if not changed:
        return
    evidence = [after for _, after in changed.values()]
    session.execute(
        text(
            "UPDATE device_presence AS p SET epoch = n.epoch, verdict = n.verdict, why = n.why, since = n.since, "
            "heartbeat_s = n.heartbeat_s, last_heard_at = n.last_heard_at, last_hello_at = n.last_hello_at, "
            "last_heartbeat_at = n.last_heartbeat_at, asleep_until = n.asleep_until, probes = n.probes, "
            "probed_at = n.probed_at, source = n.source "
            "FROM unnest(CAST(:ids AS uuid[]), CAST(:epoch AS bigint[]), CAST(:verdict AS text[]), "
            "CAST(:why AS text[]), CAST(:since AS timestamptz[]), CAST(:heartbeat_s AS double precision[]), "
            "CAST(:last_heard_at AS timestamptz[]), CAST(:last_hello_at AS timestamptz[]), "
            "CAST(:last_heartbeat_at AS timestamptz[]), CAST(:asleep_until AS timestamptz[]), "
            "CAST(:probes AS smallint[]), CAST(:probed_at AS timestamptz[]), CAST(:source AS text[])) "
            f"AS n (device_id, {_FIELDS}) WHERE p.device_id = n.device_id"
        ),
        {"ids": list(changed)}
        | {name: [getattr(one, name) for one in evidence] for name in _FIELDS.replace(" ", "").split(",")},
    )
    for known, after in changed.values():
        before = known.evidence
        if (after.verdict, after.why, after.epoch) != (before.verdict, before.why, before.epoch):
            _tell(session, known, after)


def facts(device_id: uuid.UUID, handle: str, evidence: Evidence) -> dict[str, Any]:
    """The presence facts that a row of a page shows, as the feed carries them."""
    return {
        "device_id": str(device_id),
        "handle": handle,
        "presence": evidence.verdict,
        "why": evidence.why,
        "since": evidence.since,
        "last_heard_at": evidence.last_heard_at,
        "heartbeat_s": evidence.heartbeat_s,
        "bound_s": evidence.bound_s,
        "epoch": evidence.epoch,
        "source": evidence.source,
    }


def _tell(session: Session, known: Known, after: Evidence) -> None:
    assert after.since is not None  # noqa: S101  (every verdict that was drawn has its time)
    verdict = messages.Presence(
        after.verdict, after.since, after.why, after.epoch, round(after.bound_s, 1), after.last_heard_at
    )
    outbox.retain(session, _TOPICS.presence(known.handle), verdict, device_id=known.device_id)
    feed.tell(session, known.agent_id, "presence", "presence.updated", facts(known.device_id, known.handle, after))
