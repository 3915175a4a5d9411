"""What becomes of a device that asks to join: approved, rejected, or forgotten by everybody until it has run out."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import text
from sqlmodel import Session, select

from hub import devices, enrolment_records
from hub.errors import Conflict, Invalid, NotFound
from hub.tables import Device, Enrolment

# After the approval the device has so long to fetch its token.
COLLECT_WITHIN: Final = timedelta(days=1)
REASON_MAX: Final = 200


@dataclass(frozen=True, slots=True)
class Approval:
    """What the new device shall be; what is None comes from its code, then from what it says.

    Of a device that is there already nothing changes.
    """

    name: str | None = None
    handle: str | None = None
    space_id: uuid.UUID | None = None
    scopes: Sequence[str] | None = None


def approve(
    session: Session, agent_id: uuid.UUID, enrolment_id: uuid.UUID, approval: Approval, *, by: str, now: datetime
) -> Device:
    """Let the device in: it is made (or is there already) and may fetch its token.

    Raises `NotFound`, `Conflict` (somebody was first, it ran out, handle taken, device revoked), `Invalid` (name,
    handle, scopes). The space is the one given, even None: whoever approves has seen it.
    """
    view = _take(session, agent_id, enrolment_id, now)
    if view.is_known and view.device_id is not None:
        device = devices.find(session, agent_id, view.device_id)
        if device.revoked_at is not None:
            raise Conflict(f"{device.handle} is revoked and gets no new token; reject this, and add it anew")
    else:
        device = devices.register(
            session,
            agent_id,
            approval.name or view.name or view.said_name,
            scopes=list(view.scopes if approval.scopes is None else approval.scopes),
            by=by,
            space_id=approval.space_id,
            handle=approval.handle or view.handle,
        )
    _decide(
        session,
        enrolment_id,
        {
            "status": "approved",
            "device_id": device.device_id,
            "decided_at": now,
            "decided_by": by,
            "expires_at": now + COLLECT_WITHIN,
        },
    )
    fresh = enrolment_records.find(session, agent_id, enrolment_id)
    enrolment_records.note(session, fresh, agent_id, "approved", by, address=fresh.address, hardware=fresh.hardware)
    return device


def reject(
    session: Session, agent_id: uuid.UUID, enrolment_id: uuid.UUID, *, by: str, now: datetime, reason: str = ""
) -> None:
    """Send the device away; it is told why. Raises `NotFound`, `Conflict` (somebody was first), `Invalid` (reason)."""
    reason = " ".join(reason.split())
    if len(reason) > REASON_MAX or not reason.isprintable():
        raise Invalid(f"is at most {REASON_MAX} printable characters", field="reason")
    _take(session, agent_id, enrolment_id, now)
    _decide(
        session,
        enrolment_id,
        {"status": "rejected", "decided_at": now, "decided_by": by, "reason": reason or None},
    )
    view = enrolment_records.find(session, agent_id, enrolment_id)
    facts = {"reason": reason} if reason else {}
    enrolment_records.note(session, view, agent_id, "rejected", by, **facts)


def expire(session: Session, now: datetime) -> int:
    """Give up on those that nobody decided about in time, or that never came for their token; returns how many."""
    rows = session.execute(
        text(
            "UPDATE enrolments SET status = 'expired', decided_at = coalesce(decided_at, :now),"
            " decided_by = coalesce(decided_by, 'the hub'), reason = CASE status WHEN 'pending'"
            " THEN 'nobody decided in time' ELSE 'it did not fetch its token in time' END"
            " WHERE (status = 'pending' OR (status = 'approved' AND collected_at IS NULL)) AND expires_at <= :now"
            " RETURNING agent_id, enrolment_id, reason"
        ),
        {"now": now},
    ).all()
    for row in rows:
        view = enrolment_records.find(session, row.agent_id, row.enrolment_id)
        enrolment_records.note(session, view, row.agent_id, "expired", "the hub", reason=row.reason)
    return len(rows)


def forget(session: Session, before: datetime) -> None:
    """Remove codes that ended before then, with the devices that asked with them; the audit keeps what happened."""
    session.execute(text("DELETE FROM claim_codes WHERE expires_at < :before"), {"before": before})


def _take(
    session: Session, agent_id: uuid.UUID, enrolment_id: uuid.UUID, now: datetime
) -> enrolment_records.EnrolmentView:
    """The enrolment, held until this transaction ends and still waiting for a word."""
    session.flush()
    held = session.execute(
        text("SELECT status, expires_at FROM enrolments WHERE enrolment_id = :id AND agent_id = :agent FOR UPDATE"),
        {"id": enrolment_id, "agent": agent_id},
    ).one_or_none()
    if held is None:
        raise NotFound("there is no such enrolment")
    view = enrolment_records.find(session, agent_id, enrolment_id)
    if held.status != "pending":
        by = f" by {view.decided_by}" if view.decided_by else ""
        raise Conflict(f"{view.called} was {held.status} already{by}")
    if held.expires_at <= now:
        raise Conflict(f"{view.called} waited too long; make another code for it")
    return view


def _decide(session: Session, enrolment_id: uuid.UUID, values: dict[str, Any]) -> None:
    row = session.exec(select(Enrolment).where(Enrolment.enrolment_id == enrolment_id)).one()
    for name, value in values.items():
        setattr(row, name, value)
    session.add(row)
    session.flush()
