"""Devices: registered with a token, found, changed, rotated and revoked; `hub.device_views` tells how they are."""

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, select

from hub import audit, command_ends, feed, outbox, presence_records, proxying
from hub.access import changes, credentials, role_records
from hub.access.scopes import check_scopes
from hub.errors import Conflict, Invalid, NotFound
from hub.presence import Evidence, end
from hub.tables import Device, RetiredHandle, Space
from hub_protocol.errors import BadName
from hub_protocol.topics import Topics, check_handle, handle_from_name

DEFAULT_SCOPES: Final = ("events:write", "telemetry:write", "presence:write", "commands:receive")
NAME_MAX: Final = 80
REASON_MAX: Final = 200
# A token that should go may not linger for longer than a day.
OVERLAP_MAX_S: Final = 86_400
_TOPICS: Final = Topics.below_root()
# Rows may refer to a device that is held: a batch of its messages, which holds its presence, does not wait for this.
_HELD: Final = {"key_share": True}


@dataclass(frozen=True, slots=True)
class NewDevice:
    """A device with the one sight of its token."""

    device: Device
    token: str


def add(
    session: Session,
    agent_id: uuid.UUID,
    name: str,
    *,
    scopes: list[str],
    by: str,
    space_id: uuid.UUID | None = None,
    handle: str | None = None,
    metadata: dict[str, Any] | None = None,
) -> NewDevice:
    """Register a device and give it its first token. Without a handle, one is made of the name.

    Raises `Invalid` (name, handle, scopes), `NotFound` (space of another agent) or `Conflict` (handle taken).
    """
    device = register(
        session, agent_id, name, scopes=scopes, by=by, space_id=space_id, handle=handle, metadata=metadata
    )
    return NewDevice(device, credentials.issue_for_device(session, device))


def register(
    session: Session,
    agent_id: uuid.UUID,
    name: str,
    *,
    scopes: list[str],
    by: str,
    space_id: uuid.UUID | None = None,
    handle: str | None = None,
    metadata: dict[str, Any] | None = None,
) -> Device:
    """The same without a token: the device is known and waits for `give_first_token`."""
    name = check_name(name)
    scopes = check_scopes(scopes)
    _check_space(session, agent_id, space_id)
    device = Device(
        agent_id=agent_id,
        handle=check_handle_of_device(handle) if handle else propose_handle(session, name),
        name=name,
        scopes=scopes,
        space_id=space_id,
        needs_enrolment=True,
        metadata_=metadata or {},
    )
    if session.get(RetiredHandle, device.handle) is not None:
        raise Conflict(f"the handle {device.handle} was another's; choose one that nobody had", field="handle")
    role_records.hold_still(session, agent_id)
    try:
        with session.begin_nested():
            session.add(device)
    except IntegrityError as error:
        if "devices_handle_key" not in str(error.orig):
            raise
        raise Conflict(f"the handle {device.handle} is taken; choose another", field="handle") from None
    presence_records.create(session, device.device_id)
    _tell(session, device, "added", by)
    _audit(session, device, "added", by, after={"name": name, "handle": device.handle, "scopes": scopes})
    return device


def give_first_token(session: Session, device: Device, *, by: str) -> str:
    """Give a device that has none its token, the only time it is seen.

    Raises `Conflict` when the device is revoked, or has a token: that is for `rotate`.
    """
    session.refresh(device, with_for_update=True)
    if device.revoked_at is not None:
        raise Conflict(f"{device.handle} is revoked and gets no token; add it again under another handle")
    if not device.needs_enrolment:
        raise Conflict(f"{device.handle} has a token; rotate it")
    token = credentials.issue_for_device(session, device)
    _tell(session, device, "enrolled", by)
    _audit(session, device, "enrolled", by)
    return token


def propose_handle(session: Session, name: str) -> str:
    """A free handle for a name: `porch`, or `porch-2` when that is taken; `Invalid` when the name has no letter."""
    base = handle_from_name(name)
    if not base:
        raise Invalid("needs at least one letter a-z or digit; or give a handle", field="name")
    rows = session.execute(
        text(
            "SELECT handle FROM (SELECT handle FROM devices UNION ALL SELECT handle FROM retired_handles) AS used"
            " WHERE handle = :base OR handle LIKE :like"
        ),
        {"base": base, "like": f"{base[:56].rstrip('-')}-%"},
    ).scalars()
    taken = set(rows)
    if base not in taken:
        return base
    n = 2
    while (candidate := f"{base[:56].rstrip('-')}-{n}") in taken:
        n += 1
    return candidate


def find(session: Session, agent_id: uuid.UUID, device_id: uuid.UUID) -> Device:
    """The agent's device with this id; `NotFound` also for another agent's."""
    device = session.exec(
        select(Device).where(
            Device.device_id == device_id, Device.agent_id == agent_id, col(Device.deleted_at).is_(None)
        )
    ).first()
    if device is None:
        raise NotFound("there is no such device")
    return device


def by_handle(session: Session, handle: str) -> Device:
    """The device with this handle, of whichever agent: for the command line, which speaks for the whole hub."""
    device = session.exec(select(Device).where(Device.handle == handle, col(Device.deleted_at).is_(None))).first()
    if device is None:
        raise NotFound(f"there is no device with the handle {handle[:80]!r}", field="handle")
    return device


def revoke(session: Session, device: Device, *, by: str, reason: str = "") -> None:
    """End a device for good: its session closes, its token no longer counts, its retained topics are purged.

    Raises `Conflict` when it is revoked already, `Invalid` for a reason that is too long or not printable.
    """
    reason = reason.strip()
    if len(reason) > REASON_MAX or not reason.isprintable():
        raise Invalid(f"is at most {REASON_MAX} printable characters", field="reason")
    session.flush()
    revoked_at = session.execute(
        text(
            "UPDATE devices SET revoked_at = now(), revoked_by = :by, revoked_reason = :reason "
            "WHERE device_id = :device AND revoked_at IS NULL RETURNING revoked_at"
        ),
        {"device": device.device_id, "by": by, "reason": reason or None},
    ).scalar()
    if revoked_at is None:
        raise Conflict(f"{device.handle} is revoked already")
    session.refresh(device)
    told = f"this device was revoked by {by}" + (f": {reason}" if reason else "")
    _end_session(session, device, f"revoked by {by}" + (f": {reason}" if reason else ""))
    outbox.purge(session, [make(device.handle) for make in (_TOPICS.state, _TOPICS.presence, _TOPICS.config)])
    command_ends.give_up(session, [device.device_id], "the device was revoked", witness="revoked")
    changes.announce(session, device.handle, "revoked", told)
    proxying.end(session, device, by=by)
    _tell(session, device, "revoked", by)
    _audit(session, device, "revoked", by, after={"reason": reason} if reason else None)


def rotate(session: Session, device: Device, *, by: str, overlap_s: int = 0) -> str:
    """Replace the device's token. Without an overlap the old one is worthless at once and its session closes.

    With one, both are good for `overlap_s` seconds and the session stays until then. Returns the new token, the only
    time it is seen. Raises `Invalid` (overlap), and `Conflict` when the device is revoked: a new token must not bring
    it back.
    """
    if not 0 <= overlap_s <= OVERLAP_MAX_S:
        raise Invalid(f"is 0 to {OVERLAP_MAX_S} seconds", field="overlap_s")
    # Locked, so that a revoke at the same moment comes either before (and is seen) or after (and wins).
    revoked_at = session.execute(
        text("SELECT revoked_at FROM devices WHERE device_id = :device FOR NO KEY UPDATE"),
        {"device": device.device_id},
    ).scalar()
    if revoked_at is not None:
        raise Conflict(f"{device.handle} is revoked and gets no new token; add it again under another handle")
    session.refresh(device)
    token = credentials.issue_for_device(session, device, overlap_s=overlap_s)
    if overlap_s:
        changes.announce(session, device.handle, "changed", f"its token was replaced by {by}; give it the new one")
    else:
        _end_session(session, device, "its token was rotated; waiting for the new one", forget_epoch=True)
        outbox.purge(session, [_TOPICS.state(device.handle)])
        changes.announce(session, device.handle, "rotated", f"its token was replaced by {by}; give it the new one")
    _tell(session, device, "rotated", by)
    _audit(session, device, "rotated", by, after={"overlap_s": overlap_s} if overlap_s else None)
    return token


def set_scopes(session: Session, device: Device, scopes: list[str], *, by: str) -> None:
    """Let the device have exactly these scopes, at once; `Invalid` for one that is unknown.

    Raises `Conflict` when the device is revoked.
    """
    checked = check_scopes(scopes)
    session.refresh(device, with_for_update=True)
    if device.revoked_at is not None:
        raise Conflict(f"{device.handle} is revoked and can do nothing any more")
    before = list(device.scopes)
    if before == checked:
        return
    device.scopes = checked
    session.add(device)
    session.flush()
    changes.announce(session, device.handle, "changed", f"its scopes were changed by {by}")
    _tell(session, device, "scopes", by)
    _audit(session, device, "scopes_changed", by, before={"scopes": before}, after={"scopes": checked})


def change(
    session: Session, device: Device, *, name: str, space_id: uuid.UUID | None, revision: int | None, by: str
) -> None:
    """Rename it and put it into a space, or into none.

    Raises `Conflict` when it is no longer at `revision` (None: whatever it is), `Invalid` (name), and `NotFound` for
    another agent's space.
    """
    name = check_name(name)
    _check_space(session, device.agent_id, space_id)
    session.refresh(device, with_for_update=_HELD)
    if device.deleted_at is not None:
        raise NotFound("there is no such device")
    if revision is not None and device.revision != revision:
        raise Conflict(f"somebody changed it meanwhile: it is now named {device.name}", field="revision")
    before = {"name": device.name, "space_id": device.space_id}
    after = {"name": name, "space_id": space_id}
    if before == after:
        return
    if device.space_id != space_id:
        # What is being stored of it now is stored first, and after this nothing in the old place.
        presence_records.lock(session, [device.device_id])
    device.name, device.space_id = name, space_id
    device.revision += 1
    session.add(device)
    session.flush()
    _tell(session, device, "changed", by)
    _audit(session, device, "changed", by, before=before, after=after)


def delete(session: Session, device: Device, typed: str, *, by: str) -> None:
    """Remove it from everything but what it reported; its handle names nobody else from then on.

    `typed` must be its name: `Invalid` otherwise. Its session ends, its tokens, roles and commands go.
    """
    session.refresh(device, with_for_update=_HELD)
    if device.deleted_at is not None:
        raise NotFound("there is no such device")
    if typed.strip() != device.name:
        raise Invalid(f"type the device's name, {device.name}, to delete it", field="typed")
    before = {"name": device.name, "handle": device.handle, "scopes": list(device.scopes)}
    if device.revoked_at is None:
        revoke(session, device, by=by, reason="deleted")
    proxying.abandon(session, device)
    for table in (
        "role_assignments",
        "commands",
        "telemetry_streams",
        "device_tags",
        "device_config",
        "device_config_history",
    ):
        session.execute(text(f"DELETE FROM {table} WHERE device_id = :device"), {"device": device.device_id})
    # The hash of the last token stays, so that its bearer can be told why it is refused.
    device.deleted_at, device.deleted_by = datetime.now(UTC), by
    device.scopes, device.capabilities, device.space_id = [], {}, None
    session.add(device)
    session.flush()
    _tell(session, device, "deleted", by)
    _audit(session, device, "deleted", by, before=before)


def _check_space(session: Session, agent_id: uuid.UUID, space_id: uuid.UUID | None) -> None:
    mine = select(Space.space_id).where(Space.space_id == space_id, Space.agent_id == agent_id)
    if space_id is not None and session.exec(mine).first() is None:
        raise NotFound("there is no such space", field="space")


def _end_session(session: Session, device: Device, why: str, *, forget_epoch: bool = False) -> None:
    evidence = presence_records.lock(session, [device.device_id])[device.device_id]
    known = presence_records.Known(device.device_id, device.agent_id, device.handle, evidence)
    ended = end(evidence, why, datetime.now(UTC))
    if forget_epoch:  # a new token may go into new hardware, which counts from one again
        ended = Evidence(0, ended.verdict, ended.why, ended.since, ended.heartbeat_s, ended.last_heard_at)
    presence_records.save(session, {device.device_id: (known, ended)})


def _tell(session: Session, device: Device, change: str, by: str) -> None:
    item = {"device_id": str(device.device_id), "handle": device.handle, "change": change, "by": by}
    feed.tell(session, device.agent_id, "devices", "devices.updated", item)


def _audit(session: Session, device: Device, verb: str, by: str, **facts: Any) -> None:
    audit.record(
        session,
        device.agent_id,
        by=by,
        action=f"device.{verb}",
        subject=device.handle,
        subject_id=device.device_id,
        **facts,
    )


def check_name(name: str) -> str:
    """The name in one line; raises `Invalid`."""
    name = " ".join(name.split())
    if not name:
        raise Invalid("is required", field="name")
    if len(name) > NAME_MAX or not name.isprintable():
        raise Invalid(f"is at most {NAME_MAX} printable characters", field="name")
    return name


def check_handle_of_device(handle: str) -> str:
    """The handle; raises `Invalid`."""
    try:
        return check_handle(handle)
    except BadName as error:
        raise Invalid(error.rule, field="handle") from None
