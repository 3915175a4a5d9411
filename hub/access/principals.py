"""Who speaks: a device, a browser, an integration or the hub service, with everything it may do, from the database."""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final, Literal

from sqlalchemy import text
from sqlmodel import Session

from hub.access import role_grants
from hub.access.charters import Charter, Charters, Granted
from hub.access.grants import HANDLE, Action, Grant
from hub.access.role_grants import Bearer, Given
from hub.access.scopes import device_grants
from hub.settings import HUB_USERNAME
from hub_protocol.topics import Topics

# Named one by one: whatever else comes is not for them until somebody says so.
FEEDS_OF_GUESTS: Final = ("presence", "devices", "events", "commands")
Kind = Literal["device", "browser", "integration", "hub"]
Common = Mapping[uuid.UUID, frozenset[tuple[Action, str]]]

BROWSER_PREFIX: Final = "ui_"
INTEGRATION_PREFIX: Final = "ext_"
# Of those whom somebody remembers: principals that live as long as their sessions share them.
_CHARTERS: Final = Charters()


@dataclass(frozen=True, slots=True)
class Principal:
    """A name on the wire and what it may do. Username and MQTT client id are the same string, always.

    `common` tells of each role that it bears, by its id, which grants all its bearers have alike; it decides nothing.
    `expires_at` is set for browsers alone: after it the credential is worthless unless it was renewed.
    """

    username: str
    kind: Kind
    grants: Sequence[Grant]
    root: str
    agent_ids: tuple[uuid.UUID, ...] = ()
    expires_at: datetime | None = None
    session_id: uuid.UUID | None = None
    device_id: uuid.UUID | None = None
    scopes: tuple[str, ...] = ()
    integration_id: uuid.UUID | None = None
    common: Common = field(default_factory=dict, repr=False, compare=False)
    _granted: Granted = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_granted", Granted.of(self.grants))

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

    def may(self, action: Action, asked: str) -> bool:
        """Whether one grant covers everything that `asked` (a valid topic or filter) can match."""
        return self._granted.may(action, asked)

    def find(self, action: Action, asked: str) -> Grant | None:
        """The grant that does; None when there is none."""
        return self._granted.find(action, asked)


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


_DEVICES: Final = (
    "SELECT d.device_id, d.agent_id, d.handle, d.scopes FROM devices d JOIN agents a USING (agent_id)"
    " WHERE d.revoked_at IS NULL AND NOT a.disabled AND "
)
_INTEGRATIONS: Final = (
    "SELECT i.integration_id, i.agent_id, i.handle FROM integrations i JOIN agents a USING (agent_id)"
    " WHERE i.revoked_at IS NULL AND NOT a.disabled AND "
)


def _devices(session: Session, where: str, given: dict[str, Any]) -> Sequence[Any]:
    return () if given.get("names") == [] else session.execute(_text(_DEVICES + where), given).all()


def _integrations(session: Session, where: str, given: dict[str, Any]) -> Sequence[Any]:
    return () if given.get("names") == [] else session.execute(_text(_INTEGRATIONS + where), given).all()


# Admissions ask the same few questions thousands of times a second.
_text: Final = lru_cache(maxsize=16)(text)


def _with_roles(
    session: Session, devices: Sequence[Any], integrations: Sequence[Any], root: str
) -> dict[str, Principal]:
    bearers: list[tuple[Bearer, tuple[str, ...]]] = [
        (Bearer("device", device_id, agent_id, handle), tuple(scopes))
        for device_id, agent_id, handle, scopes in devices
    ]
    bearers += [
        (Bearer("integration", integration_id, agent_id, handle), ())
        for integration_id, agent_id, handle in integrations
    ]
    given = role_grants.of_bearers(session, [bearer for bearer, _ in bearers], root)
    return of_bearers(bearers, given, root)


def of_bearers(
    bearers: Iterable[tuple[Bearer, tuple[str, ...]]], of_roles: Mapping[uuid.UUID, Given], root: str
) -> dict[str, Principal]:
    """Devices and integrations by username, from their scopes and, by their ids, from what roles give them."""
    held: dict[object, Charter] = {}
    found: dict[str, Principal] = {}
    for bearer, scopes in bearers:
        given = of_roles.get(bearer.bearer_id, role_grants.NOTHING)
        grants, common = _granted(bearer, scopes, given, root, held)
        is_device = bearer.kind == "device"
        username = bearer.handle if is_device else f"{INTEGRATION_PREFIX}{bearer.handle}"
        found[username] = Principal(
            username=username,
            kind=bearer.kind,
            grants=grants,
            root=root,
            agent_ids=(bearer.agent_id,),
            device_id=bearer.bearer_id if is_device else None,
            scopes=scopes,
            integration_id=None if is_device else bearer.bearer_id,
            common=common,
        )
    return found


def _granted(
    bearer: Bearer, scopes: tuple[str, ...], given: Given, root: str, held: dict[object, Charter]
) -> tuple[Granted, Common]:
    """The grants of a bearer, and by role those that all its bearers have alike; `held` are the charters so far."""
    kind, agent_id = bearer.kind, bearer.agent_id

    def own(handle: str) -> tuple[Grant, ...]:
        return device_grants(handle, scopes, root) if kind == "device" else integration_grants(handle, root)

    def written_out(handle: str) -> tuple[Grant, ...]:
        return (*own(handle), *role_grants.fill_all(Bearer(kind, agent_id, agent_id, handle), given.rows, root))

    if not given.alike:
        from_roles = role_grants.fill_all(bearer, given.rows, root)
        is_whole = len(from_roles) < role_grants.MOST_PER_PRINCIPAL
        return Granted.of((*own(bearer.handle), *from_roles)), given.common if is_whole else {}
    mine = (kind, agent_id, scopes, given)
    charter = held.get(mine)
    if charter is None:
        decisive = (kind, agent_id, scopes, given.rows, root)
        charter = held[mine] = _CHARTERS.one(decisive, lambda: Charter(written_out(HANDLE), written_out))
    return Granted(charter, bearer.handle), given.common


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
