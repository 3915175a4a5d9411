"""The streams of a device: which there are, their newest values, and how one is forgotten with all its samples."""

import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import text
from sqlmodel import Session

from hub import audit, devices
from hub.errors import NotFound
from hub.telemetry.tiers import TIERS

_ROWS_AT_ONCE: Final = 20_000


@dataclass(frozen=True, slots=True)
class StreamView:
    """A stream with its newest sample."""

    stream_id: int
    device_id: uuid.UUID
    handle: str
    name: str
    created_at: datetime
    last_at: datetime
    last_value: float


_SELECT: Final = (
    "SELECT s.stream_id, s.device_id, d.handle, s.name, s.created_at, s.last_at, s.last_value"
    " FROM telemetry_streams AS s JOIN devices AS d USING (device_id, agent_id)"
    " WHERE s.agent_id = :agent AND s.device_id = :device"
)


def of_device(session: Session, agent_id: uuid.UUID, device_id: uuid.UUID) -> list[StreamView]:
    """All streams of a device with their newest values, by name; [] for a device of another agent."""
    rows = session.execute(text(f"{_SELECT} ORDER BY s.name"), {"agent": agent_id, "device": device_id})
    return [StreamView(*row) for row in rows]


def find(session: Session, agent_id: uuid.UUID, device_id: uuid.UUID, name: str) -> StreamView:
    """One stream; raises `NotFound`, also when the device is another agent's."""
    row = session.execute(
        text(f"{_SELECT} AND s.name = :name"), {"agent": agent_id, "device": device_id, "name": name.replace("\0", "")}
    ).first()
    if row is None:
        raise NotFound("this device has no such stream", field="stream")
    return StreamView(*row)


def forget(session: Session, agent_id: uuid.UUID, device_id: uuid.UUID, name: str, *, by: str) -> None:
    """Delete a stream: it is gone at once for every reader, its samples are removed within minutes."""
    device = devices.find(session, agent_id, device_id)
    stream = find(session, agent_id, device_id, name)
    session.execute(text("DELETE FROM telemetry_streams WHERE stream_id = :id"), {"id": stream.stream_id})
    before = {"stream": name, "last_at": stream.last_at, "last_value": stream.last_value}
    audit.record(
        session,
        agent_id,
        by=by,
        action="telemetry.forgotten",
        subject=device.name,
        subject_id=device_id,
        before=before,
    )


def forget_silent(session: Session, before: datetime) -> int:
    """Delete streams of which nothing is kept any more; returns how many."""
    gone = session.execute(
        text("DELETE FROM telemetry_streams WHERE last_at < :before RETURNING stream_id"), {"before": before}
    )
    return len(gone.all())


def purge(session: Session, limit: int = _ROWS_AT_ONCE) -> bool:
    """Remove some of what deleted streams left behind; returns whether there may be more."""
    stream_id = session.execute(
        text("SELECT stream_id FROM telemetry_forgotten ORDER BY forgotten_at LIMIT 1 FOR UPDATE SKIP LOCKED")
    ).scalar()
    if stream_id is None:
        return False
    session.execute(text("DELETE FROM telemetry_stale WHERE stream_id = :id"), {"id": stream_id})
    for tier in TIERS.values():
        removed = session.execute(
            text(
                f"WITH gone AS (DELETE FROM {tier.table} WHERE stream_id = :id AND at IN (SELECT at FROM {tier.table}"
                " WHERE stream_id = :id LIMIT :limit) RETURNING 1) SELECT count(*) FROM gone"
            ),
            {"id": stream_id, "limit": limit},
        ).scalar_one()
        if removed == limit:
            return True
    session.execute(text("DELETE FROM telemetry_forgotten WHERE stream_id = :id"), {"id": stream_id})
    return True
