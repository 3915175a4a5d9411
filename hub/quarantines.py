"""Devices in quarantine as rows: why, since when, until when as it looks now, and what was set aside."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import text
from sqlmodel import Session

from hub import audit, feed
from hub.errors import Conflict
from hub.tables import Device

_MAX_TOPIC: Final = 500


@dataclass(frozen=True, slots=True)
class Spell:
    """A device's quarantine as it goes on; `set_aside` is what came since the last word of it."""

    reason: str
    detail: str
    until: datetime
    set_aside: int
    last_topic: str


@dataclass(frozen=True, slots=True)
class Kept:
    """A row: enough to go on with it after a restart."""

    device_id: uuid.UUID
    handle: str
    reason: str
    until: datetime


def note(session: Session, spells: Mapping[str, Spell], now: datetime) -> list[str]:
    """Write how these quarantines (by handle) stand; returns the handles that are in quarantine from now on.

    Handles that no device has are left out.
    """
    begun = []
    for handle, spell in sorted(spells.items()):
        row = session.execute(
            text(
                "INSERT INTO quarantines AS q (device_id, agent_id, reason, detail, since, until, set_aside,"
                " last_topic, last_at) SELECT device_id, agent_id, :reason, :detail, :now, :until, :set_aside,"
                " :last_topic, :now FROM devices WHERE handle = :handle AND deleted_at IS NULL"
                " ON CONFLICT (device_id) DO UPDATE SET until = excluded.until,"
                " set_aside = q.set_aside + excluded.set_aside,"
                " last_topic = CASE WHEN excluded.set_aside > 0 THEN excluded.last_topic ELSE q.last_topic END,"
                " last_at = CASE WHEN excluded.set_aside > 0 THEN excluded.last_at ELSE q.last_at END"
                " RETURNING device_id, agent_id, q.since = :now AS is_new"
            ),
            {
                "handle": handle,
                "reason": spell.reason,
                "detail": spell.detail,
                "now": now,
                "until": spell.until,
                "set_aside": spell.set_aside,
                "last_topic": spell.last_topic[:_MAX_TOPIC].replace("\0", "�"),
            },
        ).first()
        if row is not None and row.is_new:
            begun.append(handle)
            facts = {"reason": spell.reason, "detail": spell.detail}
            _say(session, row.agent_id, row.device_id, handle, "quarantined", "the hub", after=facts)
    return begun


def over(session: Session, handles: list[str]) -> None:
    """The hub lets these go: they have calmed down."""
    rows = session.execute(
        text(
            "DELETE FROM quarantines AS q USING devices AS d WHERE d.device_id = q.device_id"
            " AND d.handle = ANY(:handles) RETURNING d.agent_id, d.device_id, d.handle, q.reason, q.set_aside"
        ),
        {"handles": handles},
    ).all()
    for row in rows:
        facts = {"reason": row.reason, "set_aside": row.set_aside}
        _say(session, row.agent_id, row.device_id, row.handle, "let_go", "the hub", before=facts)


def let_go(session: Session, device: Device, *, by: str) -> None:
    """Somebody lets it go before its time; raises `Conflict` when it is not in quarantine. The hub hears in a second.

    When it goes on as before, it is quarantined again.
    """
    row = session.execute(
        text("DELETE FROM quarantines WHERE device_id = :device RETURNING reason, set_aside"),
        {"device": device.device_id},
    ).first()
    if row is None:
        raise Conflict(f"{device.handle} is not in quarantine")
    facts = {"reason": row.reason, "set_aside": row.set_aside}
    _say(session, device.agent_id, device.device_id, device.handle, "let_go", by, before=facts)


def kept(session: Session) -> list[Kept]:
    """All quarantines of the hub."""
    rows = session.execute(
        text("SELECT device_id, handle, reason, until FROM quarantines JOIN devices USING (device_id) ORDER BY handle")
    )
    return [Kept(*row) for row in rows]


def _say(
    session: Session,
    agent_id: uuid.UUID,
    device_id: uuid.UUID,
    handle: str,
    verb: str,
    by: str,
    **facts: Mapping[str, object],
) -> None:
    item = {"device_id": str(device_id), "handle": handle, "change": verb, "by": by}
    feed.tell(session, agent_id, "devices", "devices.updated", item)
    audit.record(session, agent_id, by=by, action=f"device.{verb}", subject=handle, subject_id=device_id, **facts)
