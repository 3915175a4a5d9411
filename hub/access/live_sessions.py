"""The sessions and retained topics that the broker reports, as an agent's people may see them; and how to end one."""

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Final

import msgspec
from sqlalchemy import text
from sqlmodel import Session

from hub import audit
from hub.access import changes
from hub.access.principals import Kind
from hub.errors import Forbidden, Invalid, NotFound
from hub.settings import HUB_USERNAME

REASON_MAX: Final = 200
# Names and topics come from whoever connects: what is longer fits no index and is not kept.
_MOST_BYTES: Final = 1_024
_MOST_SUBSCRIPTIONS: Final = 500
_MOST_NUMBER: Final = 2**31 - 1


@dataclass(frozen=True, slots=True)
class SessionReport:
    """One session as the broker has it. `subscriptions` are (filter, QoS); counts are messages since it connected."""

    username: str
    connected: bool
    address: str
    transport: str
    connected_at: datetime | None
    persistent: bool
    keep_alive_s: int
    subscriptions: list[tuple[str, int]]
    queued: int = 0
    queued_bytes: int = 0
    inflight: int = 0
    dropped: int = 0
    received: int = 0
    sent: int = 0
    received_per_s: float = 0.0
    sent_per_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionView(SessionReport):
    """A session with whose it is: `name` is the device's or integration's, or the user's, who has an `email` too."""

    reported_at: datetime
    kind: Kind
    name: str
    device_id: uuid.UUID | None = None
    integration_id: uuid.UUID | None = None
    email: str | None = None


_FIELDS: Final = tuple(one.name for one in fields(SessionReport))
_OTHERS: Final = (*_FIELDS[1:], "reported_at")
_UPSERT: Final = (
    f"INSERT INTO broker_sessions ({', '.join(_FIELDS)}, reported_at)"
    f" SELECT {', '.join(_FIELDS)}, :now FROM jsonb_populate_recordset(CAST(NULL AS broker_sessions),"
    " CAST(:rows AS jsonb)) ORDER BY username"
    f" ON CONFLICT (username) DO UPDATE SET {', '.join(f'{name} = excluded.{name}' for name in _OTHERS)}"
)
_UPSERT_RETAINED: Final = (
    "INSERT INTO broker_retained (topic, username, bytes, at) SELECT topic, username, bytes, :now"
    " FROM unnest(CAST(:topics AS text[]), CAST(:usernames AS text[]), CAST(:sizes AS integer[]))"
    " AS given (topic, username, bytes) ORDER BY topic"
    " ON CONFLICT (topic) DO UPDATE SET username = excluded.username, bytes = excluded.bytes, at = excluded.at"
)
# Whose a session is: the agent's devices and integrations, its members' browsers, and the hub that serves them all.
_OF_DEVICES: Final = (
    "SELECT b.*, 'device' AS kind, d.name, d.device_id, NULL::uuid AS integration_id, NULL::text AS email,"
    " NULL::text AS signed_in_from"
    " FROM broker_sessions b JOIN devices d ON d.handle = b.username WHERE d.agent_id = :agent_id"
)
_OF_AGENT: Final = (
    f"{_OF_DEVICES} UNION ALL SELECT b.*, 'integration', i.name, NULL, i.integration_id, NULL, NULL"
    " FROM broker_sessions b JOIN integrations i ON 'ext_' || i.handle = b.username WHERE i.agent_id = :agent_id"
    " UNION ALL SELECT b.*, 'browser', coalesce(nullif(u.display_name, ''), u.email, ''), NULL, NULL, u.email,"
    " s.address"
    " FROM broker_sessions b JOIN credentials c ON c.username = b.username AND c.kind = 'browser'"
    " AND c.replaced_at IS NULL JOIN user_sessions s USING (session_id) JOIN users u ON u.user_id = s.user_id"
    " JOIN agent_memberships m ON m.user_id = u.user_id"
    " WHERE m.agent_id = :agent_id AND m.revoked_at IS NULL AND m.role <> 'blocked'"
    " UNION ALL SELECT b.*, 'hub', 'Hub', NULL, NULL, NULL, NULL FROM broker_sessions b WHERE b.username = :hub"
)


def replace_all(session: Session, reports: Iterable[SessionReport], now: datetime) -> None:
    """Keep these sessions and no other: at the broker's start."""
    session.execute(text("DELETE FROM broker_sessions"))
    report(session, list(reports), [], now)


def report(session: Session, changed: Sequence[SessionReport], gone: Sequence[str], now: datetime) -> None:
    """Keep what is new of these sessions, the last where a name comes twice, and remove those of the names `gone`."""
    rows = {one.username: _row(one) for one in changed if _storable(one.username)}
    if gone:
        session.execute(
            text("DELETE FROM broker_sessions WHERE username = ANY(:gone)"),
            {"gone": [name for name in gone if _storable(name) and name not in rows]},
        )
    if rows:
        session.execute(text(_UPSERT), {"rows": msgspec.json.encode(list(rows.values())).decode(), "now": now})


def replace_retained(session: Session, stored: Iterable[tuple[str, str, int]], now: datetime) -> None:
    """Keep these retained topics and no other: at the broker's start."""
    session.execute(text("DELETE FROM broker_retained"))
    retained(session, list(stored), [], now)


def retained(session: Session, stored: Sequence[tuple[str, str, int]], deleted: Sequence[str], now: datetime) -> None:
    """Keep that messages were retained, as (topic, publisher, bytes of the payload), and that others are gone."""
    rows = {one[0]: one for one in stored if _storable(one[0]) and _storable(one[1])}
    if deleted:
        session.execute(
            text("DELETE FROM broker_retained WHERE topic = ANY(:deleted)"),
            {"deleted": [topic for topic in deleted if _storable(topic) and topic not in rows]},
        )
    if rows:
        topics, usernames, sizes = (list(column) for column in zip(*rows.values(), strict=True))
        session.execute(text(_UPSERT_RETAINED), {"topics": topics, "usernames": usernames, "sizes": sizes, "now": now})


def of_agent(session: Session, agent_id: uuid.UUID) -> list[SessionView]:
    """Sessions of the agent's devices and integrations, of its members' browsers, and the hub's; connected ones first.

    A browser's subscriptions to other agents' feeds are left out.
    """
    rows = session.execute(text(_OF_AGENT), {"agent_id": agent_id, "hub": HUB_USERNAME}).all()
    views = [_view(row, agent_id) for row in rows]
    return sorted(views, key=lambda view: (not view.connected, view.kind, view.name.casefold(), view.username))


def of_device(session: Session, agent_id: uuid.UUID, device_id: uuid.UUID) -> SessionView | None:
    """The session of one of the agent's devices; None when the broker has none (or tells nothing of sessions)."""
    row = session.execute(text(f"{_OF_DEVICES} AND d.device_id = :device"), {"agent_id": agent_id, "device": device_id})
    found = row.one_or_none()
    return None if found is None else _view(found, agent_id)


def disconnect(session: Session, agent_id: uuid.UUID, username: str, *, by: str, reason: str = "") -> None:
    """Have the broker end whatever session this name has; it may come again at once.

    `NotFound` for names that are not the agent's, `Forbidden` for the hub, `Invalid` for a reason that is too long or
    not printable.
    """
    reason = reason.strip()
    if len(reason) > REASON_MAX or not reason.isprintable():
        raise Invalid(f"is at most {REASON_MAX} printable characters", field="reason")
    if username == HUB_USERNAME:
        raise Forbidden("the hub serves every agent; no agent's admin disconnects it")
    owner = session.execute(
        text(
            "SELECT d.device_id AS subject_id FROM devices d WHERE d.handle = :username AND d.agent_id = :agent_id"
            " UNION ALL SELECT i.integration_id FROM integrations i"
            " WHERE 'ext_' || i.handle = :username AND i.agent_id = :agent_id"
            " UNION ALL SELECT s.user_id FROM credentials c JOIN user_sessions s USING (session_id)"
            " JOIN agent_memberships m ON m.user_id = s.user_id"
            " WHERE c.username = :username AND c.kind = 'browser' AND m.agent_id = :agent_id"
            " AND m.revoked_at IS NULL AND m.role <> 'blocked' LIMIT 1"
        ),
        {"username": username if _storable(username) else "", "agent_id": agent_id},
    ).one_or_none()
    if owner is None:
        raise NotFound("there is no such session")
    told = f"disconnected by {by}" + (f": {reason}" if reason else "")
    changes.announce(session, username, "kicked", told)
    audit.record(
        session,
        agent_id,
        by=by,
        action="session.kicked",
        subject=username,
        subject_id=owner.subject_id,
        after={"reason": reason} if reason else None,
    )


def _row(given: SessionReport) -> dict[str, Any]:
    row = {name: getattr(given, name) for name in _FIELDS}
    row["address"] = _clean(given.address)
    row["transport"] = _clean(given.transport)
    row["subscriptions"] = [[filter_, qos] for filter_, qos in given.subscriptions if _storable(filter_)]
    del row["subscriptions"][_MOST_SUBSCRIPTIONS:]
    for name in ("keep_alive_s", "queued", "inflight"):
        row[name] = min(row[name], _MOST_NUMBER)
    return row


def _view(row: Any, agent_id: uuid.UUID) -> SessionView:
    facts = {name: getattr(row, name) for name in _FIELDS}
    of_page = row.kind == "browser"
    if row.signed_in_from:
        # To the broker every page comes from the web's own address.
        facts["address"] = row.signed_in_from
    facts["subscriptions"] = [
        (filter_, qos) for filter_, qos in row.subscriptions if not of_page or _concerns(filter_, agent_id)
    ]
    return SessionView(
        **facts,
        reported_at=row.reported_at,
        kind=row.kind,
        name=row.name,
        device_id=row.device_id,
        integration_id=row.integration_id,
        email=row.email,
    )


def _concerns(filter_: str, agent_id: uuid.UUID) -> bool:
    return "/ui/" not in f"/{filter_}" or f"/ui/{agent_id}/" in f"/{filter_}"


def _storable(name: str) -> bool:
    try:
        return "\0" not in name and len(name.encode()) <= _MOST_BYTES
    except UnicodeEncodeError:
        return False


def _clean(given: str) -> str:
    return given[:_MOST_BYTES].replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()
