"""Roles: named grants that an agent's admins edit, and who bears them; each change is audited, told, and undoable."""

import uuid
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session

from hub import audit
from hub.access import changes
from hub.access.principals import INTEGRATION_PREFIX, kind_of
from hub.access.role_drafts import (
    MOST_GRANTS,
    TAKEN,
    GrantDraft,
    RoleDraft,
    check_draft,
    problems,
)
from hub.access.role_records import RoleBearer, RoleView, bearers_of, draft_of, facts_of, take_turn, views, write
from hub.access.templates import of_topic
from hub.errors import Conflict, Invalid, NotFound
from hub.tables import AuditEntry
from hub_protocol.topics import DEFAULT_ROOT

__all__ = [
    "MOST_GRANTS",
    "MOST_ROLES",
    "GrantDraft",
    "RoleBearer",
    "RoleDraft",
    "RoleView",
    "Saved",
    "check_draft",
    "create",
    "delete",
    "edit",
    "find",
    "grant_exactly",
    "list_roles",
    "problems",
    "set_bearer",
    "undo",
]

MOST_ROLES: Final = 200


@dataclass(frozen=True, slots=True)
class Saved:
    """A role after a change, and the audit entry with which the change can be undone."""

    role: RoleView
    entry_id: int


def list_roles(session: Session, agent_id: uuid.UUID) -> list[RoleView]:
    """The agent's roles by name."""
    return views(session, agent_id, None)


def find(session: Session, agent_id: uuid.UUID, role_id: uuid.UUID) -> RoleView:
    """One role; `NotFound` also for another agent's."""
    for view in views(session, agent_id, role_id):
        return view
    raise NotFound("there is no such role", field="role")


def create(
    session: Session,
    agent_id: uuid.UUID,
    draft: RoleDraft,
    *,
    by: str,
    open_topics: tuple[str, ...],
    root: str = DEFAULT_ROOT,
) -> Saved:
    """Write a new role. Raises `Invalid` naming the field, `Conflict` when the name is taken or there are too many."""
    checked = check_draft(session, agent_id, draft, open_topics=open_topics, root=root)
    return _create(session, agent_id, uuid.uuid4(), checked, by=by, action="role.created")


def edit(
    session: Session,
    agent_id: uuid.UUID,
    role_id: uuid.UUID,
    draft: RoleDraft,
    *,
    revision: int,
    by: str,
    open_topics: tuple[str, ...],
    root: str = DEFAULT_ROOT,
) -> Saved:
    """Make the role what the draft says; `Conflict` when it is no longer at `revision`. Raises as `create` besides."""
    before = _locked(session, agent_id, role_id)
    if before.revision != revision:
        raise Conflict("this role was changed meanwhile; look at it again", field="revision")
    checked = check_draft(session, agent_id, draft, open_topics=open_topics, root=root)
    return _replace(session, agent_id, before, checked, by=by, action="role.edited")


def delete(session: Session, agent_id: uuid.UUID, role_id: uuid.UUID, *, by: str) -> int:
    """Remove the role; returns the audit entry with which it can be brought back."""
    before = _locked(session, agent_id, role_id)
    told = bearers_of(session, agent_id, before)
    session.execute(text("DELETE FROM roles WHERE role_id = :role_id"), {"role_id": role_id})
    changes.announce_many(session, told, "changed", f"the role {before.name} was deleted by {by}")
    return audit.record(
        session,
        agent_id,
        by=by,
        action="role.deleted",
        subject=before.name,
        subject_id=role_id,
        before=facts_of(before),
    )


def undo(
    session: Session,
    agent_id: uuid.UUID,
    entry_id: int,
    *,
    by: str,
    open_topics: tuple[str, ...],
    root: str = DEFAULT_ROOT,
) -> Saved | None:
    """Make a role what it was before the change of that audit entry; None when that means that it is gone again.

    `NotFound` for an entry that is no change of a role of this agent; `Conflict` when the role was changed since;
    `Invalid` when what it was may not be granted any more. Bearers that are gone meanwhile are left out.
    """
    entry = session.get(AuditEntry, entry_id)
    if entry is None or entry.agent_id != agent_id or not entry.action.startswith("role.") or entry.subject_id is None:
        raise NotFound("there is no such change of a role", field="entry")
    role_id = entry.subject_id
    take_turn(session, agent_id)
    session.execute(text("SELECT 1 FROM roles WHERE role_id = :role_id FOR UPDATE"), {"role_id": role_id})
    now_is = next(iter(views(session, agent_id, role_id)), None)
    if (facts_of(now_is) if now_is else None) != entry.after:
        raise Conflict("the role was changed since; it can only be undone by editing it", field="entry")
    if entry.before is None:
        delete(session, agent_id, role_id, by=by)
        return None
    draft = draft_of(session, agent_id, entry.before)
    checked = check_draft(session, agent_id, draft, open_topics=open_topics, root=root)
    if now_is is None:
        return _create(session, agent_id, role_id, checked, by=by, action="role.restored")
    return _replace(session, agent_id, now_is, checked, by=by, action="role.restored")


def grant_exactly(
    session: Session,
    agent_id: uuid.UUID,
    principal_username: str,
    action: str,
    topic: str,
    *,
    by: str,
    root: str,
    open_topics: tuple[str, ...],
) -> Saved:
    """Grant one whole topic or filter to one device or integration, by a role "Only <username>" that it alone bears.

    Raises `Invalid` (field "topic") saying why it cannot be granted, `Conflict` when it is already, and `NotFound` for
    a principal that is none of the agent's.
    """
    bearer = _bearer(session, agent_id, principal_username)
    kind = kind_of(principal_username)
    try:
        grant = GrantDraft(action, of_topic(topic, bearer.handle, kind, root))
    except Invalid as error:
        raise Invalid(error.message, field="topic") from None
    roles = {role.name.lower(): role for role in list_roles(session, agent_id)}
    name, number = f"Only {principal_username}", 1
    while (role := roles.get(name.lower())) is not None and not _takes_one_more(role, bearer):
        number += 1
        name = f"Only {principal_username} ({number})"
    one = RoleDraft(name, f"What {principal_username} was granted one by one.", (grant,))
    one = (
        replace(one, integrations=(bearer.bearer_id,))
        if kind == "integration"
        else replace(one, devices=(bearer.bearer_id,))
    )
    try:
        checked = check_draft(session, agent_id, one, open_topics=open_topics, root=root)
    except Invalid as error:
        raise Invalid(error.message, field="topic") from None
    if any(checked.grants[0] in known.grants and _is_alone(known, bearer) for known in roles.values()):
        raise Conflict(f"{principal_username} is granted this already", field="topic")
    if role is None:
        return create(session, agent_id, one, by=by, open_topics=open_topics, root=root)
    wider = replace(role.draft, grants=(*role.grants, grant))
    try:
        return edit(
            session, agent_id, role.role_id, wider, revision=role.revision, by=by, open_topics=open_topics, root=root
        )
    except Invalid as error:
        # The new one is right, so it is one that was granted earlier.
        raise Invalid(
            f"the role {role.name} holds another that cannot be granted now: {error.message}", field="topic"
        ) from None


def set_bearer(
    session: Session, agent_id: uuid.UUID, role_id: uuid.UUID, integration_id: uuid.UUID, *, bears: bool, by: str
) -> None:
    """Give the role to an integration of the agent or take it away; audited as an edit of the role."""
    before = _locked(session, agent_id, role_id)
    draft = before.draft
    bearers = [one for one in draft.integrations if one != integration_id] + ([integration_id] if bears else [])
    after = replace(draft, integrations=tuple(bearers))
    _replace(session, agent_id, before, after, by=by, action="role.edited")


def _create(
    session: Session, agent_id: uuid.UUID, role_id: uuid.UUID, draft: RoleDraft, *, by: str, action: str
) -> Saved:
    take_turn(session, agent_id)
    count = session.execute(text("SELECT count(*) FROM roles WHERE agent_id = :id"), {"id": agent_id}).scalar_one()
    if count >= MOST_ROLES:
        raise Conflict(f"an agent has at most {MOST_ROLES} roles")
    # One that comes back goes on counting, so that a form from before it went cannot overwrite it.
    revision = "1 + (SELECT count(*) FROM audit_entries WHERE subject_id = :role_id)"
    statement = (
        "INSERT INTO roles (role_id, agent_id, name, about, revision)"
        f" VALUES (:role_id, :agent_id, :name, :about, {revision})"
    )
    _named(session, statement, {"role_id": role_id, "agent_id": agent_id, "name": draft.name, "about": draft.about})
    write(session, agent_id, role_id, draft)
    after = find(session, agent_id, role_id)
    told = bearers_of(session, agent_id, after)
    changes.announce_many(session, told, "changed", f"the role {after.name} was made by {by}")
    entry_id = audit.record(
        session, agent_id, by=by, action=action, subject=after.name, subject_id=role_id, after=facts_of(after)
    )
    return Saved(after, entry_id)


def _replace(
    session: Session, agent_id: uuid.UUID, before: RoleView, draft: RoleDraft, *, by: str, action: str
) -> Saved:
    role_id = before.role_id
    statement = (
        "UPDATE roles SET name = :name, about = :about, revision = revision + 1, updated_at = clock_timestamp()"
        " WHERE role_id = :role_id"
    )
    _named(session, statement, {"role_id": role_id, "name": draft.name, "about": draft.about})
    session.execute(text("DELETE FROM role_grants WHERE role_id = :role_id"), {"role_id": role_id})
    session.execute(text("DELETE FROM role_assignments WHERE role_id = :role_id"), {"role_id": role_id})
    write(session, agent_id, role_id, draft)
    after = find(session, agent_id, role_id)
    told = {*bearers_of(session, agent_id, before), *bearers_of(session, agent_id, after)}
    changes.announce_many(session, told, "changed", f"the role {after.name} was edited by {by}")
    entry_id = audit.record(
        session,
        agent_id,
        by=by,
        action=action,
        subject=after.name,
        subject_id=role_id,
        before=facts_of(before),
        after=facts_of(after),
    )
    return Saved(after, entry_id)


def _named(session: Session, statement: str, values: dict[str, Any]) -> None:
    """Run what writes a role's name; `Conflict` when it is taken, and then nothing else of the transaction is lost."""
    try:
        with session.begin_nested():
            session.execute(text(statement), values)
    except IntegrityError as error:
        if "roles_pkey" in str(error.orig):
            raise Conflict("somebody else brought this role back just now", field="entry") from None
        if "roles_name_idx" not in str(error.orig):
            raise
        raise Conflict(TAKEN, field="name") from None


def _locked(session: Session, agent_id: uuid.UUID, role_id: uuid.UUID) -> RoleView:
    """The role, held until this transaction ends."""
    take_turn(session, agent_id)
    session.execute(
        text("SELECT 1 FROM roles WHERE role_id = :role_id AND agent_id = :agent_id FOR UPDATE"),
        {"role_id": role_id, "agent_id": agent_id},
    )
    return find(session, agent_id, role_id)


def _bearer(session: Session, agent_id: uuid.UUID, username: str) -> RoleBearer:
    table, key = {
        "device": ("devices", "device_id"),
        "integration": ("integrations", "integration_id"),
    }.get(kind_of(username), ("", ""))
    row = (
        table
        and session.execute(
            text(f"SELECT {key} AS id, handle, name FROM {table} WHERE agent_id = :agent_id AND handle = :handle"),
            {"agent_id": agent_id, "handle": username.removeprefix(INTEGRATION_PREFIX).replace("\0", "")},
        ).one_or_none()
    )
    if not row:
        raise NotFound("roles are borne by this agent's devices and integrations", field="principal")
    return RoleBearer(row.id, row.handle, row.name)


def _is_alone(role: RoleView, bearer: RoleBearer) -> bool:
    return not role.all_devices and [*role.devices, *role.integrations] == [bearer]


def _takes_one_more(role: RoleView, bearer: RoleBearer) -> bool:
    return _is_alone(role, bearer) and len(role.grants) < MOST_GRANTS
