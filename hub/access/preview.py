"""What an edit of access would do, before it is saved: to sessions, retained topics and the traffic of the last day.

The change is made in the database, everybody concerned is read as the brokers would read them, and it is undone.
"""

import uuid
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, TypeVar

from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session

from hub.access import differences, live_sessions, principals, roles, traffic
from hub.access.differences import Difference, LostFilters
from hub.access.grants import Action
from hub.access.live_sessions import SessionView
from hub.access.roles import RoleDraft
from hub.access.scopes import check_scopes
from hub.errors import Conflict, Invalid, NotFound

# Rows of each list that are shown; `Preview.more` counts those beyond.
MOST: Final = 100
# Retained topics that are looked at, and how often one is held against one principal.
_MOST_RETAINED: Final = 50_000
_MOST_VERDICTS: Final = 100_000
# Chosen among everybody's by their first levels, so that other agents' topics use nothing of that up.
_RETAINED: Final = (
    "SELECT topic, username FROM broker_retained WHERE username = ANY(:names) OR EXISTS (SELECT 1"
    " FROM generate_series(0, :head) AS levels"
    " WHERE array_to_string((string_to_array(topic, '/'))[1:levels], '/') = ANY(:starts))"
    " ORDER BY topic LIMIT :most"
)

Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class Preview:
    """Each list holds at most `MOST` rows; `more` says by the list's name how many there are beyond.

    `gains` and `losses` are (username, name, action, filter); `subscriptions` that would end (username, filter);
    `retained` topics that the named one could no longer read, or renew, (topic, username); `integrations` that are
    concerned, by name; `refused` messages of the last day that would have been (username, topic, count, last_at).
    `unknown` counts messages of those who lose something whose topics were not kept.
    """

    gains: list[tuple[str, str, Action, str]] = field(default_factory=list)
    losses: list[tuple[str, str, Action, str]] = field(default_factory=list)
    sessions: list[SessionView] = field(default_factory=list)
    subscriptions: list[tuple[str, str]] = field(default_factory=list)
    retained: list[tuple[str, str]] = field(default_factory=list)
    integrations: list[str] = field(default_factory=list)
    refused: list[tuple[str, str, int, datetime]] = field(default_factory=list)
    unknown: int = 0
    more: dict[str, int] = field(default_factory=dict)


def preview(
    session: Session,
    agent_id: uuid.UUID,
    role_id: uuid.UUID | None,
    draft: RoleDraft | None,
    *,
    root: str,
    open_topics: tuple[str, ...],
    now: datetime,
) -> Preview:
    """What saving `draft` as this role does, as a new one without `role_id`; without `draft`, what deleting it does.

    Raises `Invalid` or `Conflict` for a draft that cannot be saved, and `NotFound` for another agent's role.
    """
    if role_id is None and draft is None:
        raise Invalid("name a role, or say what a new one is to be", field="role")
    if role_id is not None:
        roles.find(session, agent_id, role_id)
    checked = draft and roles.check_draft(session, agent_id, draft, open_topics=open_topics, root=root)
    return _preview(session, agent_id, lambda: _write_role(session, agent_id, role_id, checked), root, now)


def preview_scopes(
    session: Session, agent_id: uuid.UUID, device_id: uuid.UUID, scopes: list[str], *, root: str, now: datetime
) -> Preview:
    """What giving the device these scopes does; `Invalid` for one that is unknown, `NotFound` for another's device."""
    checked = check_scopes(scopes)
    return _preview(
        session,
        agent_id,
        lambda: _change_one(
            session,
            "UPDATE devices SET scopes = to_jsonb(CAST(:scopes AS text[]))"
            " WHERE device_id = :id AND agent_id = :agent_id RETURNING 1",
            {"scopes": checked, "id": device_id, "agent_id": agent_id},
        ),
        root,
        now,
    )


def preview_revoking(
    session: Session,
    agent_id: uuid.UUID,
    *,
    device_id: uuid.UUID | None = None,
    integration_id: uuid.UUID | None = None,
    root: str,
    now: datetime,
) -> Preview:
    """What revoking the device or the integration does; `NotFound` for another agent's."""
    table, key = ("devices", "device_id") if device_id is not None else ("integrations", "integration_id")
    return _preview(
        session,
        agent_id,
        lambda: _change_one(
            session,
            f"UPDATE {table} SET revoked_at = coalesce(revoked_at, now())"
            f" WHERE {key} = :id AND agent_id = :agent_id RETURNING 1",
            {"id": device_id or integration_id, "agent_id": agent_id},
        ),
        root,
        now,
    )


def _preview(session: Session, agent_id: uuid.UUID, change: Callable[[], None], root: str, now: datetime) -> Preview:
    before = principals.load_agent(session, agent_id, root)
    with session.begin_nested() as trial:
        change()
        after = principals.load_agent(session, agent_id, root)
        trial.rollback()
    changed = differences.between(before, after)
    if not changed:
        return Preview()
    names = _names(session, agent_id)
    refused, unknown = _refused(session, changed, now)
    sessions = [view for view in live_sessions.of_agent(session, agent_id) if view.username in changed]
    more: dict[str, int] = {}

    def cut(name: str, rows: Iterable[Row]) -> list[Row]:
        whole = list(rows)
        if len(whole) > MOST:
            more[name] = len(whole) - MOST
        return whole[:MOST]

    return Preview(
        gains=cut(
            "gains", ((one.username, names[one.username], *gain) for one in changed.values() for gain in one.gains)
        ),
        losses=cut(
            "losses", ((one.username, names[one.username], *loss) for one in changed.values() for loss in one.losses)
        ),
        sessions=cut("sessions", (view for view in sessions if view.connected)),
        subscriptions=cut("subscriptions", _ending(sessions, changed)),
        retained=cut("retained", _retained(session, changed, root)),
        integrations=cut(
            "integrations", sorted(names[one] for one in changed if principals.kind_of(one) == "integration")
        ),
        refused=cut("refused", refused),
        unknown=unknown,
        more=more,
    )


def _write_role(session: Session, agent_id: uuid.UUID, role_id: uuid.UUID | None, draft: RoleDraft | None) -> None:
    """The role's rows as the draft says."""
    if role_id is not None:
        session.execute(text("DELETE FROM roles WHERE role_id = :role_id"), {"role_id": role_id})
    if draft is None:
        return
    role = {"role_id": role_id or uuid.uuid4(), "agent_id": agent_id}
    try:
        session.execute(
            text("INSERT INTO roles (role_id, agent_id, name) VALUES (:role_id, :agent_id, :name)"),
            role | {"name": draft.name},
        )
    except IntegrityError as error:
        if "roles_name_idx" not in str(error.orig):
            raise
        raise Conflict("there is a role of this name already", field="name") from None
    session.execute(
        text(
            "INSERT INTO role_grants (role_id, action, filter)"
            " SELECT DISTINCT CAST(:role_id AS uuid), action, filter"
            " FROM unnest(CAST(:actions AS text[]), CAST(:filters AS text[])) AS given (action, filter)"
        ),
        {
            "role_id": role["role_id"],
            "actions": [grant.action for grant in draft.grants],
            "filters": [grant.filter for grant in draft.grants],
        },
    )
    session.execute(
        text(
            "INSERT INTO role_assignments (role_id, agent_id, device_id, integration_id, all_devices)"
            " SELECT :role_id, :agent_id, id, NULL, false FROM unnest(CAST(:devices AS uuid[])) AS id"
            " UNION ALL SELECT :role_id, :agent_id, NULL, id, false FROM unnest(CAST(:integrations AS uuid[])) AS id"
            " UNION ALL SELECT :role_id, :agent_id, NULL, NULL, true WHERE :all_devices"
        ),
        role
        | {
            "devices": list(set(draft.devices)),
            "integrations": list(set(draft.integrations)),
            "all_devices": draft.all_devices,
        },
    )


def _change_one(session: Session, statement: str, values: dict[str, Any]) -> None:
    if session.execute(text(statement), values).first() is None:
        raise NotFound("there is no such device or integration")


def _names(session: Session, agent_id: uuid.UUID) -> dict[str, str]:
    rows = session.execute(
        text(
            "SELECT handle AS username, name FROM devices WHERE agent_id = :agent_id AND deleted_at IS NULL"
            " UNION ALL SELECT 'ext_' || handle, name FROM integrations WHERE agent_id = :agent_id"
        ),
        {"agent_id": agent_id},
    )
    return {row.username: row.name for row in rows}


def _ending(sessions: Sequence[SessionView], changed: dict[str, Difference]) -> list[tuple[str, str]]:
    """Subscriptions, of sessions that wait for their client too, that the change ends."""
    return [
        (view.username, filter_)
        for view in sessions
        for filter_, _ in view.subscriptions
        if changed[view.username].ends_subscription(filter_)
    ]


def _retained(session: Session, changed: dict[str, Difference], root: str) -> list[tuple[str, str]]:
    readers = LostFilters({name: one.loses("subscribe") for name, one in changed.items()})
    head = len(root.split("/")) + 2  # as in root/d/porch
    rows = session.execute(
        text(_RETAINED),
        {"names": list(changed), "starts": readers.starts(head), "head": head, "most": _MOST_RETAINED},
    )
    found = []
    verdicts = 0
    for row in rows:
        candidates = readers.of(row.topic)
        verdicts += len(candidates) + 1
        if verdicts > _MOST_VERDICTS:
            break
        concerned = {name for name in candidates if changed[name].ends_reading(row.topic)}
        if row.username in changed and changed[row.username].ends_publishing(row.topic):
            concerned.add(row.username)
        found += [(row.topic, name) for name in sorted(concerned)]
    return found


def _refused(
    session: Session, changed: dict[str, Difference], now: datetime
) -> tuple[list[tuple[str, str, int, datetime]], int]:
    """Messages of the last day that would have been refused, the most frequent first; and how many nobody can tell."""
    losers = [name for name, one in changed.items() if one.loses("publish")]
    refused, unknown = [], 0
    for (username, topic), (count, last_at) in traffic.of_day(session, losers, now).items():
        if not topic:
            unknown += count
        elif changed[username].ends_publishing(topic):
            refused.append((username, topic, count, last_at))
    return sorted(refused, key=lambda one: (-one[2], one[0], one[1])), unknown
