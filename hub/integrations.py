"""Integrations: Home Assistant, Node-RED and the like, as named principals with a token and roles of their own."""

import uuid
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, select

from hub import audit
from hub.access import changes, credentials, roles
from hub.access.principals import INTEGRATION_PREFIX
from hub.errors import Conflict, Invalid, NotFound
from hub.tables import Integration, RetiredHandle
from hub_protocol.errors import BadName
from hub_protocol.topics import check_handle, handle_from_name

NAME_MAX: Final = 80
REASON_MAX: Final = 200
# With its prefix, an integration's username is as long as a device's handle may be.
HANDLE_MAX: Final = 59


@dataclass(frozen=True, slots=True)
class NewIntegration:
    """An integration with the one sight of its token."""

    integration: Integration
    token: str


@dataclass(frozen=True, slots=True)
class IntegrationView:
    """An integration as a row of a page shows it; `roles` are (id, name), `username` is its client id as well."""

    integration_id: uuid.UUID
    handle: str
    username: str
    name: str
    created_at: datetime
    created_by: str
    revoked_at: datetime | None
    revoked_by: str | None
    revoked_reason: str | None
    token_created_at: datetime | None
    roles: list[tuple[uuid.UUID, str]]


def add(
    session: Session,
    agent_id: uuid.UUID,
    name: str,
    *,
    by: str,
    handle: str | None = None,
    roles: Collection[uuid.UUID] = (),
) -> NewIntegration:
    """Register an integration and give it its first token. Without a handle, one is made of the name.

    Raises `Invalid` (name, handle), `NotFound` (a role of another agent) or `Conflict` (handle taken).
    """
    name = _checked_name(name)
    integration = Integration(
        agent_id=agent_id,
        handle=_checked_handle(handle) if handle else _propose_handle(session, name),
        name=name,
        created_by=by,
    )
    if session.get(RetiredHandle, integration.handle) is not None:
        raise Conflict(f"the handle {integration.handle} was another's; choose one that nobody had", field="handle")
    try:
        with session.begin_nested():
            session.add(integration)
    except IntegrityError as error:
        if "integrations_handle_key" not in str(error.orig):
            raise
        raise Conflict(f"the handle {integration.handle} is taken; choose another", field="handle") from None
    _audit(session, integration, "added", by, after={"name": name, "handle": integration.handle})
    set_roles(session, agent_id, integration.integration_id, roles, by=by)
    return NewIntegration(integration, credentials.issue_for_integration(session, integration))


def list_integrations(session: Session, agent_id: uuid.UUID) -> list[IntegrationView]:
    """All integrations of the agent by name; those revoked come last."""
    return _views(session, agent_id, None)


def find(session: Session, agent_id: uuid.UUID, integration_id: uuid.UUID) -> IntegrationView:
    """The agent's integration with this id; `NotFound` also for another agent's."""
    for view in _views(session, agent_id, integration_id):
        return view
    raise _no_such()


def by_handle(session: Session, handle: str) -> Integration:
    """The integration with this handle or username, of whichever agent: for the command line."""
    plain = handle.removeprefix(INTEGRATION_PREFIX)
    found = session.exec(select(Integration).where(Integration.handle == plain)).first()
    if found is None:
        raise NotFound(f"there is no integration with the handle {handle[:80]!r}", field="handle")
    return found


def rename(session: Session, agent_id: uuid.UUID, integration_id: uuid.UUID, name: str, *, by: str) -> None:
    """Give it another name; its handle stays."""
    integration = _held(session, agent_id, integration_id)
    before, integration.name = integration.name, _checked_name(name)
    session.add(integration)
    session.flush()
    if integration.name != before:
        _audit(session, integration, "renamed", by, before={"name": before}, after={"name": integration.name})


def rotate(session: Session, agent_id: uuid.UUID, integration_id: uuid.UUID, *, by: str) -> str:
    """Replace its token; the old one is worthless at once and its session closes.

    Returns the new token, the only time it is seen. Raises `Conflict` when the integration is revoked.
    """
    integration = _held(session, agent_id, integration_id)
    if integration.revoked_at is not None:
        raise Conflict(f"{integration.handle} is revoked and gets no new token; add it again under another handle")
    token = credentials.issue_for_integration(session, integration)
    changes.announce(
        session, username_of(integration), "rotated", f"its token was replaced by {by}; give it the new one"
    )
    _audit(session, integration, "rotated", by)
    return token


def revoke(session: Session, agent_id: uuid.UUID, integration_id: uuid.UUID, *, by: str, reason: str = "") -> None:
    """End an integration for good: its session closes and its token no longer counts.

    Raises `Conflict` when it is revoked already, `Invalid` for a reason that is too long or not printable.
    """
    reason = reason.strip()
    if len(reason) > REASON_MAX or not reason.isprintable():
        raise Invalid(f"is at most {REASON_MAX} printable characters", field="reason")
    integration = _held(session, agent_id, integration_id)
    if integration.revoked_at is not None:
        raise Conflict(f"{integration.handle} is revoked already")
    integration.revoked_at, integration.revoked_by, integration.revoked_reason = datetime.now(UTC), by, reason or None
    session.add(integration)
    session.flush()
    told = f"this integration was revoked by {by}" + (f": {reason}" if reason else "")
    changes.announce(session, username_of(integration), "revoked", told)
    _audit(session, integration, "revoked", by, after={"reason": reason} if reason else None)


def set_roles(
    session: Session, agent_id: uuid.UUID, integration_id: uuid.UUID, wanted: Collection[uuid.UUID], *, by: str
) -> None:
    """Let it bear exactly these roles of its agent; each role that is given or taken is audited as edited.

    Raises `NotFound` for a role of another agent.
    """
    find(session, agent_id, integration_id)
    borne = set(
        session.execute(
            text("SELECT role_id FROM role_assignments WHERE integration_id = :id"), {"id": integration_id}
        ).scalars()
    )
    for role_id in sorted(borne.symmetric_difference(wanted)):
        roles.set_bearer(session, agent_id, role_id, integration_id, bears=role_id not in borne, by=by)


def username_of(integration: Integration) -> str:
    """Its username and client id on the wire: `ext_<handle>`."""
    return f"{INTEGRATION_PREFIX}{integration.handle}"


def _held(session: Session, agent_id: uuid.UUID, integration_id: uuid.UUID) -> Integration:
    """Its row, locked until this transaction ends: of a rotation and a revocation at once, one sees the other."""
    statement = select(Integration).where(
        Integration.integration_id == integration_id, Integration.agent_id == agent_id
    )
    found = session.exec(statement.with_for_update(), execution_options={"populate_existing": True}).first()
    if found is None:
        raise _no_such()
    return found


def _no_such() -> NotFound:
    return NotFound("there is no such integration")


def _audit(session: Session, integration: Integration, verb: str, by: str, **facts: Any) -> None:
    audit.record(
        session,
        integration.agent_id,
        by=by,
        action=f"integration.{verb}",
        subject=username_of(integration),
        subject_id=integration.integration_id,
        **facts,
    )


def _propose_handle(session: Session, name: str) -> str:
    base = handle_from_name(name)[: HANDLE_MAX - 5].strip("-")
    if not base:
        raise Invalid("needs at least one letter a-z or digit; or give a handle", field="name")
    taken = set(session.exec(select(Integration.handle).where(col(Integration.handle).startswith(base))))
    taken |= set(session.exec(select(RetiredHandle.handle).where(col(RetiredHandle.handle).startswith(base))))
    candidate, n = base, 1
    while candidate in taken:
        n += 1
        candidate = f"{base}-{n}"
    return candidate


def _checked_name(name: str) -> str:
    name = " ".join(name.split())
    if not name:
        raise Invalid("is required", field="name")
    if len(name) > NAME_MAX or not name.isprintable():
        raise Invalid(f"is at most {NAME_MAX} printable characters", field="name")
    return name


def _checked_handle(handle: str) -> str:
    try:
        check_handle(handle)
    except BadName as error:
        raise Invalid(error.rule, field="handle") from None
    if len(handle) > HANDLE_MAX:
        raise Invalid(f"is at most {HANDLE_MAX} characters", field="handle")
    return handle


def _views(session: Session, agent_id: uuid.UUID, integration_id: uuid.UUID | None) -> list[IntegrationView]:
    rows = session.execute(
        text(
            "SELECT i.integration_id, i.handle, 'ext_' || i.handle AS username, i.name, i.created_at, i.created_by,"
            " i.revoked_at, i.revoked_by, i.revoked_reason, c.created_at AS token_created_at,"
            " coalesce((SELECT jsonb_agg(jsonb_build_array(r.role_id, r.name) ORDER BY lower(r.name))"
            " FROM role_assignments a JOIN roles r ON r.role_id = a.role_id"
            " WHERE a.integration_id = i.integration_id), '[]'::jsonb) AS roles"
            " FROM integrations i LEFT JOIN credentials c ON c.integration_id = i.integration_id"
            " AND c.replaced_at IS NULL WHERE i.agent_id = :agent_id"
            " AND (CAST(:integration_id AS uuid) IS NULL OR i.integration_id = :integration_id)"
            " ORDER BY i.revoked_at IS NOT NULL, lower(i.name), i.handle"
        ),
        {"agent_id": agent_id, "integration_id": integration_id},
    )
    return [_view(row) for row in rows]


def _view(row: Any) -> IntegrationView:
    facts = dict(row._mapping)  # noqa: SLF001  (SQLAlchemy's public name for it)
    facts["roles"] = [(uuid.UUID(role_id), name) for role_id, name in row.roles]
    return IntegrationView(**facts)
