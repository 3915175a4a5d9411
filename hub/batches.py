"""One wish for all devices with a tag: who it would reach, sending it, how each of them fares, and taking it back."""

import hashlib
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, Literal

import msgspec
from sqlalchemy import text
from sqlmodel import Session, col, select

from hub import audit, command_ends, commands, device_config, tags, verbs
from hub.device_config import ConfigView
from hub.errors import HubError, Invalid, NotFound
from hub.tables import BatchSkip, CommandBatch, Device, DeviceTag

Kind = Literal["command", "merge", "replace"]
DEVICES_MAX: Final = 5_000


@dataclass(frozen=True, slots=True)
class Wish:
    """What all devices with `tag` are to do (`verb`, `args`) or how they are to be set (`args` merged or replacing)."""

    kind: Kind
    tag: str
    args: dict[str, Any]
    verb: str | None = None
    ttl_s: float = 3_600.0


@dataclass(frozen=True, slots=True)
class Skip:
    """A device that is left out, and why."""

    device: Device
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    """Who a wish reaches and who not. `digest` changes with either."""

    wish: Wish
    targets: list[Device]
    skipped: list[Skip]

    @property
    def digest(self) -> str:
        """Stands for exactly this plan, so that what was shown and what is done can be compared."""
        facts = [
            msgspec.to_builtins(self.wish),
            [str(device.device_id) for device in self.targets],
            [(str(skip.device.device_id), skip.reason) for skip in self.skipped],
        ]
        return hashlib.sha256(msgspec.json.encode(facts)).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Progress:
    """How one device of a batch fares; `status` is a command's, or a config's: waiting, applied, refused, replaced."""

    device_id: uuid.UUID
    handle: str
    name: str
    status: str
    message: str
    at: datetime | None
    command_id: uuid.UUID | None = None
    progress: float | None = None
    result: Any = None
    rtt_ms: float | None = None


@dataclass(frozen=True, slots=True)
class BatchView:
    """A batch with its devices by name, those that were left out, and how many stand where."""

    batch: CommandBatch
    rows: list[Progress]
    skipped: list[Skip]

    @property
    def counts(self) -> dict[str, int]:
        """How many devices are in each state."""
        return dict(Counter(row.status for row in self.rows))


def plan(session: Session, agent_id: uuid.UUID, wish: Wish) -> Plan:
    """Who this wish would reach now.

    Raises `Invalid` (tags, verb, args or args.<path>, values, ttl_s) for what no device could take.
    """
    tags.check_tag(wish.tag)
    if wish.kind == "command":
        commands.check_ttl(wish.ttl_s)
        verbs.check_args(wish.args)
        verbs.choose(None, wish.verb or "", "")
    else:
        device_config.check_values(wish.args)
    rows = session.exec(
        select(Device)
        .where(
            Device.agent_id == agent_id,
            col(Device.device_id).in_(
                select(DeviceTag.device_id).where(DeviceTag.agent_id == agent_id, DeviceTag.tag == wish.tag)
            ),
        )
        .order_by(col(Device.name), col(Device.handle))
        .limit(DEVICES_MAX + 1)
    ).all()
    if len(rows) > DEVICES_MAX:
        raise Invalid(f"more than {DEVICES_MAX} devices have the tag {wish.tag}; use a narrower one", field="tags")
    hellos = _hellos(session, [device.device_id for device in rows])
    targets, skipped = [], []
    for device in rows:
        reason = _reason(device, wish, hellos.get(device.device_id))
        if reason:
            skipped.append(Skip(device, reason))
        else:
            targets.append(device)
    return Plan(wish, targets, skipped)


def send(session: Session, agent_id: uuid.UUID, planned: Plan, *, by: str, now: datetime) -> CommandBatch:
    """Do what was planned; raises `Invalid` when that reaches nobody."""
    wish = planned.wish
    if not planned.targets:
        raise Invalid(f"no device with the tag {wish.tag} can take this", field="tags")
    batch = CommandBatch(
        agent_id=agent_id,
        kind=wish.kind,
        tag=wish.tag,
        verb=wish.verb,
        args=wish.args,
        requested_by=by,
        created_at=now,
        expires_at=now + timedelta(seconds=wish.ttl_s) if wish.kind == "command" else None,
    )
    session.add(batch)
    session.flush()
    session.add_all(
        BatchSkip(batch_id=batch.batch_id, agent_id=agent_id, device_id=skip.device.device_id, reason=skip.reason)
        for skip in planned.skipped
    )
    if wish.verb is not None:
        commands.queue(
            session,
            planned.targets,
            wish.verb,
            wish.args,
            by=by,
            ttl_s=wish.ttl_s,
            now=now,
            batch_id=batch.batch_id,
        )
    else:
        for device in sorted(planned.targets, key=lambda one: one.device_id):  # in the order in which all lock them
            before = device_config.lock(session, device)
            values = wish.args if wish.kind == "replace" else merged(before, wish.args)
            device_config.check_values(values)
            device_config.write(session, device, before, values, by=by, now=now, batch_id=batch.batch_id)
    audit.record(
        session,
        agent_id,
        by=by,
        action="batch.sent",
        subject=f"{wish.verb or 'config'} to {wish.tag}",
        subject_id=batch.batch_id,
        after={"kind": wish.kind, "tag": wish.tag, "verb": wish.verb, "devices": len(planned.targets)},
    )
    return batch


def merged(before: ConfigView, values: dict[str, Any]) -> dict[str, Any]:
    """The wanted values with these over them; a null takes its key away."""
    return {key: value for key, value in (before.desired | values).items() if value is not None}


def find(session: Session, agent_id: uuid.UUID, batch_id: uuid.UUID) -> CommandBatch:
    """The agent's batch with this id; `NotFound` also for another agent's."""
    batch = session.exec(
        select(CommandBatch).where(CommandBatch.batch_id == batch_id, CommandBatch.agent_id == agent_id)
    ).first()
    if batch is None:
        raise NotFound("there is no such batch")
    return batch


def latest(session: Session, agent_id: uuid.UUID, limit: int = 30) -> list[CommandBatch]:
    """The agent's last batches, newest first."""
    query = select(CommandBatch).where(CommandBatch.agent_id == agent_id)
    return list(session.exec(query.order_by(col(CommandBatch.created_at).desc()).limit(limit)))


def view(session: Session, agent_id: uuid.UUID, batch_id: uuid.UUID) -> BatchView:
    """A batch with how each device fares; `NotFound` also for another agent's."""
    batch = find(session, agent_id, batch_id)
    rows = _command_rows(session, batch_id) if batch.kind == "command" else _config_rows(session, batch_id)
    skips = session.exec(
        select(BatchSkip, Device)
        .join(Device, col(Device.device_id) == BatchSkip.device_id)
        .where(BatchSkip.batch_id == batch_id)
        .order_by(col(Device.name), col(Device.handle))
    )
    return BatchView(batch, rows, [Skip(device, skip.reason) for skip, device in skips])


def cancel(session: Session, batch: CommandBatch, *, by: str, now: datetime) -> int:
    """Take back the commands of a batch that still wait; returns how many. What was sent goes on."""
    waiting = session.execute(
        text("SELECT command_id FROM commands WHERE batch_id = :batch AND status = 'queued'"),
        {"batch": batch.batch_id},
    ).scalars()
    cancelled = command_ends.cancel_queued(session, list(waiting), by=by, now=now)
    if cancelled:
        audit.record(
            session,
            batch.agent_id,
            by=by,
            action="batch.cancelled",
            subject=f"{batch.verb} to {batch.tag}",
            subject_id=batch.batch_id,
            after={"devices": len(cancelled)},
        )
    return len(cancelled)


def forget(session: Session, before: datetime) -> int:
    """Remove batches made before `before` of which nothing is left; returns how many."""
    removed = session.execute(
        text(
            "WITH gone AS (DELETE FROM command_batches AS b WHERE b.created_at < :before "
            "AND NOT EXISTS (SELECT 1 FROM commands AS c WHERE c.batch_id = b.batch_id) RETURNING 1) "
            "SELECT count(*) FROM gone"
        ),
        {"before": before},
    ).scalar_one()
    return int(removed)


def _reason(device: Device, wish: Wish, hello: dict[str, Any] | None) -> str:
    """Why this device is left out; "" when it is not."""
    if device.revoked_at is not None:
        return "it is revoked"
    if wish.verb is None:
        return ""
    try:
        verbs.choose(hello, wish.verb, device.handle).check(wish.args)
    except HubError as error:
        return f"{error.field}: {error.message}" if error.field and error.field != "verb" else error.message
    return ""


def _hellos(session: Session, device_ids: Sequence[uuid.UUID]) -> dict[uuid.UUID, dict[str, Any]]:
    rows = session.execute(
        text("SELECT device_id, hello FROM device_presence WHERE device_id = ANY(:ids) AND last_hello_at IS NOT NULL"),
        {"ids": list(device_ids)},
    )
    return {row.device_id: row.hello for row in rows}


def _command_rows(session: Session, batch_id: uuid.UUID) -> list[Progress]:
    rows = session.execute(
        text(
            "SELECT c.device_id, d.handle, d.name, c.status, c.message, "
            "coalesce(c.finished_at, c.sent_at, c.created_at), c.command_id, c.progress, c.result, "
            "round((extract(epoch FROM c.finished_at - c.sent_at) * 1000)::numeric, 1)::double precision "
            "FROM commands AS c JOIN devices AS d USING (device_id) WHERE c.batch_id = :batch "
            "ORDER BY lower(d.name), d.handle"
        ),
        {"batch": batch_id},
    )
    return [Progress(*row) for row in rows]


def _config_rows(session: Session, batch_id: uuid.UUID) -> list[Progress]:
    rows = session.execute(
        text(
            "SELECT h.device_id, d.handle, d.name, h.rev, c.desired_rev, c.reported_rev, c.ok, c.error, c.reported_at, "
            "h.set_at FROM device_config_history AS h JOIN device_config AS c USING (device_id) "
            "JOIN devices AS d ON d.device_id = h.device_id WHERE h.batch_id = :batch ORDER BY lower(d.name), d.handle"
        ),
        {"batch": batch_id},
    )
    found = []
    for row in rows:
        if row.reported_rev == row.rev:
            status, message, at = ("applied" if row.ok else "refused"), row.error, row.reported_at
        elif row.desired_rev != row.rev:
            status, message, at = "replaced", "other values were set since", row.set_at
        else:
            status, message, at = "waiting", "", row.set_at
        found.append(Progress(row.device_id, row.handle, row.name, status, message, at))
    return found
