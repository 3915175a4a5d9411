"""The devices that a batch speaks for, found by one query and locked in one order."""

from collections.abc import Collection

from sqlalchemy import text
from sqlmodel import Session

from hub import presence_records
from hub.inbox.envelope import Sender
from hub.presence_records import Known


def load(session: Session, handles: Collection[str]) -> dict[str, Sender]:
    """Every device of these handles with its evidence, by handle; unknown ones are missing."""
    ids = session.execute(
        text("SELECT device_id FROM devices WHERE handle = ANY(:handles)"), {"handles": list(handles)}
    ).scalars()
    evidence = presence_records.lock(session, list(ids))
    # Read behind the lock: who is revoked at this moment is either seen so here, or is ended after this batch.
    rows = session.execute(
        text(
            "SELECT d.device_id, d.agent_id, d.handle, d.space_id, d.scopes, d.revoked_at IS NOT NULL OR a.disabled "
            "FROM devices AS d JOIN agents AS a USING (agent_id) WHERE d.device_id = ANY(:ids)"
        ),
        {"ids": list(evidence)},
    ).all()
    return {
        handle: Sender(Known(device_id, agent_id, handle, evidence[device_id]), space_id, scopes, revoked)
        for device_id, agent_id, handle, space_id, scopes, revoked in rows
    }
