"""Which devices somebody looks at: an open page says so again and again, and is forgotten when it stops."""

import uuid
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import text
from sqlmodel import Session

from hub import devices

# A page renews well within this time.
LASTS: Final = timedelta(seconds=60)


def watch(session: Session, agent_id: uuid.UUID, device_id: uuid.UUID, now: datetime) -> None:
    """Somebody looks at this device's telemetry now; raises `NotFound` for a device of another agent."""
    devices.find(session, agent_id, device_id)
    session.execute(
        text(
            "INSERT INTO telemetry_watches AS w (device_id, until) VALUES (:device, :until)"
            " ON CONFLICT (device_id) DO UPDATE SET until = greatest(w.until, excluded.until)"
        ),
        {"device": device_id, "until": now + LASTS},
    )


def watched(session: Session, now: datetime) -> set[uuid.UUID]:
    """All devices that somebody looks at now."""
    rows = session.execute(text("SELECT device_id FROM telemetry_watches WHERE until > :now"), {"now": now})
    return set(rows.scalars())


def is_watched(session: Session, device_id: uuid.UUID, now: datetime) -> bool:
    """Whether somebody looks at this device now."""
    row = session.execute(
        text("SELECT 1 FROM telemetry_watches WHERE device_id = :device AND until > :now"),
        {"device": device_id, "now": now},
    )
    return row.first() is not None


def forget(session: Session, now: datetime) -> None:
    """Remove the watches that have run out."""
    session.execute(text("DELETE FROM telemetry_watches WHERE until < :now"), {"now": now})
