"""What is reported over HTTP: events, samples, heartbeats. The same rows and evidence of presence as over MQTT."""

import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

import msgspec
from sqlalchemy import text
from sqlmodel import Session

from hub import events, identity, presence, presence_records, spaces
from hub.access.callers import DeviceCaller, PersonCaller
from hub.errors import Conflict, Unauthenticated
from hub.inbox import senders
from hub.inbox.envelope import Sender
from hub.presence import Evidence, Heard
from hub.telemetry import live, samples
from hub.telemetry.samples import NewSamples
from hub_protocol import messages

HEARD_CHANNEL: Final = "marvain_heard"


@dataclass(frozen=True, slots=True)
class Reported:
    """The event as it is stored; `is_new` is False when it was there already."""

    event: events.EventView
    is_new: bool


def event(
    session: Session,
    caller: DeviceCaller | PersonCaller,
    agent_id: uuid.UUID,
    now: datetime,
    *,
    type: str,  # noqa: A002  (the field's own name)
    payload: dict[str, Any],
    message_id: str | None = None,
    space: str | None = None,
    happened_at: datetime | None = None,
    epoch: int | None = None,
    seq: int | None = None,
) -> Reported:
    """Store an event once by its id; a device's is evidence that it is there.

    Raises `NotFound` (space), `Conflict` where it or the device's own is private, for an epoch that has gone back, and
    for an id that another event bears.
    """
    space_id = identity.find_space(session, agent_id, space).space_id if space else None
    encoded = msgspec.json.encode(payload).decode()
    device_id = user_id = stands_in = None
    if isinstance(caller, DeviceCaller):
        sender = _sender(session, caller)
        stands_in = sender.space_id
        _hear(session, sender, Heard("event", _epoch(sender, epoch), now, source="http"))
        device_id, space_id, epoch = caller.device_id, space_id or sender.space_id, epoch or sender.known.evidence.epoch
    else:
        user_id = caller.user_id
    if spaces.private_among(session, [space_id, stands_in]):
        raise Conflict(spaces.PRIVATE, field="space")
    message_id = message_id or uuid.uuid4().hex
    new = events.NewEvent(
        device_id=device_id,
        agent_id=agent_id,
        handle=caller.handle if isinstance(caller, DeviceCaller) else None,
        space_id=space_id,
        message_id=message_id,
        type=type,
        payload=payload,
        epoch=epoch,
        seq=seq,
        happened_at=happened_at,
        received_at=now,
        user_id=user_id,
    )
    is_new = events.append(session, [new]) == 1
    stored = session.execute(
        text(
            "SELECT event_id, type = :type AND payload = CAST(:payload AS jsonb) AS is_same FROM events"
            " WHERE agent_id = :agent AND message_id = :id AND device_id IS NOT DISTINCT FROM CAST(:device AS uuid)"
            " AND user_id IS NOT DISTINCT FROM CAST(:user AS uuid)"
        ),
        {
            "type": type,
            "payload": encoded,
            "agent": agent_id,
            "id": message_id,
            "device": device_id,
            "user": user_id,
        },
    ).one()
    if not stored.is_same:
        raise Conflict("another event has this id already", field="id")
    return Reported(events.by_ids(session, agent_id, [stored.event_id])[0], is_new)


def telemetry(
    session: Session, caller: DeviceCaller, now: datetime, *, stream: str, message: messages.Telemetry
) -> int:
    """Store the samples of a stream, each once by its time; returns how many came. They are a sign of life.

    Raises `Invalid` for a time that cannot be, `Conflict` for one stream too many.
    """
    sender = _sender(session, caller)
    if spaces.private_among(session, [sender.space_id]):
        raise Conflict(spaces.PRIVATE, field="space")
    new = NewSamples(caller.device_id, caller.agent_id, stream, samples.read(message, now))
    if samples.append(session, [new]):
        raise Conflict(samples.TOO_MANY, field="stream")
    live.announce(session, new, now)
    _hear(session, sender, Heard("telemetry", _epoch(sender, None), now, source="http"))
    return len(new.samples)


def heartbeat(
    session: Session,
    caller: DeviceCaller,
    now: datetime,
    *,
    state: Literal["online", "sleeping", "bye"] = "online",
    epoch: int | None = None,
    heartbeat_s: float | None = None,
    until: datetime | None = None,
) -> Evidence:
    """A sign of life, or the word that the device sleeps or goes; returns the verdict with its evidence.

    Raises `Conflict` for an epoch that has gone back.
    """
    sender = _sender(session, caller)
    current = _epoch(sender, epoch)
    if state == "online":
        heard = Heard("heartbeat", current, now, heartbeat_s=heartbeat_s, source="http")
    else:
        heard = Heard("state", current, now, state=state, until=until, heartbeat_s=heartbeat_s, source="http")
    return _hear(session, sender, heard)


def _sender(session: Session, caller: DeviceCaller) -> Sender:
    """The device behind its lock: whoever revokes it at this moment is seen here, or comes after."""
    sender = senders.load(session, [caller.handle]).get(caller.handle)
    if sender is None or sender.revoked:
        raise Unauthenticated("this device was revoked, or its agent is disabled")
    return sender


def _epoch(sender: Sender, given: int | None) -> int:
    """The epoch that counts: a device that speaks HTTP alone need not have one."""
    current = sender.known.evidence.epoch
    if given is None:
        return current
    if presence.is_stale(sender.known.evidence, given):
        raise Conflict(f"{given} is older than {current}, the device's current one", field="epoch")
    return given


def _hear(session: Session, sender: Sender, heard: Heard) -> Evidence:
    after = presence.hear(sender.known.evidence, heard)
    presence_records.save(session, {sender.known.device_id: (sender.known, after)})
    # Open pages learn how long ago that was from the hub's pulse.
    session.execute(
        text("SELECT pg_notify(:channel, :heard)"),
        {
            "channel": HEARD_CHANNEL,
            "heard": f"{sender.known.agent_id} {sender.known.device_id} {heard.at.isoformat()}",
        },
    )
    return after
