"""The evidence of every device as rows: locked, changed in bulk, and told to whoever may know."""

import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import text
from sqlmodel import Session

from hub import feed, outbox, presence_history
from hub.presence import MISSED_HEARTBEATS, Evidence
from hub_protocol import messages
from hub_protocol.topics import Topics

_TOPICS: Final = Topics.below_root()
FIELDS: Final = (
    "epoch, verdict, why, since, heartbeat_s, last_heard_at, last_hello_at, last_heartbeat_at, asleep_until, probes, "
    "probed_at, source, unrest, unrest_at, flapping"
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
            f"SELECT device_id, {FIELDS} FROM device_presence WHERE device_id = ANY(:ids) ORDER BY device_id FOR UPDATE"
        ),
        {"ids": list(device_ids)},
    )
    return {row[0]: Evidence(*row[1:]) for row in rows}


def lock_free(session: Session, device_ids: Collection[uuid.UUID]) -> dict[uuid.UUID, Evidence]:
    """The same without waiting: rows that others hold are left out."""
    rows = session.execute(
        text(
            f"SELECT device_id, {FIELDS} FROM device_presence WHERE device_id = ANY(:ids) "
            "ORDER BY device_id FOR UPDATE SKIP LOCKED"
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
            f"SELECT p.device_id, d.agent_id, d.handle, {FIELDS} FROM device_presence AS p JOIN devices AS d "
            "USING (device_id) WHERE p.verdict NOT IN ('offline', 'unknown') AND p.source <> 'proxy' "
            "AND coalesce(p.asleep_until, p.last_heard_at, p.since) "
            "< CAST(:now AS timestamptz) - make_interval(secs => p.heartbeat_s * :missed) "
            "AND (CAST(:after AS uuid) IS NULL OR p.device_id > :after) "
            "ORDER BY p.device_id LIMIT :limit FOR UPDATE OF p SKIP LOCKED"
        ),
        {"now": now, "after": after, "limit": limit, "missed": MISSED_HEARTBEATS},
    )
    return [Known(row[0], row[1], row[2], Evidence(*row[3:])) for row in rows]


def lock_flapping(session: Session) -> list[Known]:
    """Those that flap, locked; rows that others hold are left out, and looked at the next time."""
    rows = session.execute(
        text(
            f"SELECT p.device_id, d.agent_id, d.handle, {FIELDS} FROM device_presence AS p JOIN devices AS d "
            "USING (device_id) WHERE p.flapping ORDER BY p.device_id FOR UPDATE OF p SKIP LOCKED"
        )
    )
    return [Known(row[0], row[1], row[2], Evidence(*row[3:])) for row in rows]


def save(session: Session, changes: Mapping[uuid.UUID, tuple[Known, Evidence]]) -> None:
    """Write new evidence for many devices at once; a changed verdict is kept in the history, retained on MQTT and told
    to open pages.
    """
    changed = {key: (known, after) for key, (known, after) in changes.items() if after != known.evidence}
    if not changed:
        return
    evidence = [after for _, after in changed.values()]
    session.execute(
        text(
            "UPDATE device_presence AS p SET epoch = n.epoch, verdict = n.verdict, why = n.why, since = n.since, "
            "heartbeat_s = n.heartbeat_s, last_heard_at = n.last_heard_at, last_hello_at = n.last_hello_at, "
            "last_heartbeat_at = n.last_heartbeat_at, asleep_until = n.asleep_until, probes = n.probes, "
            "probed_at = n.probed_at, source = n.source, unrest = n.unrest, unrest_at = n.unrest_at, "
            "flapping = n.flapping "
            "FROM unnest(CAST(:ids AS uuid[]), CAST(:epoch AS bigint[]), CAST(:verdict AS text[]), "
            "CAST(:why AS text[]), CAST(:since AS timestamptz[]), CAST(:heartbeat_s AS double precision[]), "
            "CAST(:last_heard_at AS timestamptz[]), CAST(:last_hello_at AS timestamptz[]), "
            "CAST(:last_heartbeat_at AS timestamptz[]), CAST(:asleep_until AS timestamptz[]), "
            "CAST(:probes AS smallint[]), CAST(:probed_at AS timestamptz[]), CAST(:source AS text[]), "
            "CAST(:unrest AS double precision[]), CAST(:unrest_at AS timestamptz[]), CAST(:flapping AS boolean[])) "
            f"AS n (device_id, {FIELDS}) WHERE p.device_id = n.device_id"
        ),
        {"ids": list(changed)}
        | {name: [getattr(one, name) for one in evidence] for name in FIELDS.replace(" ", "").split(",")},
    )
    presence_history.record(
        session,
        [
            presence_history.Change(known.device_id, known.agent_id, _drawn_at(known.evidence, after), after)
            for known, after in changed.values()
            if (after.verdict, after.epoch) != (known.evidence.verdict, known.evidence.epoch)
        ],
    )
    for known, after in changed.values():
        if _told_of(after) != _told_of(known.evidence):
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
        "flapping": evidence.flapping,
    }


def _drawn_at(before: Evidence, after: Evidence) -> datetime:
    """When the verdict was drawn: a new connection of a device that was online already began when it was heard."""
    at = after.last_heard_at if after.verdict == before.verdict else after.since
    assert at is not None  # noqa: S101  (every verdict that was drawn has its time)
    return at


def _told_of(evidence: Evidence) -> tuple[object, ...]:
    return evidence.verdict, evidence.why, evidence.epoch, evidence.flapping


def _tell(session: Session, known: Known, after: Evidence) -> None:
    assert after.since is not None  # noqa: S101  (every verdict that was drawn has its time)
    verdict = messages.Presence(
        after.verdict,
        after.since,
        after.why,
        after.epoch,
        round(after.bound_s, 1),
        after.last_heard_at,
        after.flapping,
    )
    outbox.retain(session, _TOPICS.presence(known.handle), verdict, device_id=known.device_id)
    feed.tell(session, known.agent_id, "presence", "presence.updated", facts(known.device_id, known.handle, after))
