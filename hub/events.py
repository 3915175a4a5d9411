"""Events: appended in batches, each stored once by the id its sender gave it, and paged newest first."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import msgspec
from sqlalchemy import text
from sqlmodel import Session

from hub import feed
from hub.automations import happening
from hub.errors import Invalid
from hub_protocol.messages import MAX_SAFE_INTEGER

PAGE_MAX = 200
_ENCODER: Final = msgspec.json.Encoder()


@dataclass(frozen=True, slots=True)
class NewEvent:
    """An event on its way into the ledger, of a device or (then without device and handle) of a user's."""

    device_id: uuid.UUID | None
    agent_id: uuid.UUID
    handle: str | None
    space_id: uuid.UUID | None
    message_id: str
    type: str
    payload: dict[str, Any]
    epoch: int | None
    seq: int | None
    happened_at: datetime | None
    received_at: datetime
    user_id: uuid.UUID | None = None


@dataclass(frozen=True, slots=True)
class EventView:
    """An event as a row of a page shows it; `event_no` is the order of arrival.

    `is_device_gone`: the device was deleted since; it is told under its last name.
    """

    event_id: uuid.UUID
    event_no: int
    type: str
    payload: dict[str, Any]
    device_id: uuid.UUID | None
    handle: str | None
    device_name: str | None
    space_id: uuid.UUID | None
    space_name: str | None
    happened_at: datetime | None
    received_at: datetime
    user_id: uuid.UUID | None = None
    user_name: str | None = None
    is_device_gone: bool = False


@dataclass(frozen=True, slots=True)
class EventPage:
    """Events, newest first; `next` is the `before` of the following page, None at the end."""

    items: list[EventView]
    next: str | None


def append(session: Session, new: Sequence[NewEvent]) -> int:
    """Store those events that are not stored yet, and tell open pages; returns how many were new."""
    # One document instead of eleven arrays: the driver builds arrays in Python, value by value.
    rows = session.execute(
        text(
            "INSERT INTO events (agent_id, space_id, device_id, type, payload, message_id, epoch, seq, happened_at, "
            "created_at, user_id) SELECT agent_id, space_id, device_id, type, payload, message_id, "
            "epoch, seq, happened_at, received_at, user_id FROM ROWS FROM (json_to_recordset(CAST(:new AS json)) AS "
            "(agent_id uuid, space_id uuid, device_id uuid, type text, payload jsonb, message_id text, epoch bigint, "
            "seq bigint, happened_at timestamptz, received_at timestamptz, user_id uuid)) WITH ORDINALITY AS n "
            "(agent_id, space_id, device_id, type, payload, message_id, epoch, seq, happened_at, received_at, "
            "user_id, n) ORDER BY n "
            "ON CONFLICT DO NOTHING "
            "RETURNING event_id, event_no, agent_id, device_id, space_id, type, happened_at, created_at"
        ),
        {"new": _ENCODER.encode(new).decode()},
    ).all()
    handles = {event.device_id: event.handle for event in new}
    for row in rows:
        item = {
            "event_id": str(row.event_id),
            "event_no": row.event_no,
            "type": row.type,
            "device_id": str(row.device_id) if row.device_id else None,
            "handle": handles[row.device_id],
            "space_id": str(row.space_id) if row.space_id else None,
            "happened_at": row.happened_at or row.created_at,
        }
        feed.tell(session, row.agent_id, "events", "events.new", item)
    if rows:
        happening.events(session, [(row.event_id, row.agent_id, row.type) for row in rows])
    return len(rows)


def page(
    session: Session,
    agent_id: uuid.UUID,
    *,
    before: str | None = None,
    after: str | None = None,
    space_id: uuid.UUID | None = None,
    device_id: uuid.UUID | None = None,
    type: str | None = None,  # noqa: A002  (the field's own name)
    limit: int = 50,
) -> EventPage:
    """One page of an agent's events, newest first, between the cursors; raises `Invalid` for a cursor or limit."""
    if not 1 <= limit <= PAGE_MAX:
        raise Invalid(f"is 1 to {PAGE_MAX}", field="limit")
    rows = _select(
        session,
        agent_id,
        "(CAST(:before AS bigint) IS NULL OR e.event_no < :before)"
        " AND (CAST(:after AS bigint) IS NULL OR e.event_no > :after)"
        " AND (CAST(:space AS uuid) IS NULL OR e.space_id = :space)"
        " AND (CAST(:device AS uuid) IS NULL OR e.device_id = :device)"
        " AND (CAST(:type AS text) IS NULL OR e.type = :type)",
        {
            "before": _cursor(before, "before"),
            "after": _cursor(after, "after"),
            "space": space_id,
            "device": device_id,
            "type": type,
            "limit": limit + 1,
        },
    )
    items = rows[:limit]
    return EventPage(items, str(items[-1].event_no) if len(rows) > limit else None)


def by_ids(session: Session, agent_id: uuid.UUID, ids: Sequence[uuid.UUID]) -> list[EventView]:
    """Those of these events that are the agent's, newest first."""
    return _select(session, agent_id, "e.event_id = ANY(:ids)", {"ids": list(ids)[:PAGE_MAX], "limit": PAGE_MAX})


def types(session: Session, agent_id: uuid.UUID, limit: int = 100) -> list[str]:
    """The types among the agent's last 5,000 events, for a filter to offer."""
    rows = session.execute(
        text(
            "SELECT DISTINCT type FROM (SELECT type FROM events WHERE agent_id = :agent "
            "ORDER BY event_no DESC LIMIT 5000) AS latest ORDER BY type LIMIT :limit"
        ),
        {"agent": agent_id, "limit": limit},
    ).scalars()
    return list(rows)


def _select(session: Session, agent_id: uuid.UUID, condition: str, values: dict[str, Any]) -> list[EventView]:
    rows = session.execute(
        text(
            "SELECT e.event_id, e.event_no, e.type, e.payload, e.device_id, d.handle, d.name, e.space_id, "
            "coalesce(s.name, past.name), e.happened_at, e.created_at, e.user_id, coalesce(u.display_name, u.email), "
            "d.deleted_at IS NOT NULL FROM events AS e LEFT JOIN devices AS d USING (device_id) "
            "LEFT JOIN spaces AS s ON s.space_id = e.space_id "
            "LEFT JOIN retired_spaces AS past ON s.space_id IS NULL AND past.space_id = e.space_id "
            "LEFT JOIN users AS u ON u.user_id = e.user_id "
            f"WHERE e.agent_id = :agent AND {condition} ORDER BY e.event_no DESC LIMIT :limit"
        ),
        {"agent": agent_id} | values,
    )
    return [EventView(*row) for row in rows]


def _cursor(given: str | None, field: str) -> int | None:
    if given is None or given == "":
        return None
    if not given.isascii() or not given.isdigit() or len(given) > 16 or int(given) > MAX_SAFE_INTEGER:
        raise Invalid("is a number from an earlier page", field=field)
    return int(given)
