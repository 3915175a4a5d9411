"""Devices that came with a claim code, as people see them: who waits, what was decided, who has its token."""

import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import text
from sqlmodel import Session

from hub import audit, feed
from hub.errors import Invalid, NotFound

STATES: Final = ("pending", "approved", "collected", "rejected", "expired")


@dataclass(frozen=True, slots=True)
class EnrolmentView:
    """A device that asked to join. `said_name` to `address` are what it says and where it came from: proof of nothing.

    `state` is the row's status, or "collected" once the device has its token. `name` to `scopes` are what its code
    gives it; with `device_id` before the approval it is a device that is there already.
    """

    enrolment_id: uuid.UUID
    claim_id: uuid.UUID
    device_id: uuid.UUID | None
    device_name: str | None
    device_handle: str | None
    is_known: bool
    state: str
    said_name: str
    hardware: str
    firmware: str
    fingerprint: str
    address: str
    phrase: str
    name: str | None
    handle: str | None
    space_id: uuid.UUID | None
    space_name: str | None
    scopes: list[str]
    code_by: str
    asked_at: datetime
    expires_at: datetime
    decided_at: datetime | None
    decided_by: str | None
    reason: str | None
    collected_at: datetime | None

    @property
    def called(self) -> str:
        """The best name that there is for it."""
        return self.device_name or self.name or self.said_name or "a device without a name"


def waiting(session: Session, agent_id: uuid.UUID, now: datetime) -> list[EnrolmentView]:
    """Those that wait for a person's word, the longest first."""
    return _views(session, agent_id, "e.status = 'pending' AND e.expires_at > :now", "e.asked_at", now=now)


def overview(
    session: Session, agent_id: uuid.UUID, *, state: str | None = None, limit: int = 100
) -> list[EnrolmentView]:
    """All of the agent that are still kept, the newest first; of one state when given. Raises `Invalid`."""
    if state is not None and state not in STATES:
        raise Invalid(f"is one of {', '.join(STATES)}", field="state")
    where = f"(CAST(:state AS text) IS NULL OR {_STATE} = :state)"
    return _views(session, agent_id, where, "e.asked_at DESC", state=state, limit=limit)


def find(session: Session, agent_id: uuid.UUID, enrolment_id: uuid.UUID) -> EnrolmentView:
    """One of the agent's; `NotFound` also for another agent's."""
    for view in _views(session, agent_id, "e.enrolment_id = :id", "e.asked_at", id=enrolment_id):
        return view
    raise NotFound("there is no such enrolment")


def of_claim(session: Session, agent_id: uuid.UUID, claim_id: uuid.UUID) -> EnrolmentView | None:
    """The device that used this code; None while none has."""
    found = _views(session, agent_id, "e.claim_id = :claim", "e.asked_at", claim=claim_id)
    return found[0] if found else None


def note(session: Session, view: EnrolmentView, agent_id: uuid.UUID, verb: str, by: str, **facts: Any) -> None:
    """Tell open pages what happened (no more than ids, for guests hear it too), and write it into the audit."""
    item = {"enrolment_id": str(view.enrolment_id), "claim_id": str(view.claim_id), "state": view.state}
    feed.tell(session, agent_id, "devices", "enrolments.updated", item)
    audit.record(
        session,
        agent_id,
        by=by,
        action=f"enrolment.{verb}",
        subject=view.device_handle or view.called,
        subject_id=view.enrolment_id,
        after=facts or None,
    )


_STATE: Final = "CASE WHEN e.collected_at IS NOT NULL THEN 'collected' ELSE e.status END"


def _views(
    session: Session, agent_id: uuid.UUID, where: str, order: str, *, limit: int = 200, **values: Any
) -> list[EnrolmentView]:
    rows = session.execute(
        text(
            "SELECT e.enrolment_id, e.claim_id, d.device_id, d.name AS device_name, d.handle AS device_handle,"
            f" c.device_id IS NOT NULL AS is_known, {_STATE} AS state, e.name AS said_name, e.hardware, e.firmware,"
            " e.fingerprint, e.address, e.phrase, c.name, c.handle, c.space_id, s.name AS space_name, c.scopes,"
            " c.created_by AS code_by, e.asked_at, e.expires_at, e.decided_at, e.decided_by, e.reason, e.collected_at"
            " FROM enrolments AS e JOIN claim_codes AS c USING (claim_id)"
            " LEFT JOIN devices AS d ON d.device_id = coalesce(e.device_id, c.device_id)"
            " LEFT JOIN spaces AS s ON s.space_id = coalesce(d.space_id, c.space_id)"
            f" WHERE e.agent_id = :agent AND {where} ORDER BY {order}, e.enrolment_id LIMIT :limit"
        ),
        {"agent": agent_id, "limit": limit} | values,
    )
    return [EnrolmentView(**row._mapping) for row in rows]  # noqa: SLF001  (SQLAlchemy's public name for it)
