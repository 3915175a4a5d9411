"""An agent is deleted: gone for everybody at once, its rows removed in the background, a bounded number at a time."""

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from sqlalchemy import text
from sqlmodel import Session

from hub import agents, audit, identity, outbox
from hub.errors import Conflict, Invalid

# Rows of one table that one transaction removes; fewer where each takes rows of other tables along.
LEAVES_AT_ONCE: Final = 5_000
PARENTS_AT_ONCE: Final = 200

# Every table with a foreign key to `agents`, which others refer to, and what it refers to. Whatever is added to the
# schema later is found here, and nobody has to remember it.
_OWNED: Final = text(
    "SELECT c.relname AS name, a.attname AS column_name,"
    " EXISTS (SELECT FROM pg_constraint AS r WHERE r.contype = 'f' AND r.confrelid = k.conrelid"
    " AND r.conrelid <> k.conrelid) AS is_parent,"
    " ARRAY(SELECT DISTINCT p.relname::text FROM pg_constraint AS r JOIN pg_class AS p ON p.oid = r.confrelid"
    " WHERE r.contype = 'f' AND r.conrelid = k.conrelid AND r.confrelid <> k.conrelid) AS parents"
    " FROM pg_constraint AS k JOIN pg_class AS c ON c.oid = k.conrelid"
    " JOIN pg_attribute AS a ON a.attrelid = k.conrelid AND a.attnum = k.conkey[1]"
    " WHERE k.contype = 'f' AND k.confrelid = 'agents'::regclass AND cardinality(k.conkey) = 1 AND c.relkind = 'r'"
    " ORDER BY c.relname, a.attname"
)


@dataclass(frozen=True, slots=True)
class Losses:
    """What is gone when an agent is deleted, as counts."""

    devices: int
    integrations: int
    members: int
    spaces: int
    roles: int
    events: int
    streams: int
    commands: int
    memories: int
    actions: int


@dataclass(frozen=True, slots=True)
class OwnedTable:
    """A table whose rows belong to agents; with `is_parent` rows of other tables go with its own."""

    name: str
    column: str
    is_parent: bool

    @property
    def at_once(self) -> int:
        """How many rows one transaction removes."""
        return PARENTS_AT_ONCE if self.is_parent else LEAVES_AT_ONCE


def losses(session: Session, agent_id: uuid.UUID) -> Losses:
    """What would be gone."""
    counts = {
        "devices": "devices WHERE agent_id = :agent AND deleted_at IS NULL",
        "integrations": "integrations WHERE agent_id = :agent",
        "members": "agent_memberships WHERE agent_id = :agent AND revoked_at IS NULL",
        "spaces": "spaces WHERE agent_id = :agent",
        "roles": "roles WHERE agent_id = :agent",
        "events": "events WHERE agent_id = :agent",
        "streams": "telemetry_streams WHERE agent_id = :agent",
        "commands": "commands WHERE agent_id = :agent",
        "memories": "memories WHERE agent_id = :agent",
        "actions": "actions WHERE agent_id = :agent",
    }
    chosen = ", ".join(f"(SELECT count(*) FROM {what}) AS {name}" for name, what in counts.items())
    row = session.execute(text(f"SELECT {chosen}"), {"agent": agent_id}).one()
    return Losses(**row._mapping)  # noqa: SLF001  (SQLAlchemy's public name)


def delete(session: Session, agent_id: uuid.UUID, typed: str, *, by: str) -> Losses:
    """Delete it for good: it is gone for everybody at once, and its rows are removed in the background.

    `typed` must be its name: `Invalid` otherwise. Raises `NotFound`, and `Conflict` for the hub's last agent. What was
    done to it stays in the audit, its handles name nobody else. Returns what is lost.
    """
    identity.hold_agents(session)
    agent = agents.held(session, agent_id)
    if " ".join(typed.split()) != agent.name:
        raise Invalid(f"type the agent's name, {agent.name}, to delete it", field="typed")
    if len(identity.list_agents(session)) == 1:
        raise Conflict("this is the hub's last agent; make another one first")
    lost = losses(session, agent_id)
    session.execute(
        text(
            "INSERT INTO retired_handles (handle) SELECT handle FROM devices WHERE agent_id = :agent"
            " UNION SELECT handle FROM integrations WHERE agent_id = :agent ON CONFLICT DO NOTHING"
        ),
        {"agent": agent_id},
    )
    agents.shut_out(session, agent_id, f"the agent {agent.name} was deleted by {by}")
    _end_credentials(session, agent_id)
    agent.disabled, agent.deleted_at, agent.deleted_by = True, datetime.now(UTC), str(by)
    session.add(agent)
    session.flush()
    facts = {name: getattr(lost, name) for name in Losses.__slots__}
    for chain in (agent_id, None):  # its own chain stays, and the hub's tells of it too
        audit.record(
            session,
            chain,
            by=by,
            action="agent.deleted",
            subject=agent.name,
            subject_id=agent_id,
            before={"name": agent.name} | facts,
        )
    return lost


def unfinished(session: Session) -> list[uuid.UUID]:
    """The deleted agents that still have rows, the first deleted first."""
    rows = session.execute(
        text("SELECT agent_id FROM agents WHERE deleted_at IS NOT NULL ORDER BY deleted_at, agent_id")
    ).scalars()
    return list(rows)


def remaining(session: Session, agent_id: uuid.UUID) -> int:
    """How many rows of a deleted agent are still there."""
    summed = " + ".join(
        f'(SELECT count(*) FROM "{table.name}" WHERE "{table.column}" = :agent)' for table in owned_tables(session)
    )
    return int(session.execute(text(f"SELECT {summed}"), {"agent": agent_id}).scalar_one())


def owned_tables(session: Session) -> list[OwnedTable]:
    """The tables whose rows go with an agent, each before those that its rows refer to."""
    found = session.execute(_OWNED).all()
    parents = {row.name: set(row.parents) for row in found}
    order: list[str] = []

    def visit(name: str, on_the_way: frozenset[str]) -> None:
        # Children first: a parent that went earlier would take all of them along in one transaction.
        for child in sorted(parents):
            if name in parents[child] and child not in on_the_way:
                visit(child, on_the_way | {name})
        if name not in order:
            order.append(name)

    for name in sorted(parents):
        visit(name, frozenset({name}))
    # Who belonged to it goes last: until then its owner sees how far it is.
    by_order = sorted(found, key=lambda row: (row.name == "agent_memberships", order.index(row.name)))
    return [OwnedTable(row.name, row.column_name, row.is_parent) for row in by_order]


def remove_some(session: Session, table: OwnedTable, agent_id: uuid.UUID) -> int:
    """Remove a bounded number of the agent's rows of one table; returns how many."""
    gone = session.execute(
        text(
            f'WITH gone AS (DELETE FROM "{table.name}" WHERE ctid = ANY(ARRAY('
            f'SELECT ctid FROM "{table.name}" WHERE "{table.column}" = :agent LIMIT :limit)) RETURNING 1)'
            " SELECT count(*) FROM gone"
        ),
        {"agent": agent_id, "limit": table.at_once},
    )
    return int(gone.scalar_one())


def finish(session: Session, agent_id: uuid.UUID) -> None:
    """The rows are gone, and now the agent itself; the hub's audit says when."""
    name = session.execute(
        text("DELETE FROM agents WHERE agent_id = :agent AND deleted_at IS NOT NULL RETURNING name"),
        {"agent": agent_id},
    ).scalar()
    if name is not None:
        audit.record(session, None, by="the hub", action="agent.purged", subject=name, subject_id=agent_id)


def _end_credentials(session: Session, agent_id: uuid.UUID) -> None:
    """Nothing of the agent can be proved any more, and nothing that the hub retained for it stays at a broker."""
    session.execute(
        text(
            "DELETE FROM credentials WHERE device_id IN (SELECT device_id FROM devices WHERE agent_id = :agent)"
            " OR integration_id IN (SELECT integration_id FROM integrations WHERE agent_id = :agent)"
        ),
        {"agent": agent_id},
    )
    retained = session.execute(
        text("SELECT topic FROM retained_topics JOIN devices USING (device_id) WHERE agent_id = :agent"),
        {"agent": agent_id},
    ).scalars()
    outbox.purge(session, list(retained))
