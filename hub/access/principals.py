"""Who speaks: a device, a browser, an integration or the hub service, with everything it may do, from the database."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final, Literal

from sqlalchemy import text
from sqlmodel import Session

from hub.access import role_grants
from hub.access.grants import Action, Book, Grant
from hub.access.scopes import device_grants
from hub.settings import HUB_USERNAME
from hub_protocol.catalogue import FEEDS
from hub_protocol.topics import Topics

# Guests read no samples.
FEEDS_OF_GUESTS: Final = tuple(feed for feed in FEEDS if feed != "telemetry")
Kind = Literal["device", "browser", "integration", "hub"]

BROWSER_PREFIX: Final = "ui_"
INTEGRATION_PREFIX: Final = "ext_"


@dataclass(frozen=True, slots=True)
class Principal:
    """A name on the wire and what it may do. Username and MQTT client id are the same string, always.

    `common` tells of each role that it bears, by its id, which grants all its bearers have alike; it decides nothing.
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
    integration_id: uuid.UUID | None = None
    common: Mapping[uuid.UUID, frozenset[tuple[Action, str]]] = field(default_factory=dict, repr=False, compare=False)
    _books: dict[Action, Book] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def handle(self) -> str:
        """What `{handle}` stands for, and what people know it by: the username without the integrations' prefix."""
        return self.username.removeprefix(INTEGRATION_PREFIX) if self.kind == "integration" else self.username

    @property
    def denied_topic(self) -> str:
        """Where it is told what was refused; "" for browsers and the hub."""
        if self.kind == "device":
            return Topics(self.root).denied(self.username)
        return f"{self.root}/out/{self.handle}/denied" if self.kind == "integration" else ""

    def book(self, action: Action) -> Book:
        """The grants of one action, arranged for looking up when it is first asked for."""
        book = self._books.get(action)
        if book is None:
            book = self._books[action] = Book(grant for grant in self.grants if grant.action == action)
        return book


def kind_of(username: str) -> Kind:
    """Which kind of principal a username means; no handle has an underscore, so the kinds cannot overlap."""
    if username == HUB_USERNAME:
        return "hub"
    if username.startswith(BROWSER_PREFIX):
        return "browser"
    return "integration" if username.startswith(INTEGRATION_PREFIX) else "device"


def load(session: Session, username: str, root: str, now: datetime | None = None) -> Principal | None:
    """The principal as the database has it now; None when it is unknown, revoked, disabled, signed out or expired."""
    return load_many(session, [username], root, now).get(username)


def load_many(
    session: Session, usernames: Sequence[str] | None, root: str, now: datetime | None = None
) -> dict[str, Principal]:
    """The principals of these names that count now, in a few queries; None means everybody."""
    by_kind: dict[Kind, list[str]] | None = None
    if usernames is not None:
        by_kind = {}
        for username in usernames:
            if username.isascii() and "\0" not in username:
                by_kind.setdefault(kind_of(username), []).append(username)
    found: dict[str, Principal] = {}
    if by_kind is None or "device" in by_kind or "integration" in by_kind:
        devices = _devices(session, "true" if by_kind is None else "d.handle = ANY(:names)", _of(by_kind, "device"))
        integrations = _integrations(
            session, "true" if by_kind is None else "i.handle = ANY(:names)", _of(by_kind, "integration")
        )
        found |= _with_roles(session, devices, integrations, root)
    if by_kind is None or "browser" in by_kind:
        names = None if by_kind is None else by_kind["browser"]
        found |= _browsers(session, names, root, now or datetime.now(UTC))
    if by_kind is None or "hub" in by_kind:
        found |= _hub(session, root)
    return found


def load_agent(session: Session, agent_id: uuid.UUID, root: str) -> list[Principal]:
    """All devices and integrations of an agent that count now, by username."""
    devices = _devices(session, "d.agent_id = :agent_id", {"agent_id": agent_id})
    integrations = _integrations(session, "i.agent_id = :agent_id", {"agent_id": agent_id})
    found = _with_roles(session, devices, integrations, root)
    return [found[username] for username in sorted(found)]


def hub_principal(root: str) -> Principal:
    """The hub service: everything below the root, and what the broker says of itself."""
    return Principal(
        username=HUB_USERNAME,
        kind="hub",
        grants=(
            Grant("publish", f"{root}/#", "being the hub"),
            Grant("subscribe", f"{root}/#", "being the hub"),
            Grant("subscribe", "$SYS/#", "being the hub"),
        ),
        root=root,
    )


def integration_grants(handle: str, root: str) -> tuple[Grant, ...]:
    """What every integration may do, whatever its roles: use the topics that bear its name, and hear of the hub."""
    return (
        Grant("publish", f"{root}/ext/{handle}/#", _EVERY_INTEGRATION),
        Grant("subscribe", f"{root}/out/{handle}/#", _EVERY_INTEGRATION),
        Grant("subscribe", f"{root}/hub/status", _EVERY_INTEGRATION),
    )


def page_grants(agent_id: uuid.UUID, agent_name: str, role: str, root: str) -> tuple[Grant, ...]:
    """What the pages of a member with this role may hear of the agent."""
    return tuple(
        Grant("subscribe", f"{root}/ui/{agent_id}/{feed}", f"membership of {agent_name}")
        for feed in (FEEDS_OF_GUESTS if role == "guest" else ("#",))
    )


_EVERY_INTEGRATION: Final = "every integration"


def _of(by_kind: Mapping[Kind, list[str]] | None, kind: Kind) -> dict[str, Any]:
    if by_kind is None:
        return {}
    return {"names": [name.removeprefix(INTEGRATION_PREFIX) for name in by_kind.get(kind, [])]}


def _devices(session: Session, where: str, given: dict[str, Any]) -> Sequence[Any]:
    if given.get("names") == []:
        return ()
    return session.execute(
        text(
            "SELECT d.device_id, d.agent_id, d.handle, d.scopes FROM devices d JOIN agents a USING (agent_id)"
            f" WHERE d.revoked_at IS NULL AND NOT a.disabled AND {where}"
        ),
        given,
    ).all()


def _integrations(session: Session, where: str, given: dict[str, Any]) -> Sequence[Any]:
    if given.get("names") == []:
        return ()
    return session.execute(
        text(
            "SELECT i.integration_id, i.agent_id, i.handle FROM integrations i JOIN agents a USING (agent_id)"
            f" WHERE i.revoked_at IS NULL AND NOT a.disabled AND {where}"
        ),
        given,
    ).all()


def _with_roles(
    session: Session, devices: Sequence[Any], integrations: Sequence[Any], root: str
) -> dict[str, Principal]:
    bearers = [role_grants.Bearer("device", row.device_id, row.agent_id, row.handle) for row in devices]
    bearers += [role_grants.Bearer("integration", row.integration_id, row.agent_id, row.handle) for row in integrations]
    more = role_grants.of_bearers(session, bearers, root)
    found: dict[str, Principal] = {}
    none = role_grants.Given((), {})
    for row in devices:
        given = more.get(row.device_id, none)
        found[row.handle] = Principal(
            username=row.handle,
            kind="device",
            grants=(*device_grants(row.handle, row.scopes, root), *given.grants),
            root=root,
            agent_ids=(row.agent_id,),
            device_id=row.device_id,
            scopes=tuple(row.scopes),
            common=given.common,
        )
    for row in integrations:
        given = more.get(row.integration_id, none)
        username = f"{INTEGRATION_PREFIX}{row.handle}"
        found[username] = Principal(
            username=username,
            kind="integration",
            grants=(*integration_grants(row.handle, root), *given.grants),
            root=root,
            agent_ids=(row.agent_id,),
            integration_id=row.integration_id,
            common=given.common,
        )
    return found


def _browsers(session: Session, names: Sequence[str] | None, root: str, now: datetime) -> dict[str, Principal]:
    rows = session.execute(
        text(
            "SELECT c.username, c.expires_at, s.session_id, s.user_id FROM credentials c"
            " JOIN user_sessions s USING (session_id) JOIN users u USING (user_id) WHERE c.kind = 'browser'"
            " AND c.replaced_at IS NULL AND c.expires_at > :now AND s.expires_at > :now AND NOT u.disabled"
            + ("" if names is None else " AND c.username = ANY(:names)")
        ),
        {"now": now} | ({} if names is None else {"names": list(names)}),
    ).all()
    if not rows:
        return {}
    memberships = session.execute(
        text(
            "SELECT m.user_id, a.agent_id, a.name, m.role FROM agent_memberships m JOIN agents a USING (agent_id)"
            " WHERE m.user_id = ANY(:users) AND m.role <> 'blocked' AND m.revoked_at IS NULL AND NOT a.disabled"
            " ORDER BY a.agent_id"
        ),
        {"users": list({row.user_id for row in rows})},
    )
    agents: dict[uuid.UUID, list[Any]] = {}
    for membership in memberships:
        agents.setdefault(membership.user_id, []).append(membership)
    found: dict[str, Principal] = {}
    for row in rows:
        seen = agents.get(row.user_id, [])
        feeds = [grant for one in seen for grant in page_grants(one.agent_id, one.name, one.role, root)]
        found[row.username] = Principal(
            username=row.username,
            kind="browser",
            grants=(*feeds, Grant("subscribe", f"{root}/hub/status", "every browser")),
            root=root,
            agent_ids=tuple(one.agent_id for one in seen),
            expires_at=row.expires_at,
            session_id=row.session_id,
        )
    return found


def _hub(session: Session, root: str) -> dict[str, Principal]:
    known = session.execute(
        text("SELECT 1 FROM credentials WHERE kind = 'hub' AND username = :username AND replaced_at IS NULL"),
        {"username": HUB_USERNAME},
    ).first()
    return {HUB_USERNAME: hub_principal(root)} if known else {}
