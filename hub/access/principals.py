"""Who speaks: a device, a browser or the hub service, with everything it may do, read from the database."""

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from sqlalchemy import text
from sqlmodel import Session

from hub.access.grants import Grant
from hub.access.scopes import device_grants
from hub.settings import HUB_USERNAME

Kind = Literal["device", "browser", "hub"]

BROWSER_PREFIX = "ui_"


@dataclass(frozen=True, slots=True)
class Principal:
    """A name on the wire and what it may do. Username and MQTT client id are the same string, always.

    `expires_at` is set for browsers alone: after it the credential is worthless unless it was renewed.
    """

    username: str
    kind: Kind
    grants: tuple[Grant, ...]
    root: str
    agent_ids: tuple[uuid.UUID, ...] = ()
    expires_at: datetime | None = None
    session_id: uuid.UUID | None = None
    device_id: uuid.UUID | None = None
    scopes: tuple[str, ...] = ()


def kind_of(username: str) -> Kind:
    """Which kind of principal a username means; no handle has an underscore, so the kinds cannot overlap."""
    if username == HUB_USERNAME:
        return "hub"
    return "browser" if username.startswith(BROWSER_PREFIX) else "device"


def load(session: Session, username: str, root: str, now: datetime | None = None) -> Principal | None:
    """The principal as the database has it now; None when it is unknown, revoked, disabled, signed out or expired."""
    kind = kind_of(username)
    if kind == "hub":
        return _load_hub(session, root)
    if kind == "browser":
        return _load_browser(session, username, root, now or datetime.now(UTC))
    return _load_device(session, username, root)


def _load_device(session: Session, handle: str, root: str) -> Principal | None:
    row = session.execute(
        text(
            "SELECT d.device_id, d.agent_id, d.scopes FROM devices d JOIN agents a USING (agent_id)"
            " WHERE d.handle = :handle AND d.revoked_at IS NULL AND NOT a.disabled"
        ),
        {"handle": handle},
    ).one_or_none()
    if row is None:
        return None
    return Principal(
        username=handle,
        kind="device",
        grants=device_grants(handle, row.scopes, root),
        root=root,
        agent_ids=(row.agent_id,),
        device_id=row.device_id,
        scopes=tuple(row.scopes),
    )


def _load_browser(session: Session, username: str, root: str, now: datetime) -> Principal | None:
    row = session.execute(
        text(
            "SELECT c.expires_at, s.session_id, s.user_id FROM credentials c JOIN user_sessions s USING (session_id)"
            " JOIN users u USING (user_id) WHERE c.username = :username AND c.kind = 'browser'"
            " AND c.replaced_at IS NULL AND c.expires_at > :now AND s.expires_at > :now AND NOT u.disabled"
        ),
        {"username": username, "now": now},
    ).one_or_none()
    if row is None:
        return None
    agents = session.execute(
        text(
            "SELECT a.agent_id, a.name FROM agent_memberships m JOIN agents a USING (agent_id)"
            " WHERE m.user_id = :user_id AND m.role <> 'blocked' AND m.revoked_at IS NULL AND NOT a.disabled"
            " ORDER BY a.agent_id"
        ),
        {"user_id": row.user_id},
    ).all()
    feeds = tuple(
        Grant("subscribe", f"{root}/ui/{agent.agent_id}/#", f"membership of {agent.name}") for agent in agents
    )
    return Principal(
        username=username,
        kind="browser",
        grants=(*feeds, Grant("subscribe", f"{root}/hub/status", "every browser")),
        root=root,
        agent_ids=tuple(agent.agent_id for agent in agents),
        expires_at=row.expires_at,
        session_id=row.session_id,
    )


def _load_hub(session: Session, root: str) -> Principal | None:
    known = session.execute(
        text("SELECT 1 FROM credentials WHERE kind = 'hub' AND username = :username AND replaced_at IS NULL"),
        {"username": HUB_USERNAME},
    ).first()
    return hub_principal(root) if known else None


def hub_principal(root: str) -> Principal:
    """The hub service: everything below the root."""
    return Principal(
        username=HUB_USERNAME,
        kind="hub",
        grants=(Grant("publish", f"{root}/#", "being the hub"), Grant("subscribe", f"{root}/#", "being the hub")),
        root=root,
    )
