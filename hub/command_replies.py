"""What devices say of commands, written into the ledger: forward only, and the truth also when it comes too late."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import msgspec
from sqlalchemy import text
from sqlmodel import Session

from hub.actions import settling
from hub.commands import FINAL, GRACE, Status, tell
from hub_protocol import messages

_RANK: Final = {"queued": 0, "sent": 1, "accepted": 2, "running": 3}
# The hub gave these names to silence, or to a command that it believed unsent; a device that answers knows better.
_GUESSED: Final = frozenset({"expired", "unknown", "cancelled"})


@dataclass(frozen=True, slots=True)
class DeviceReply:
    """A device's word on a command, as it came in."""

    command_id: uuid.UUID
    device_id: uuid.UUID
    reply: messages.Reply
    at: datetime


def advance(status: Status, said: str, at: datetime, expires_at: datetime) -> Status | None:
    """The status after a device's word; None when it changes nothing (a repeat, or one step back)."""
    is_final = said in FINAL
    if status in FINAL and not (is_final and status in _GUESSED):
        return None
    if is_final:  # also when silence was given its name while a reply in time was on its way into the ledger
        return "late" if at > expires_at + GRACE else said  # type: ignore[return-value]
    return said if _RANK[said] > _RANK[status] else None  # type: ignore[return-value]


def answer(session: Session, replies: Sequence[DeviceReply]) -> set[uuid.UUID]:
    """Write what devices replied, in order; returns the ids that are commands of those devices."""
    rows = session.execute(
        text(
            "SELECT command_id, device_id, status, expires_at, progress FROM commands WHERE command_id = ANY(:ids) "
            "ORDER BY command_id FOR NO KEY UPDATE"
        ),
        {"ids": [reply.command_id for reply in replies]},
    )
    ledger = {row.command_id: row for row in rows}
    statuses: dict[uuid.UUID, Status] = {key: row.status for key, row in ledger.items()}
    known: set[uuid.UUID] = set()
    for one in replies:
        row = ledger.get(one.command_id)
        if row is None or row.device_id != one.device_id:
            continue
        known.add(one.command_id)
        status = advance(statuses[one.command_id], one.reply.status, one.at, row.expires_at)
        is_progress = one.reply.status == statuses[one.command_id] == "running" and one.reply.progress is not None
        if status is None and not is_progress:
            continue
        _write(session, one, status, was=statuses[one.command_id])
        statuses[one.command_id] = status or statuses[one.command_id]
        if status in FINAL:
            settling.settle(session, [one.command_id], one.at)
    tell(session, list(known))
    return known


def _write(session: Session, one: DeviceReply, status: Status | None, *, was: Status) -> None:
    finished_at = one.at if status in FINAL else None
    session.execute(
        text(
            "UPDATE commands SET status = coalesce(CAST(:status AS text), status), "
            "finished_at = coalesce(CAST(:finished AS timestamptz), finished_at), code = :code, message = :message, "
            "progress = coalesce(CAST(:progress AS double precision), progress), "
            "result = coalesce(CAST(:result AS jsonb), result) WHERE command_id = :id"
        ),
        {
            "status": status,
            "finished": finished_at,
            "code": one.reply.code,
            "message": one.reply.message,
            "progress": one.reply.progress,
            "result": None if one.reply.result is None else msgspec.json.encode(one.reply.result).decode(),
            "id": one.command_id,
        },
    )
    if status is not None:
        witness = "the device, although it was cancelled" if was == "cancelled" else "the device"
        if status == "late":
            witness = f"{witness}, after the deadline: {one.reply.status}"
        session.execute(
            text("INSERT INTO command_steps (command_id, status, witness, at) VALUES (:id, :status, :witness, :at)"),
            {"id": one.command_id, "status": status, "witness": witness, "at": one.at},
        )
