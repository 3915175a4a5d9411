"""The command ledger: a command is a row before it is a message; every step keeps its time and its witness."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

import msgspec
from sqlalchemy import text
from sqlmodel import Session

from hub import feed, outbox
from hub.errors import Conflict, Invalid, NotFound
from hub.tables import Command, CommandStep, Device
from hub_protocol import messages
from hub_protocol.errors import BadName
from hub_protocol.topics import Topics, check_level

Status = Literal[
    "queued", "sent", "accepted", "running", "succeeded", "failed", "rejected", "expired", "unknown", "late"
]

TTL_MAX_S: Final = 86_400.0
ARGS_MAX_BYTES: Final = 32_768
# A reply may still be on its way when the deadline passes; only then is silence given a name.
GRACE: Final = timedelta(seconds=1)
FINAL: Final = frozenset({"succeeded", "failed", "rejected", "expired", "unknown", "late"})
_RANK: Final = {"queued": 0, "sent": 1, "accepted": 2, "running": 3}
_TOPICS: Final = Topics.below_root()
_VIEW: Final = (
    "SELECT c.command_id, c.device_id, d.handle, c.agent_id, c.verb, c.status, c.created_at, c.sent_at, c.finished_at, "
    "c.expires_at, c.requested_by, c.code, c.message, c.progress, c.result, "
    "round((extract(epoch FROM c.finished_at - c.sent_at) * 1000)::numeric, 1)::double precision AS rtt_ms "
    "FROM commands AS c JOIN devices AS d USING (device_id) "
)


@dataclass(frozen=True, slots=True)
class CommandView:
    """A command with its states and their times; `rtt_ms` is from the publishing to the last reply, in milliseconds."""

    command_id: uuid.UUID
    device_id: uuid.UUID
    handle: str
    agent_id: uuid.UUID
    verb: str
    status: Status
    created_at: datetime
    sent_at: datetime | None
    finished_at: datetime | None
    expires_at: datetime
    requested_by: str
    code: str
    message: str
    progress: float | None
    result: Any
    rtt_ms: float | None
    steps: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class DeviceReply:
    """A device's word on a command, as it came in."""

    command_id: uuid.UUID
    device_id: uuid.UUID
    reply: messages.Reply
    at: datetime


def request(
    session: Session,
    device: Device,
    verb: str,
    args: dict[str, Any] | None = None,
    *,
    by: str,
    ttl_s: float = 30.0,
    now: datetime | None = None,
) -> Command:
    """Queue a command; it is sent at once while the device is there, else after its next hello, until it expires.

    Raises `Invalid` (verb, args, ttl_s) or `Conflict` (device revoked).
    """
    now = now or datetime.now(UTC)
    try:
        check_level(verb, "verb")
    except BadName as error:
        raise Invalid(error.rule, field="verb") from None
    if not 0 < ttl_s <= TTL_MAX_S:
        raise Invalid(f"is more than 0 and at most {TTL_MAX_S:.0f} seconds", field="ttl_s")
    if len(msgspec.json.encode(args or {})) > ARGS_MAX_BYTES:
        raise Invalid(f"are at most {ARGS_MAX_BYTES} bytes", field="args")
    if device.revoked_at is not None:
        raise Conflict(f"{device.handle} is revoked and takes no commands")
    command = Command(
        agent_id=device.agent_id,
        device_id=device.device_id,
        verb=verb,
        args=args or {},
        requested_by=by,
        created_at=now,
        expires_at=now + timedelta(seconds=ttl_s),
    )
    session.add(command)
    session.flush()
    session.add(CommandStep(command_id=command.command_id, status="queued", witness=by, at=now))
    # Locked: a hello at the same moment either comes first and is seen here, or waits and finds this command.
    there = session.execute(
        text("SELECT epoch, verdict FROM device_presence WHERE device_id = :device FOR SHARE"),
        {"device": device.device_id},
    ).one()
    if there.verdict in ("online", "suspect"):
        _send(session, device.handle, command.command_id, verb, command.args, command.expires_at, there.epoch)
    tell(session, [command.command_id])
    return command


def resend(session: Session, devices: Sequence[tuple[uuid.UUID, int]], now: datetime) -> None:
    """Send what is open for these devices, given with their epochs, because they said hello or are heard again.

    A device answers a command that it has seen before with the reply it gave.
    """
    epochs = dict(devices)
    rows = session.execute(
        text(
            "SELECT c.command_id, c.device_id, d.handle, c.verb, c.args, c.expires_at FROM commands AS c "
            "JOIN devices AS d USING (device_id) WHERE c.device_id = ANY(:devices) AND c.finished_at IS NULL "
            "AND c.expires_at > :now ORDER BY c.created_at"
        ),
        {"devices": list(epochs), "now": now},
    )
    for row in rows:
        _send(session, row.handle, row.command_id, row.verb, row.args, row.expires_at, epochs[row.device_id])


def worth_sending(session: Session, ids: Sequence[uuid.UUID], now: datetime) -> set[uuid.UUID]:
    """Those of these commands that are still open and in time: what waited too long is not sent any more."""
    if not ids:
        return set()
    found = session.execute(
        text(
            "SELECT command_id FROM commands WHERE command_id = ANY(:ids) AND finished_at IS NULL AND expires_at > :now"
        ),
        {"ids": list(ids), "now": now},
    ).scalars()
    return set(found)


def mark_sent(session: Session, sent: Sequence[tuple[uuid.UUID, datetime]]) -> None:
    """The broker has acknowledged these commands, published at these times. A reply may already have come."""
    rows = session.execute(
        text(
            "WITH n AS (SELECT DISTINCT ON (command_id) * FROM unnest(CAST(:ids AS uuid[]), "
            "CAST(:times AS timestamptz[])) AS n (command_id, at) ORDER BY command_id, at), "
            "held AS (SELECT command_id FROM commands WHERE command_id = ANY(:ids) ORDER BY command_id FOR UPDATE), "
            "moved AS (UPDATE commands AS c SET sent_at = n.at, "
            "status = CASE WHEN c.status = 'queued' THEN 'sent' ELSE c.status END "
            "FROM n JOIN held USING (command_id) WHERE c.command_id = n.command_id AND c.sent_at IS NULL "
            "RETURNING c.command_id, n.at) "
            "INSERT INTO command_steps (command_id, status, witness, at) "
            "SELECT command_id, 'sent', 'the broker took it', at FROM moved RETURNING command_id"
        ),
        {"ids": [command_id for command_id, _ in sent], "times": [at for _, at in sent]},
    ).scalars()
    tell(session, list(rows))


def advance(status: Status, said: str, at: datetime, expires_at: datetime) -> Status | None:
    """The status after a device's word; None when it changes nothing (a repeat, or one step back)."""
    is_final = said in FINAL
    if status in FINAL and not (is_final and status in ("expired", "unknown")):
        return None
    if is_final:  # also when silence was given its name while a reply in time was on its way into the ledger
        return "late" if at > expires_at + GRACE else said  # type: ignore[return-value]
    return said if _RANK[said] > _RANK[status] else None  # type: ignore[return-value]


def answer(session: Session, replies: Sequence[DeviceReply]) -> set[uuid.UUID]:
    """Write what devices replied, in order; returns the ids that are commands of those devices."""
    rows = session.execute(
        text(
            "SELECT command_id, device_id, status, expires_at, progress FROM commands WHERE command_id = ANY(:ids) "
            "ORDER BY command_id FOR UPDATE"
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
        _write(session, one, status)
        statuses[one.command_id] = status or statuses[one.command_id]
    tell(session, list(known))
    return known


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
        {"due": now - GRACE, "now": now, "limit": limit},
    ).scalars()
    expired = list(rows)
    tell(session, expired)
    return len(expired)


def for_device(session: Session, device_id: uuid.UUID, limit: int = 20) -> list[CommandView]:
    """A device's last commands with their steps, newest first."""
    return _views(
        session, _VIEW + "WHERE c.device_id = :id ORDER BY c.created_at DESC LIMIT :limit", id=device_id, limit=limit
    )


def get(session: Session, agent_id: uuid.UUID, command_id: uuid.UUID) -> CommandView:
    """One command of an agent; `NotFound` also for another agent's."""
    for found in _views(
        session, _VIEW + "WHERE c.command_id = :id AND c.agent_id = :agent", id=command_id, agent=agent_id
    ):
        return found
    raise NotFound("there is no such command")


def tell(session: Session, ids: Sequence[uuid.UUID]) -> None:
    """Tell open pages how these commands stand."""
    if not ids:
        return
    for row in session.execute(text(_VIEW + "WHERE c.command_id = ANY(:ids)"), {"ids": list(ids)}):
        item = {
            "command_id": str(row.command_id),
            "device_id": str(row.device_id),
            "handle": row.handle,
            "verb": row.verb,
            "status": row.status,
            "rtt_ms": row.rtt_ms,
            "message": row.message,
            "progress": row.progress,
        }
        feed.tell(session, row.agent_id, "commands", "commands.updated", item)


def _send(
    session: Session,
    handle: str,
    command_id: uuid.UUID,
    verb: str,
    args: dict[str, Any],
    expires_at: datetime,
    epoch: int,
) -> None:
    message = messages.Command(expires_at=expires_at, epoch=epoch, args=args)
    outbox.enqueue(session, _TOPICS.command(handle, verb, str(command_id)), message, command_id=command_id)


def _write(session: Session, one: DeviceReply, status: Status | None) -> None:
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
        witness = "the device" if status != "late" else f"the device, after the deadline: {one.reply.status}"
        session.execute(
            text("INSERT INTO command_steps (command_id, status, witness, at) VALUES (:id, :status, :witness, :at)"),
            {"id": one.command_id, "status": status, "witness": witness, "at": one.at},
        )


def _views(session: Session, statement: str, **values: Any) -> list[CommandView]:
    rows = session.execute(text(statement), values).all()
    steps: dict[uuid.UUID, list[dict[str, Any]]] = {row.command_id: [] for row in rows}
    for step in session.execute(
        text(
            "SELECT command_id, status, witness, at FROM command_steps WHERE command_id = ANY(:ids) "
            "ORDER BY at, step_no"
        ),
        {"ids": list(steps)},
    ):
        steps[step.command_id].append({"status": step.status, "witness": step.witness, "at": step.at})
    return [CommandView(**row._mapping, steps=steps[row.command_id]) for row in rows]  # noqa: SLF001  (public)
