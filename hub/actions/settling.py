"""The end of a command is the end of the action that sent it, in the same transaction."""

import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Final

from sqlalchemy import text
from sqlmodel import Session

from hub.actions import execution
from hub.actions.states import Status

# What a device said in the end, as far as it is kept: of a late reply the ledger has the word in its last step.
_LATE_WELL: Final = "after the deadline: succeeded"


def settle(session: Session, command_ids: Sequence[uuid.UUID], now: datetime) -> None:
    """Settle the actions of those of these commands that are over."""
    if not command_ids:
        return
    rows = session.execute(
        text(
            "SELECT c.action_id, d.handle, c.verb, c.status, c.sent_at, c.code, c.message, c.result, "
            "(SELECT s.witness FROM command_steps AS s WHERE s.command_id = c.command_id "
            "ORDER BY s.step_no DESC LIMIT 1) AS witness "
            "FROM commands AS c JOIN devices AS d USING (device_id) WHERE c.command_id = ANY(:ids) "
            "AND c.action_id IS NOT NULL AND c.finished_at IS NOT NULL ORDER BY c.action_id"
        ),
        {"ids": list(command_ids)},
    ).all()
    for row in rows:
        status, error = _end_of(row.status, row.sent_at, row.code, row.message, row.witness or "")
        execution.end(
            session,
            row.action_id,
            status,
            now,
            result=row.result if status == "executed" else None,
            error=error,
            witness=row.handle if row.status not in ("expired", "unknown", "cancelled") else str(execution.HUB),
            note="it answered after the deadline" if row.status == "late" else "",
        )


def _end_of(status: str, sent_at: datetime | None, code: str, message: str, witness: str) -> tuple[Status, str | None]:
    said = f"{code}: {message}" if code and message else code or message
    if status == "succeeded" or (status == "late" and witness.endswith(_LATE_WELL)):
        return "executed", None
    if status in ("failed", "rejected", "late"):
        return "failed", said or f"the device says: {status}"
    if status == "unknown" or (status == "expired" and sent_at is not None):
        # It may have been done: nobody says that it was not.
        return "unknown", message
    return "failed", message or "it never reached the device"
