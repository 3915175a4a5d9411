"""Who can do what in an agent: by principal, by topic, and one question at a time, all by the decision itself."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from sqlalchemy import text
from sqlmodel import Session

from hub.access import decide, principals
from hub.access.decide import NOT_AUTHORIZED, Decision
from hub.access.grants import Grant
from hub.access.principals import BROWSER_PREFIX, Kind, Principal
from hub.errors import Invalid, NotFound

_VERDICTS: Final[dict[str, Callable[[Principal, str], Decision]]] = {
    "publish": decide.publish,
    "subscribe": decide.subscribe,
    "receive": decide.receive,
}

_NAMED: Final = (
    "WITH borne AS (SELECT coalesce(a.device_id, a.integration_id) AS id, a.all_devices, r.name"
    " FROM role_assignments a JOIN roles r USING (role_id) WHERE a.agent_id = :agent_id)"
    " SELECT d.handle AS username, d.name, d.device_id AS id, ARRAY("
    "SELECT DISTINCT b.name FROM borne b WHERE b.id = d.device_id OR b.all_devices ORDER BY b.name) AS roles"
    " FROM devices d WHERE d.agent_id = :agent_id AND d.deleted_at IS NULL"
    " UNION ALL SELECT 'ext_' || i.handle, i.name, i.integration_id, ARRAY("
    "SELECT DISTINCT b.name FROM borne b WHERE b.id = i.integration_id ORDER BY b.name)"
    " FROM integrations i WHERE i.agent_id = :agent_id"
)
_MEMBERS: Final = (
    "SELECT u.user_id, coalesce(nullif(u.display_name, ''), u.email, '') AS name, m.role, a.name AS agent_name"
    " FROM agent_memberships m JOIN users u USING (user_id) JOIN agents a USING (agent_id)"
    " WHERE m.agent_id = :agent_id AND m.revoked_at IS NULL AND m.role <> 'blocked' AND NOT u.disabled"
    " AND NOT a.disabled ORDER BY lower(u.email), u.user_id"
)


@dataclass(frozen=True, slots=True)
class PrincipalView:
    """Somebody and all that they may do. `id` is the device's, the integration's or the user's; the hub has none.

    A browser stands for every page that this member opens, whose usernames are made anew each time. `roles` are the
    names of the roles that a device or integration bears, or what a member is: "admin".
    """

    username: str
    kind: Kind
    name: str
    id: uuid.UUID | None
    scopes: tuple[str, ...]
    roles: tuple[str, ...]
    grants: tuple[Grant, ...]


def by_principal(session: Session, agent_id: uuid.UUID, root: str) -> list[PrincipalView]:
    """The agent's devices and integrations that are let in, by name; then its members' pages, then the hub."""
    return [view for view, _ in _everybody(session, agent_id, root)]


def by_topic(
    session: Session, agent_id: uuid.UUID, action: str, topic: str, root: str
) -> list[tuple[PrincipalView, Decision]]:
    """What each of them may do with a topic (or, subscribing, a filter), and why: those who may come first."""
    verdict = _verdict(action)
    found = [(view, verdict(principal, topic)) for view, principal in _everybody(session, agent_id, root)]
    return sorted(found, key=lambda one: not one[1].allowed)


def try_it(
    session: Session,
    agent_id: uuid.UUID,
    username: str,
    action: str,
    topic: str = "",
    *,
    will: str | None = None,
    root: str,
) -> Decision:
    """The verdict on one question, with its reason. Connecting, `topic` is the client id; empty, it is as it must be.

    `NotFound` for names that are not the agent's, `Invalid` for an unknown action.
    """
    known = {view.username: principal for view, principal in _everybody(session, agent_id, root)}
    principal = known.get(username)
    if principal is None:
        if _is_shut_out(session, agent_id, username):
            return Decision(False, f"{username} is not let in: it is revoked, or its agent is disabled", NOT_AUTHORIZED)
        raise NotFound("there is nobody of this name here", field="username")
    if action == "connect":
        return decide.connect(principal, topic or username, will or None)
    return _verdict(action)(principal, topic)


def _verdict(action: str) -> Callable[[Principal, str], Decision]:
    verdict = _VERDICTS.get(action)
    if verdict is None:
        raise Invalid(f"is one of connect, {', '.join(_VERDICTS)}", field="action")
    return verdict


def _everybody(session: Session, agent_id: uuid.UUID, root: str) -> list[tuple[PrincipalView, Principal]]:
    named = {row.username: row for row in session.execute(text(_NAMED), {"agent_id": agent_id})}
    found = []
    for principal in principals.load_agent(session, agent_id, root):
        row = named.get(principal.username)
        if row is None:  # came since the names were read
            continue
        view = PrincipalView(
            principal.username,
            principal.kind,
            row.name,
            row.id,
            principal.scopes,
            tuple(row.roles),
            tuple(principal.grants),
        )
        found.append((view, principal))
    found.sort(key=lambda one: (one[0].kind, one[0].name.casefold(), one[0].username))
    for row in session.execute(text(_MEMBERS), {"agent_id": agent_id}):
        page = _page(row.user_id, agent_id, row.agent_name, row.role, root)
        found.append((_view_of(page, row.name, row.user_id, (row.role,)), page))
    hub = principals.hub_principal(root)
    found.append((_view_of(hub, "Hub", None, ()), hub))
    return found


def _view_of(principal: Principal, name: str, id_: uuid.UUID | None, roles: tuple[str, ...]) -> PrincipalView:
    return PrincipalView(
        principal.username, principal.kind, name, id_, principal.scopes, roles, tuple(principal.grants)
    )


def _page(user_id: uuid.UUID, agent_id: uuid.UUID, agent_name: str, role: str, root: str) -> Principal:
    """What any page of a member is to this agent; its other agents are nobody's business here."""
    return Principal(
        username=f"{BROWSER_PREFIX}{user_id}",
        kind="browser",
        grants=(
            *principals.page_grants(agent_id, agent_name, role, root),
            Grant("subscribe", f"{root}/hub/status", "every browser"),
        ),
        root=root,
        agent_ids=(agent_id,),
    )


def _is_shut_out(session: Session, agent_id: uuid.UUID, username: str) -> bool:
    """Whether this is a device or an integration of the agent that is not let in."""
    return any(row.username == username for row in session.execute(text(_NAMED), {"agent_id": agent_id}))
