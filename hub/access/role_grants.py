"""What roles give to their bearers: templates filled for each, in a few queries however many bearers there are.

Each stored template is judged again here, so that a row that should not be there opens nothing.
"""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import structlog
from sqlalchemy import text
from sqlmodel import Session

from hub.access import templates
from hub.access.grants import HANDLE, Action, Grant

log = structlog.get_logger(__name__)

# What is beyond gives nothing: a principal stays small in every broker.
MOST_PER_PRINCIPAL: Final = 500


@dataclass(frozen=True, slots=True)
class Bearer:
    """A device or integration, by its id, as the roles of its agent see it."""

    kind: Literal["device", "integration"]
    bearer_id: uuid.UUID
    agent_id: uuid.UUID
    handle: str


Row = tuple[Action, str, str]


@dataclass(frozen=True, slots=True, eq=False)
class Given:
    """What roles give to a bearer, as (action, template, role's name) rows; one for all who bear the same roles.

    `common`: of each role, by its id, what all its bearers have alike, as far as nothing is cut at the limit.
    `alike`: whether the grants of its bearers, who are of one kind and agent, differ by the handle alone.
    """

    rows: tuple[Row, ...]
    common: Mapping[uuid.UUID, frozenset[tuple[Action, str]]]
    alike: bool


NOTHING: Final = Given((), {}, alike=True)


def of_bearers(session: Session, bearers: Sequence[Bearer], root: str) -> dict[uuid.UUID, Given]:
    """What each bearer has from roles, by its id; those that bear none are missing."""
    if not bearers:
        return {}
    roles = _roles_of(session, bearers)
    if not roles:
        return {}
    names = {role.role_id: role for given in roles.values() for role in given}
    grants = _grants_of(session, names)
    common = {role_id: _common(role, grants.get(role_id, ()), root) for role_id, role in names.items()}
    found: dict[uuid.UUID, Given] = {}
    same: dict[tuple[str, uuid.UUID, frozenset[uuid.UUID]], Given] = {}
    for bearer in bearers:
        given = {role.role_id: role for key in _keys(bearer) for role in roles.get(key, ())}
        if not given:
            continue
        of_whom = (bearer.kind, bearer.agent_id, frozenset(given))
        if of_whom not in same:
            rows = tuple(
                (action, template, role.name)
                for role in sorted(given.values(), key=lambda role: (role.name, role.role_id))
                for action, template in grants.get(role.role_id, ())
            )
            alike = _alike(bearer, rows, root)
            same[of_whom] = Given(rows, {role_id: common[role_id] for role_id in given}, alike)
        found[bearer.bearer_id] = same[of_whom]
    return found


def _alike(bearer: Bearer, rows: Sequence[Row], root: str) -> bool:
    """Whether nothing of this depends on whose handle it is: neither the limit, nor what reaches below the root."""
    if any(template.startswith(templates.OUTSIDE) and HANDLE in template for _, template, _ in rows):
        return False
    anybody = Bearer(bearer.kind, bearer.agent_id, bearer.agent_id, HANDLE)
    return len(fill_all(anybody, rows, root)) < MOST_PER_PRINCIPAL


def fill_all(bearer: Bearer, rows: Iterable[Row], root: str) -> tuple[Grant, ...]:
    """The grants that (action, template, role's name) rows come to for one bearer: each once, up to the limit."""
    filled: dict[tuple[Action, str], Grant] = {}
    for action, template, role_name in rows:
        if not templates.suits(template, bearer.kind):
            continue
        try:
            filter_ = templates.fill(template, bearer.handle, bearer.agent_id, root)
        except ValueError:
            log.warning("roles.reaches_below_the_root", handle=bearer.handle, role=role_name)
            continue
        if (action, filter_) in filled:
            continue
        if len(filled) == MOST_PER_PRINCIPAL:
            log.warning("roles.too_many_grants", handle=bearer.handle, most=MOST_PER_PRINCIPAL)
            break
        filled[action, filter_] = Grant(action, filter_, f"the role {role_name}")
    return tuple(filled.values())


def _common(role: Any, rows: Iterable[tuple[Action, str]], root: str) -> frozenset[tuple[Action, str]]:
    """The part of a role that does not depend on its bearer."""
    anybody = Bearer("device", role.role_id, role.agent_id, "")
    alike = [(action, one, role.name) for action, one in rows if HANDLE not in one.split("/")]
    return frozenset((grant.action, grant.filter) for grant in fill_all(anybody, alike, root))


def _keys(bearer: Bearer) -> tuple[uuid.UUID, ...]:
    """Under what the roles of a bearer are found: its own id, and for devices the agent's, for roles of all devices."""
    return (bearer.bearer_id, bearer.agent_id) if bearer.kind == "device" else (bearer.bearer_id,)


_ROLES: Final = text(
    "SELECT coalesce(a.device_id, a.integration_id, a.agent_id) AS bearer, r.role_id, r.agent_id, r.name"
    " FROM role_assignments a JOIN roles r ON r.role_id = a.role_id WHERE a.agent_id = ANY(:agents)"
    " AND (a.all_devices OR a.device_id = ANY(:ids) OR a.integration_id = ANY(:ids))"
)
_GRANTS: Final = text(
    "SELECT role_id, action, filter FROM role_grants WHERE role_id = ANY(:ids) ORDER BY action, filter"
)


def _roles_of(session: Session, bearers: Sequence[Bearer]) -> dict[uuid.UUID, list[Any]]:
    rows = session.execute(
        _ROLES,
        {
            "agents": list({bearer.agent_id for bearer in bearers}),
            "ids": [bearer.bearer_id for bearer in bearers],
        },
    )
    roles: dict[uuid.UUID, list[Any]] = {}
    for row in rows:
        roles.setdefault(row.bearer, []).append(row)
    return roles


def _grants_of(session: Session, roles: Mapping[uuid.UUID, Any]) -> dict[uuid.UUID, list[tuple[Action, str]]]:
    rows = session.execute(_GRANTS, {"ids": list(roles)}).all()
    named = {handle for row in rows for handle in templates.handles_in(row.filter)}
    own: dict[uuid.UUID, set[str]] = {}
    if named:
        known = session.execute(
            text("SELECT handle, agent_id FROM devices WHERE handle = ANY(:handles)"), {"handles": list(named)}
        )
        for device in known:
            own.setdefault(device.agent_id, set()).add(device.handle)
    grants: dict[uuid.UUID, list[tuple[Action, str]]] = {}
    for row in rows:
        role = roles[row.role_id]
        if templates.is_grantable(row.action, row.filter, own.get(role.agent_id, ())):
            grants.setdefault(row.role_id, []).append((row.action, row.filter))
        else:
            log.warning("roles.grant_gives_nothing", role=str(row.role_id), action=row.action, filter=row.filter)
    return grants
