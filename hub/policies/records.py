"""Policies as people write and see them."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import msgspec
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session

from hub import agents, audit, schedules
from hub.automations import conditions
from hub.errors import Conflict, Invalid, NotFound
from hub.policies import match, windows
from hub.tags import check_tag
from hub.tools import registry
from hub.tools.device_command import device_of
from hub.tools.tool import Tool

POLICIES_MAX: Final = 100
NAME_MAX: Final = 80
RATE_MAX: Final = 10_000
RATE_MAX_S: Final = 604_800.0
_JSON: Final = frozenset({"scopes", "conditions", "time_window", "proposers"})
_WRITTEN: Final = (
    "name",
    "tool",
    "scopes",
    "device_id",
    "tag",
    "conditions",
    "other_args",
    "time_window",
    "rate_count",
    "rate_s",
    "risk_max",
    "proposers",
)


@dataclass(frozen=True, slots=True)
class Draft:
    """A policy as it is written; `device` is a handle, `scopes` all that an action may need."""

    name: str
    tool: str
    scopes: tuple[str, ...]
    device: str | None = None
    tag: str | None = None
    conditions: tuple[Any, ...] = ()
    other_args: bool = False
    time_window: Mapping[str, Any] | None = None
    rate_count: int | None = None
    rate_s: float | None = None
    risk_max: str = "low"
    proposers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PolicyView:
    """A policy as it stands; `approved` is how often it did in the last seven days."""

    policy_id: uuid.UUID
    agent_id: uuid.UUID
    name: str
    enabled: bool
    revision: int
    tool: str
    scopes: list[str]
    device_id: uuid.UUID | None
    tag: str | None
    conditions: list[Any]
    other_args: bool
    time_window: Any
    rate_count: int | None
    rate_s: float | None
    risk_max: str
    proposers: list[str]
    created_by: str
    created_at: datetime
    updated_at: datetime
    device: str | None
    approved: int
    approved_last: datetime | None

    @property
    def row(self) -> dict[str, Any]:
        """What `match.fault` reads."""
        return {name: getattr(self, name) for name in _WRITTEN}

    @property
    def draft(self) -> Draft:
        """The same as it is written."""
        plain = {name: getattr(self, name) for name in _WRITTEN if name not in ("device_id", *_JSON)}
        return Draft(
            **plain,
            device=self.device,
            scopes=tuple(self.scopes),
            conditions=tuple(self.conditions),
            time_window=self.time_window,
            proposers=tuple(self.proposers),
        )


def check(session: Session, agent_id: uuid.UUID, draft: Draft) -> dict[str, Any]:
    """The draft as a row; raises `Invalid` (the field) or `NotFound` (device)."""
    name = " ".join(draft.name.split())
    if not name or len(name) > NAME_MAX or not name.isprintable():
        raise Invalid(f"is 1 to {NAME_MAX} characters", field="name")
    tool = registry.find(draft.tool)
    if tool.name == schedules.TOOL:
        raise Invalid("is for people to approve: what it repeats is not counted by a policy's rate", field="tool")
    scopes = _checked_scopes(draft, tool)
    if draft.device and draft.tag:
        raise Invalid("name a satellite or a tag, not both", field="tag")
    device_id = device_of(session, agent_id, draft.device, "device").device_id if draft.device else None
    if draft.tag:
        try:
            check_tag(draft.tag)
        except Invalid as error:
            raise Invalid(error.message, field="tag") from None
    held = conditions.check(draft.conditions, "conditions", match.ROOTS)
    if draft.time_window is not None:
        windows.read(draft.time_window, "time_window")
    _check_rate(draft)
    if draft.risk_max not in match.RISKS:
        raise Invalid(f"is one of {', '.join(match.RISKS)}", field="risk_max")
    if any(one not in match.PROPOSERS for one in draft.proposers):
        raise Invalid(f"are some of {', '.join(match.PROPOSERS)}", field="proposers")
    return {
        "name": name,
        "tool": tool.name,
        "scopes": scopes,
        "device_id": device_id,
        "tag": draft.tag or None,
        "conditions": held,
        "other_args": draft.other_args,
        "time_window": dict(draft.time_window) if draft.time_window is not None else None,
        "rate_count": draft.rate_count,
        "rate_s": draft.rate_s,
        "risk_max": draft.risk_max,
        "proposers": list(dict.fromkeys(draft.proposers)),
    }


def _checked_scopes(draft: Draft, tool: Tool) -> list[str]:
    scopes = list(dict.fromkeys(draft.scopes))
    if missing := [one for one in tool.scopes if one not in scopes]:
        raise Invalid(f"{draft.tool} needs {', '.join(missing)}", field="scopes")
    known = {scope for one in registry.load().values() for scope in one.scopes}
    if unknown := [one for one in scopes if one not in known]:
        raise Invalid(f"no tool needs {', '.join(unknown)[:200]}", field="scopes")
    return scopes


def _check_rate(draft: Draft) -> None:
    if (draft.rate_count is None) != (draft.rate_s is None):
        raise Invalid("say how many, and in how many seconds", field="rate_count")
    if draft.rate_count is not None and not 1 <= draft.rate_count <= RATE_MAX:
        raise Invalid(f"is 1 to {RATE_MAX:,}", field="rate_count")
    if draft.rate_s is not None and not 1 <= draft.rate_s <= RATE_MAX_S:
        raise Invalid("is a second to a week, in seconds", field="rate_s")


def listed(session: Session, agent_id: uuid.UUID) -> list[PolicyView]:
    """All of the agent's, by name: the order in which they are asked."""
    return _views(session, "p.agent_id = :agent ORDER BY lower(p.name)", agent=agent_id)


def find(session: Session, agent_id: uuid.UUID, policy_id: uuid.UUID) -> PolicyView:
    """One of them; `NotFound` also for another agent's."""
    for found in _views(session, "p.policy_id = :id AND p.agent_id = :agent", id=policy_id, agent=agent_id):
        return found
    raise NotFound("there is no such policy")


def enabled_for(session: Session, agent_id: uuid.UUID, tool: str) -> list[PolicyView]:
    """Those that are on, for one tool, each held until the transaction ends: rates are counted one at a time."""
    rows = session.execute(
        text(
            "SELECT policy_id FROM policies WHERE agent_id = :agent AND tool = :tool AND enabled "
            "ORDER BY lower(name), policy_id FOR NO KEY UPDATE"
        ),
        {"agent": agent_id, "tool": tool},
    ).scalars()
    return [find(session, agent_id, policy_id) for policy_id in rows.all()]


def create(session: Session, agent_id: uuid.UUID, draft: Draft, *, by: str, now: datetime) -> PolicyView:
    """A new one, switched off. Raises as `check`, and `Conflict` for a name that is taken, or too many."""
    row = check(session, agent_id, draft)
    agents.held(session, agent_id)
    if len(listed(session, agent_id)) >= POLICIES_MAX:
        raise Conflict(f"there are {POLICIES_MAX} policies already")
    marks = ", ".join(f"CAST(:{name} AS jsonb)" if name in _JSON else f":{name}" for name in _WRITTEN)
    try:
        with session.begin_nested():
            policy_id = session.execute(
                text(
                    f"INSERT INTO policies (agent_id, created_by, created_at, updated_at, {', '.join(_WRITTEN)}) "
                    f"VALUES (:agent, :by, :now, :now, {marks}) RETURNING policy_id"
                ),
                _encoded(row) | {"agent": agent_id, "by": str(by), "now": now},
            ).scalar_one()
    except IntegrityError as error:
        raise _taken(error, row["name"]) from None
    made = find(session, agent_id, policy_id)
    _audit(session, made, by, "added", after=row)
    return made


def edit(
    session: Session,
    agent_id: uuid.UUID,
    policy_id: uuid.UUID,
    draft: Draft,
    *,
    revision: int,
    by: str,
    now: datetime,
) -> PolicyView:
    """Give it another form; it is off until somebody has rehearsed and switched it on anew. Raises as `create`."""
    before = _held(session, agent_id, policy_id)
    if before.revision != revision:
        raise Conflict("somebody else edited it meanwhile; look again", field="revision")
    row = check(session, agent_id, draft)
    if row == before.row:
        return before
    marks = ", ".join(f"{name} = CAST(:{name} AS jsonb)" if name in _JSON else f"{name} = :{name}" for name in _WRITTEN)
    try:
        with session.begin_nested():
            session.execute(
                text(
                    f"UPDATE policies SET {marks}, revision = revision + 1, updated_at = :now, enabled = false "
                    "WHERE policy_id = :id"
                ),
                _encoded(row) | {"id": policy_id, "now": now},
            )
    except IntegrityError as error:
        raise _taken(error, row["name"]) from None
    _audit(session, before, by, "edited", before=before.row | {"enabled": before.enabled}, after=row)
    return find(session, agent_id, policy_id)


def switch(
    session: Session,
    agent_id: uuid.UUID,
    policy_id: uuid.UUID,
    *,
    on: bool,
    revision: int,
    by: str,
    now: datetime,
) -> PolicyView:
    """Switch it on or off, in the form that was looked at (`revision`); raises `Conflict` for another."""
    before = _held(session, agent_id, policy_id)
    if before.revision != revision:
        raise Conflict("somebody else edited it meanwhile; look again", field="revision")
    if before.enabled == on:
        return before
    if on:
        check(session, agent_id, before.draft)
    session.execute(
        text("UPDATE policies SET enabled = :on, updated_at = :now WHERE policy_id = :id"),
        {"id": policy_id, "on": on, "now": now},
    )
    _audit(session, before, by, "enabled" if on else "disabled", after={"revision": revision})
    return find(session, agent_id, policy_id)


def delete(session: Session, agent_id: uuid.UUID, policy_id: uuid.UUID, *, by: str) -> str:
    """Remove it; returns its name. What it approved stays approved."""
    before = _held(session, agent_id, policy_id)
    session.execute(text("DELETE FROM policies WHERE policy_id = :id"), {"id": policy_id})
    _audit(session, before, by, "deleted", before=before.row)
    return before.name


def _encoded(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: msgspec.json.encode(value).decode() if name in _JSON and value is not None else value
        for name, value in row.items()
    }


def _held(session: Session, agent_id: uuid.UUID, policy_id: uuid.UUID) -> PolicyView:
    session.execute(
        text("SELECT 1 FROM policies WHERE policy_id = :id AND agent_id = :agent FOR NO KEY UPDATE"),
        {"id": policy_id, "agent": agent_id},
    )
    return find(session, agent_id, policy_id)


def _taken(error: IntegrityError, name: str) -> Exception:
    if "policies_name_idx" not in str(error.orig):
        return error
    return Conflict(f"there is a policy {name} already", field="name")


def _views(session: Session, condition: str, **values: Any) -> list[PolicyView]:
    rows = session.execute(
        text(
            "SELECT p.*, d.handle AS device, (SELECT count(*) FROM actions AS x WHERE x.agent_id = p.agent_id "
            "AND x.policy ->> 'policy_id' = p.policy_id::text AND x.approved_at > now() - interval '7 days') "
            "AS approved, (SELECT max(x.approved_at) FROM actions AS x WHERE x.agent_id = p.agent_id "
            "AND x.policy ->> 'policy_id' = p.policy_id::text) AS approved_last "
            f"FROM policies AS p LEFT JOIN devices AS d ON d.device_id = p.device_id WHERE {condition}"
        ),
        values,
    )
    return [PolicyView(**row._mapping) for row in rows]  # noqa: SLF001  (SQLAlchemy's public name)


def _audit(session: Session, one: PolicyView, by: str, what: str, **facts: Any) -> None:
    audit.record(
        session,
        one.agent_id,
        by=by,
        action=f"policy.{what}",
        subject=one.name,
        subject_id=one.policy_id,
        **facts,
    )
