"""How commands end without a word of the device: taken back, overtaken by their deadline, and at last forgotten."""

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime

from sqlalchemy import text
from sqlmodel import Session

from hub import audit, commands, verbs
from hub.actions import settling
from hub.errors import Conflict
from hub.tables import Device
from hub_protocol.messages import CANCEL


def cancel(session: Session, agent_id: uuid.UUID, command_id: uuid.UUID, *, by: str, now: datetime) -> bool:
    """Take back a command that waits (True), or ask a device that can do so to end one that it has (False).

    Raises `NotFound`, or `Conflict` when it is over, or was sent to a device that knows no `cancel`.
    """
    before = commands.get(session, agent_id, command_id)
    taken_back = bool(cancel_queued(session, [command_id], by=by, now=now))
    if not taken_back:
        after = commands.get(session, agent_id, command_id)
        if after.sent_at is None or after.finished_at is not None:
            raise Conflict(f"{before.verb} is over: {after.status}")
        if before.verb == CANCEL or not _can_cancel(session, before.device_id):
            raise Conflict(f"{before.verb} was sent to {before.handle} already and cannot be taken back")
        device = session.get_one(Device, before.device_id)
        ttl_s = max(1.0, (before.expires_at - now).total_seconds())
        commands.queue(session, [device], CANCEL, {"command_id": str(command_id)}, by=by, ttl_s=ttl_s, now=now)
    audit.record(
        session,
        agent_id,
        by=by,
        action="command.cancelled" if taken_back else "command.cancel_sent",
        subject=before.handle,
        subject_id=before.device_id,
        after={"verb": before.verb, "command_id": command_id},
    )
    return taken_back


def _can_cancel(session: Session, device_id: uuid.UUID) -> bool:
    """Whether the device's last hello named the verb that ends others."""
    hello = session.execute(
        text("SELECT hello FROM device_presence WHERE device_id = :device"), {"device": device_id}
    ).scalar_one()
    return any(verb.name == CANCEL and verb.is_declared for verb in verbs.of_hello(hello or {}))


def cancel_queued(session: Session, ids: Sequence[uuid.UUID], *, by: str, now: datetime) -> list[uuid.UUID]:
    """Take back those of these commands that still wait; returns them. What was sent goes on.

    The publisher holds the row of a command from before it publishes until it has written `sent`: either it is waited
    for here, or it finds the command over and leaves it.
    """
    rows = session.execute(
        text(
            "WITH held AS (SELECT command_id FROM commands WHERE command_id = ANY(:ids) AND status = 'queued' "
            "ORDER BY command_id FOR NO KEY UPDATE), "
            "ended AS (UPDATE commands AS c SET status = 'cancelled', finished_at = :now, "
            "message = 'cancelled before it was sent' FROM held "
            "WHERE c.command_id = held.command_id AND c.status = 'queued' RETURNING c.command_id) "
            "INSERT INTO command_steps (command_id, status, witness, at) "
            "SELECT command_id, 'cancelled', :by, :now FROM ended RETURNING command_id"
        ),
        {"ids": list(ids), "by": by, "now": now},
    ).scalars()
    cancelled = list(rows)
    if cancelled:
        # Rows that the publisher has just taken are not waited for: it will look at the command and drop them.
        session.execute(
            text(
                "DELETE FROM outbox WHERE outbox_id IN (SELECT outbox_id FROM outbox WHERE command_id = ANY(:ids) "
                "FOR UPDATE SKIP LOCKED)"
            ),
            {"ids": cancelled},
        )
        settling.settle(session, cancelled, now)
        commands.tell(session, cancelled)
    return cancelled


def expire(session: Session, now: datetime, limit: int = 500) -> int:
    """Give silence after the deadline its name: `expired` when the device never answered, else `unknown`."""
    rows = session.execute(
        text(
            "WITH due AS (SELECT command_id FROM commands WHERE finished_at IS NULL AND expires_at < :due "
            "ORDER BY command_id LIMIT :limit FOR UPDATE SKIP LOCKED), "
            "ended AS (UPDATE commands AS c SET finished_at = :now, "
            "status = CASE WHEN c.status IN ('queued', 'sent') THEN 'expired' ELSE 'unknown' END, "
            "message = CASE c.status WHEN 'queued' THEN 'the device was not there before the deadline' "
            "WHEN 'sent' THEN 'the device did not answer before the deadline' "
            "ELSE 'the device accepted it and was not heard again about it' END "
            "FROM due WHERE c.command_id = due.command_id RETURNING c.command_id, c.status) "
            "INSERT INTO command_steps (command_id, status, witness, at) "
            "SELECT command_id, status, 'the deadline passed', :now FROM ended RETURNING command_id"
        ),
        {"due": now - commands.GRACE, "now": now, "limit": limit},
    ).scalars()
    expired = list(rows)
    settling.settle(session, expired, now)
    commands.tell(session, expired)
    return len(expired)


def give_up(session: Session, device_ids: Sequence[uuid.UUID], why: str, *, witness: str) -> None:
    """End what is open for these devices, which are shut out: nothing of it is sent any more."""
    rows = session.execute(
        text(
            "WITH held AS (SELECT command_id FROM commands WHERE device_id = ANY(:devices) AND finished_at IS NULL "
            "ORDER BY command_id FOR UPDATE), "
            "ended AS (UPDATE commands AS c SET status = CASE WHEN c.status IN ('queued', 'sent') THEN 'expired' "
            "ELSE 'unknown' END, finished_at = now(), message = :why "
            "FROM held WHERE c.command_id = held.command_id RETURNING c.command_id, c.status) "
            "INSERT INTO command_steps (command_id, status, witness) SELECT command_id, status, :witness FROM ended "
            "RETURNING command_id"
        ),
        {"devices": list(device_ids), "why": why, "witness": witness},
    ).scalars()
    ended = list(rows)
    settling.settle(session, ended, datetime.now(UTC))
    commands.tell(session, ended)
