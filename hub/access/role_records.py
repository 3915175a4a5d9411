"""Roles as rows: read as a whole with grants and bearers, written as a whole, and told as plain facts for the audit."""

import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import text
from sqlmodel import Session

from hub.access.principals import INTEGRATION_PREFIX
from hub.access.role_drafts import GrantDraft, RoleDraft

_LOCK: Final = "hashtextextended('marvain: roles of ' || :agent_id, 0)"


class RoleBearer(NamedTuple):
    """A device or integration that bears a role."""

    bearer_id: uuid.UUID
    handle: str
    name: str


@dataclass(frozen=True, slots=True)
class RoleView:
    """A role as it is. `devices` and `integrations` are those named; with `all_devices` every device bears it too."""

    role_id: uuid.UUID
    name: str
    about: str
    revision: int
    grants: tuple[GrantDraft, ...]
    devices: tuple[RoleBearer, ...]
    integrations: tuple[RoleBearer, ...]
    all_devices: bool
    updated_at: datetime

    @property
    def draft(self) -> RoleDraft:
        """The same as something to be written."""
        return RoleDraft(
            self.name,
            self.about,
            self.grants,
            tuple(one.bearer_id for one in self.devices),
            tuple(one.bearer_id for one in self.integrations),
            self.all_devices,
        )


def take_turn(session: Session, agent_id: uuid.UUID) -> None:
    """Before a change of the agent's roles: one after the other, and none while a device is being added."""
    session.execute(text(f"SELECT pg_advisory_xact_lock({_LOCK})"), {"agent_id": str(agent_id)})


def hold_still(session: Session, agent_id: uuid.UUID) -> None:
    """Until this transaction ends the agent's roles stay: who is added now is told of the next change of them."""
    session.execute(text(f"SELECT pg_advisory_xact_lock_shared({_LOCK})"), {"agent_id": str(agent_id)})


def write(session: Session, agent_id: uuid.UUID, role_id: uuid.UUID, draft: RoleDraft) -> None:
    """Write grants and bearers of a role that has neither; the draft is a checked one."""
    session.execute(
        text(
            "INSERT INTO role_grants (role_id, action, filter) SELECT CAST(:role_id AS uuid), action, filter"
            " FROM unnest(CAST(:actions AS text[]), CAST(:filters AS text[])) AS given (action, filter)"
        ),
        {
            "role_id": role_id,
            "actions": [grant.action for grant in draft.grants],
            "filters": [grant.filter for grant in draft.grants],
        },
    )
    session.execute(
        text(
            "INSERT INTO role_assignments (role_id, agent_id, device_id, integration_id, all_devices)"
            " SELECT CAST(:role_id AS uuid), CAST(:agent_id AS uuid), id, NULL, false"
            " FROM unnest(CAST(:devices AS uuid[])) AS id"
            " UNION ALL SELECT :role_id, :agent_id, NULL, id, false FROM unnest(CAST(:integrations AS uuid[])) AS id"
            " UNION ALL SELECT :role_id, :agent_id, NULL, NULL, true WHERE :all_devices"
        ),
        {
            "role_id": role_id,
            "agent_id": agent_id,
            "devices": list(draft.devices),
            "integrations": list(draft.integrations),
            "all_devices": draft.all_devices,
        },
    )


def views(session: Session, agent_id: uuid.UUID, role_id: uuid.UUID | None) -> list[RoleView]:
    """The agent's roles by name, or only the one of that id."""
    asked = {"agent_id": agent_id, "role_id": role_id}
    which = "r.agent_id = :agent_id AND (CAST(:role_id AS uuid) IS NULL OR r.role_id = :role_id)"
    roles = session.execute(
        text(f"SELECT r.* FROM roles r WHERE {which} ORDER BY lower(r.name), r.role_id"), asked
    ).all()
    grants: dict[uuid.UUID, list[GrantDraft]] = {}
    for row in session.execute(
        text(f"SELECT g.* FROM role_grants g JOIN roles r USING (role_id) WHERE {which} ORDER BY g.action, g.filter"),
        asked,
    ):
        grants.setdefault(row.role_id, []).append(GrantDraft(row.action, row.filter))
    bearers: dict[tuple[uuid.UUID, str], list[RoleBearer]] = {}
    for row in session.execute(
        text(
            "SELECT a.role_id, CASE WHEN a.all_devices THEN 'all' WHEN a.device_id IS NULL THEN 'integration'"
            " ELSE 'device' END AS kind, coalesce(a.device_id, a.integration_id, a.agent_id) AS id,"
            " coalesce(d.handle, i.handle, '') AS handle, coalesce(d.name, i.name, '') AS name"
            " FROM role_assignments a JOIN roles r USING (role_id) LEFT JOIN devices d ON d.device_id = a.device_id"
            f" LEFT JOIN integrations i ON i.integration_id = a.integration_id WHERE {which} ORDER BY 4"
        ),
        asked,
    ):
        bearers.setdefault((row.role_id, row.kind), []).append(RoleBearer(row.id, row.handle, row.name))
    return [
        RoleView(
            row.role_id,
            row.name,
            row.about,
            row.revision,
            tuple(grants.get(row.role_id, ())),
            tuple(bearers.get((row.role_id, "device"), ())),
            tuple(bearers.get((row.role_id, "integration"), ())),
            (row.role_id, "all") in bearers,
            row.updated_at,
        )
        for row in roles
    ]


def bearers_of(session: Session, agent_id: uuid.UUID, role: RoleView) -> set[str]:
    """The usernames of all who bear the role."""
    names = {one.handle for one in role.devices}
    names |= {f"{INTEGRATION_PREFIX}{one.handle}" for one in role.integrations}
    if role.all_devices:
        names |= set(
            session.execute(
                text("SELECT handle FROM devices WHERE agent_id = :agent_id AND revoked_at IS NULL"),
                {"agent_id": agent_id},
            ).scalars()
        )
    return names


def facts_of(role: RoleView) -> dict[str, Any]:
    """The role as the audit keeps it; bearers by their handles, which are unique and readable."""
    return {
        "name": role.name,
        "about": role.about,
        "grants": [{"action": grant.action, "filter": grant.filter} for grant in role.grants],
        "devices": [one.handle for one in role.devices],
        "integrations": [one.handle for one in role.integrations],
        "all_devices": role.all_devices,
    }


def draft_of(session: Session, agent_id: uuid.UUID, facts: dict[str, Any]) -> RoleDraft:
    """The role that `facts_of` told, borne by those of its bearers who are still there."""

    def ids(table: str, key: str) -> tuple[uuid.UUID, ...]:
        rows = session.execute(
            text(f"SELECT {key} FROM {table} WHERE agent_id = :agent_id AND handle = ANY(:handles)"),
            {"agent_id": agent_id, "handles": facts[table]},
        )
        return tuple(rows.scalars())

    return RoleDraft(
        facts["name"],
        facts["about"],
        tuple(GrantDraft(one["action"], one["filter"]) for one in facts["grants"]),
        ids("devices", "device_id"),
        ids("integrations", "integration_id"),
        facts["all_devices"],
    )
