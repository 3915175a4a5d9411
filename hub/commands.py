"""The command ledger: a command is a row before it is a message; every step keeps its time and its witness."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

from sqlalchemy import text
from sqlmodel import Session

from hub import audit, feed, outbox, verbs
from hub.errors import Conflict, Invalid, NotFound
from hub.tables import Agent, Command, CommandStep, Device
from hub_protocol import messages
from hub_protocol.topics import Topics

Status = Literal[
    "queued",
    "sent",
    "accepted",
    "running",
    "succeeded",
    "failed",
    "rejected",
    "expired",
    "unknown",
    "late",
    "cancelled",
]

TTL_MAX_S: Final = 86_400.0
# A reply may still be on its way when the deadline passes; only then is silence given a name.
GRACE: Final = timedelta(seconds=1)
FINAL: Final = frozenset({"succeeded", "failed", "rejected", "expired", "unknown", "late", "cancelled"})
_TOPICS: Final = Topics.below_root()
_VIEW: Final = (
    "SELECT c.command_id, c.device_id, d.handle, c.agent_id, c.verb, c.status, c.created_at, c.sent_at, c.finished_at, "
    "c.expires_at, c.requested_by, c.code, c.message, c.progress, c.result, c.args, c.batch_id, "
    "round((extract(epoch FROM c.finished_at - c.sent_at) * 1000)::numeric, 1)::double precision AS rtt_ms, "
    "c.status = 'queued' OR (c.status IN ('accepted', 'running') AND c.verb <> 'cancel' "
    """AND coalesce(p.hello -> 'verbs' @> '[{"name": "cancel"}]', false)) AS can_cancel """
    "FROM commands AS c JOIN devices AS d USING (device_id) JOIN device_presence AS p USING (device_id) "
)


@dataclass(frozen=True, slots=True)
class CommandView:
    """A command with its states and their times; `rtt_ms` is from the publishing to the last reply, in milliseconds.

    `can_cancel` is true while it can be taken back, or the device has it and can be told to end it.
    """

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
    args: dict[str, Any]
    batch_id: uuid.UUID | None
    rtt_ms: float | None
    can_cancel: bool
    steps: list[dict[str, Any]] = field(default_factory=list)


def request(
    session: Session,
    device: Device,
    verb: str,
    args: dict[str, Any] | None = None,
    *,
    by: str,
    ttl_s: float = 30.0,
    now: datetime | None = None,
    action_id: uuid.UUID | None = None,
) -> Command:
    """Queue a command; it is sent at once while the device is there, else after its next hello, until it expires.

    `action_id` is the action that it is sent for, which its end settles.

    Raises `Invalid` (verb, args or args.<path>, ttl_s) or `Conflict` (device revoked, agent disabled).
    """
    args = args or {}
    check_ttl(ttl_s)
    verbs.check_args(args)
    hello = session.execute(
        text(
            "SELECT CASE WHEN last_hello_at IS NOT NULL THEN hello END FROM device_presence WHERE device_id = :device"
        ),
        {"device": device.device_id},
    ).scalar_one()
    verbs.choose(hello, verb, device.handle).check(args)
    if device.revoked_at is not None:
        raise Conflict(f"{device.handle} is revoked and takes no commands")
    if session.get_one(Agent, device.agent_id).disabled:
        raise Conflict(f"the agent of {device.handle} is disabled, so nothing is sent to it")
    [command] = queue(
        session, [device], verb, args, by=by, ttl_s=ttl_s, now=now or datetime.now(UTC), action_id=action_id
    )
    # The ledger is forgotten in time; who asked for what is not. The arguments may be secret, and stay in the ledger.
    audit.record(
        session,
        device.agent_id,
        by=by,
        action="command.sent",
        subject=device.handle,
        subject_id=device.device_id,
        after={"verb": verb, "command_id": command.command_id},
    )
    return command


def check_ttl(ttl_s: float) -> None:
    """Raises `Invalid` for a time in which nothing can be done, or that is longer than a day."""
    if not 0 < ttl_s <= TTL_MAX_S:
        raise Invalid(f"is more than 0 and at most {TTL_MAX_S:.0f} seconds", field="ttl_s")


def queue(
    session: Session,
    devices: Sequence[Device],
    verb: str,
    args: dict[str, Any],
    *,
    by: str,
    ttl_s: float,
    now: datetime,
    batch_id: uuid.UUID | None = None,
    action_id: uuid.UUID | None = None,
) -> list[Command]:
    """Queue the same command, which has been checked, for each of these devices of one agent."""
    found = [
        Command(
            agent_id=device.agent_id,
            device_id=device.device_id,
            verb=verb,
            args=args,
            requested_by=by,
            created_at=now,
            expires_at=now + timedelta(seconds=ttl_s),
            batch_id=batch_id,
            action_id=action_id,
        )
        for device in devices
    ]
    session.add_all(found)
    session.flush()
    session.add_all(
        CommandStep(command_id=command.command_id, status="queued", witness=by, at=now) for command in found
    )
    # Locked: a hello at the same moment either comes first and is seen here, or waits and finds these commands.
    rows = session.execute(
        text(
            "SELECT device_id, epoch, verdict FROM device_presence WHERE device_id = ANY(:devices) "
            "ORDER BY device_id FOR SHARE"
        ),
        {"devices": [device.device_id for device in devices]},
    )
    there = {row.device_id: row.epoch for row in rows if row.verdict in ("online", "suspect")}
    for device, command in zip(devices, found, strict=True):
        if device.device_id in there:
            _send(
                session,
                device.handle,
                command.command_id,
                verb,
                args,
                command.expires_at,
                there[device.device_id],
            )
    tell(session, [command.command_id for command in found])
    return found


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
    """Those of these commands that are still open and in time: what waited too long is not sent any more.

    They are held until the transaction ends, so that nobody takes one back while it is being sent.
    """
    if not ids:
        return set()
    found = session.execute(
        text(
            "SELECT command_id FROM commands WHERE command_id = ANY(:ids) AND finished_at IS NULL "
            "AND expires_at > :now ORDER BY command_id FOR NO KEY UPDATE"
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
            "held AS (SELECT command_id FROM commands WHERE command_id = ANY(:ids) ORDER BY command_id "
            "FOR NO KEY UPDATE), "
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


def for_device(
    session: Session, device_id: uuid.UUID, limit: int = 20, *, before: uuid.UUID | None = None
) -> list[CommandView]:
    """A device's last commands with their steps, newest first; those before the command `before`, if it is given."""
    return _views(
        session,
        _VIEW + "WHERE c.device_id = :id AND (CAST(:before AS uuid) IS NULL OR (c.created_at, c.command_id) < "
        "(SELECT created_at, command_id FROM commands WHERE command_id = :before AND device_id = :id)) "
        "ORDER BY c.created_at DESC, c.command_id DESC LIMIT :limit",
        id=device_id,
        before=before,
        limit=limit,
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
            "batch_id": str(row.batch_id) if row.batch_id else None,
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
