"""What an integration may ask of the hub: to propose actions, and to decide on them as a role that an admin chose."""

import uuid
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, Literal

from sqlalchemy import text
from sqlmodel import Session

from hub import agents, audit
from hub.access.principals import INTEGRATION_PREFIX
from hub.errors import Conflict, Invalid, NotFound

SCOPES: Final[dict[str, str]] = {
    "actions:propose": "propose actions, also what a satellite is to do",
    "actions:approve": "be told what waits for a decision, and decide on it",
}
ROLES: Final = ("member", "admin")


@dataclass(frozen=True, slots=True)
class Asker:
    """An integration that asks, vouched for by the broker."""

    integration_id: uuid.UUID
    agent_id: uuid.UUID
    handle: str
    scopes: tuple[str, ...]
    decides_as: Literal["member", "admin"]


def of_handles(session: Session, handles: Collection[str]) -> dict[str, Asker]:
    """Those integrations that count: not revoked, of an agent that is on."""
    rows = session.execute(
        text(
            "SELECT i.integration_id, i.agent_id, i.handle, i.scopes, i.decides_as FROM integrations AS i "
            "JOIN agents AS a USING (agent_id) WHERE i.handle = ANY(:handles) AND i.revoked_at IS NULL "
            "AND NOT a.disabled"
        ),
        {"handles": list(handles)},
    )
    return {row.handle: Asker(row[0], row[1], row[2], tuple(row[3]), row[4]) for row in rows}


def view(session: Session, agent_id: uuid.UUID, integration_id: uuid.UUID) -> tuple[list[str], str]:
    """Its scopes, and as which role it decides; `NotFound` also for another agent's."""
    row = session.execute(
        text("SELECT scopes, decides_as FROM integrations WHERE integration_id = :id AND agent_id = :agent"),
        {"id": integration_id, "agent": agent_id},
    ).one_or_none()
    if row is None:
        raise NotFound("there is no such integration")
    return list(row.scopes), str(row.decides_as)


def change(
    session: Session,
    agent_id: uuid.UUID,
    integration_id: uuid.UUID,
    scopes: Collection[str],
    decides_as: str,
    *,
    by: str,
) -> None:
    """Let it ask exactly this. Raises `Invalid` (scopes, decides_as), `NotFound`, `Conflict` when it is revoked."""
    if unknown := [one for one in scopes if one not in SCOPES]:
        raise Invalid(f"there is no {unknown[0][:80]}; there are {', '.join(SCOPES)}", field="scopes")
    if decides_as not in ROLES:
        raise Invalid(f"is {' or '.join(ROLES)}", field="decides_as")
    agents.held(session, agent_id)
    before = view(session, agent_id, integration_id)
    wanted = [one for one in SCOPES if one in scopes]
    if (wanted, decides_as) == before:
        return
    row = session.execute(
        text(
            "UPDATE integrations SET scopes = CAST(:scopes AS jsonb), decides_as = :role "
            "WHERE integration_id = :id AND revoked_at IS NULL RETURNING handle"
        ),
        {"id": integration_id, "scopes": "[" + ", ".join(f'"{one}"' for one in wanted) + "]", "role": decides_as},
    ).one_or_none()
    if row is None:
        raise Conflict("it is revoked")
    audit.record(
        session,
        agent_id,
        by=by,
        action="integration.scopes_changed",
        subject=f"{INTEGRATION_PREFIX}{row.handle}",
        subject_id=integration_id,
        before={"scopes": before[0], "decides_as": before[1]},
        after={"scopes": wanted, "decides_as": decides_as},
    )
