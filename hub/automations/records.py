"""Automations as people write and see them: checked, kept with a revision, switched on and off, deleted."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import msgspec
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session

from hub import agents, args_schema, audit, identity
from hub.automations import conditions, happening, template, triggers
from hub.automations.triggers import Trigger
from hub.errors import Conflict, Invalid, NotFound
from hub.tools import registry
from hub.tools.device_command import device_of
from hub.verbs import check_args

AUTOMATIONS_MAX: Final = 200
NAME_MAX: Final = 80
WHY_MAX: Final = 500
COOLDOWN_MAX_S: Final = 604_800.0
_COLUMNS: Final = (
    "automation_id, agent_id, name, enabled, revision, kind, trigger, conditions, tool, args, why, cooldown_s, "
    "next_at, last_fired_at, last_error, last_error_at, created_by, created_at, updated_at, device_id, space_id"
)


@dataclass(frozen=True, slots=True)
class Draft:
    """An automation as it is written."""

    name: str
    kind: str
    trigger: Mapping[str, Any]
    tool: str
    args: Mapping[str, Any] = field(default_factory=dict)
    conditions: tuple[Any, ...] = ()
    why: str = ""
    cooldown_s: float = 0.0


@dataclass(frozen=True, slots=True)
class AutomationView:
    """An automation as it stands. `fired` is how often it has proposed in the last seven days."""

    automation_id: uuid.UUID
    agent_id: uuid.UUID
    name: str
    enabled: bool
    revision: int
    kind: str
    trigger: dict[str, Any]
    conditions: list[Any]
    tool: str
    args: dict[str, Any]
    why: str
    cooldown_s: float
    next_at: datetime | None
    last_fired_at: datetime | None
    last_error: str | None
    last_error_at: datetime | None
    created_by: str
    created_at: datetime
    updated_at: datetime
    device_id: uuid.UUID | None
    space_id: uuid.UUID | None
    fired: int = 0

    @property
    def draft(self) -> Draft:
        """The same as it is written."""
        return Draft(
            self.name,
            self.kind,
            self.trigger,
            self.tool,
            self.args,
            tuple(self.conditions),
            self.why,
            self.cooldown_s,
        )


@dataclass(frozen=True, slots=True)
class Checked:
    """A draft that holds: its trigger read, its names found."""

    draft: Draft
    trigger: Trigger
    conditions: list[dict[str, Any]]
    device_id: uuid.UUID | None
    space_id: uuid.UUID | None


def check(session: Session, agent_id: uuid.UUID, draft: Draft) -> Checked:
    """Raises `Invalid` (name, kind, trigger.…, conditions.…, tool, args.…, why, cooldown_s) or `NotFound`."""
    name = " ".join(draft.name.split())
    if not name or len(name) > NAME_MAX or not name.isprintable():
        raise Invalid(f"is 1 to {NAME_MAX} characters", field="name")
    trigger = triggers.read(draft.kind, draft.trigger)
    device_id = device_of(session, agent_id, trigger.device, "trigger.device").device_id if trigger.device else None
    space_id = None
    if trigger.space:
        try:
            space_id = identity.find_space(session, agent_id, trigger.space).space_id
        except NotFound as error:
            raise NotFound(error.message, field="trigger.space") from None
    held = conditions.check(draft.conditions, "conditions")
    if len(draft.why) > WHY_MAX or "\0" in draft.why:
        raise Invalid(f"is at most {WHY_MAX} characters", field="why")
    if not 0 <= draft.cooldown_s <= COOLDOWN_MAX_S:
        raise Invalid("is at most a week, in seconds", field="cooldown_s")
    template.check({"why": draft.why}, "why")
    _check_args(session, agent_id, draft)
    return Checked(
        Draft(name, draft.kind, trigger.plain, draft.tool, draft.args, tuple(held), draft.why, draft.cooldown_s),
        trigger,
        held,
        device_id,
        space_id,
    )


def _check_args(session: Session, agent_id: uuid.UUID, draft: Draft) -> None:
    tool = registry.find(draft.tool)
    check_args(draft.args)
    template.check(draft.args, "args")
    if not any(True for _ in template.places(draft.args)):
        tool.check(session, agent_id, draft.args)
        return
    # What a place will hold is not known yet: only what has none is held to the schema.
    for fault in args_schema.faults(tool.schema, draft.args):
        first = fault.field.partition(".")[0]
        if not first or not any(True for _ in template.places(draft.args.get(first))):
            raise Invalid(fault.message, field=f"args.{fault.field}" if fault.field else "args")


def listed(session: Session, agent_id: uuid.UUID) -> list[AutomationView]:
    """All of the agent's, by name."""
    return _views(session, "a.agent_id = :agent ORDER BY lower(a.name)", agent=agent_id)


def find(session: Session, agent_id: uuid.UUID, automation_id: uuid.UUID) -> AutomationView:
    """One of them; `NotFound` also for another agent's."""
    for found in _views(session, "a.automation_id = :id AND a.agent_id = :agent", id=automation_id, agent=agent_id):
        return found
    raise NotFound("there is no such automation")


def create(session: Session, agent_id: uuid.UUID, draft: Draft, *, by: str, now: datetime) -> AutomationView:
    """A new one, switched off. Raises as `check`, and `Conflict` for a name that is taken, or too many."""
    checked = check(session, agent_id, draft)
    agents.held(session, agent_id)
    if len(listed(session, agent_id)) >= AUTOMATIONS_MAX:
        raise Conflict(f"there are {AUTOMATIONS_MAX} automations already")
    values = _values(checked) | {"agent": agent_id, "by": str(by), "now": now}
    names = ", ".join(_WRITTEN)
    marks = ", ".join(f"CAST(:{name} AS jsonb)" if name in _JSON else f":{name}" for name in _WRITTEN)
    try:
        with session.begin_nested():
            automation_id = session.execute(
                text(
                    f"INSERT INTO automations (agent_id, created_by, created_at, updated_at, {names}) "
                    f"VALUES (:agent, :by, :now, :now, {marks}) RETURNING automation_id"
                ),
                values,
            ).scalar_one()
    except IntegrityError as error:
        raise _taken(error, checked.draft.name) from None
    made = find(session, agent_id, automation_id)
    _audit(session, made, by, "added", after=_facts(checked.draft))
    return made


def edit(
    session: Session,
    agent_id: uuid.UUID,
    automation_id: uuid.UUID,
    draft: Draft,
    *,
    revision: int,
    by: str,
    now: datetime,
) -> AutomationView:
    """Give it another form; what it knew of devices is forgotten. Raises as `create`, and `Conflict` (revision)."""
    before = _held(session, agent_id, automation_id)
    if before.revision != revision:
        raise Conflict("somebody else edited it meanwhile; look again", field="revision")
    checked = check(session, agent_id, draft)
    if _facts(checked.draft) == _facts(before.draft):
        return before
    marks = ", ".join(f"{name} = CAST(:{name} AS jsonb)" if name in _JSON else f"{name} = :{name}" for name in _WRITTEN)
    following = checked.trigger.next_at(now) if before.enabled else None
    try:
        with session.begin_nested():
            session.execute(
                text(
                    f"UPDATE automations SET {marks}, revision = revision + 1, updated_at = :now, next_at = :next, "
                    "last_error = NULL, last_error_at = NULL WHERE automation_id = :id"
                ),
                _values(checked) | {"id": automation_id, "now": now, "next": following},
            )
    except IntegrityError as error:
        raise _taken(error, checked.draft.name) from None
    _forget(session, automation_id)
    _audit(session, before, by, "edited", before=_facts(before.draft), after=_facts(checked.draft))
    return find(session, agent_id, automation_id)


def switch(
    session: Session, agent_id: uuid.UUID, automation_id: uuid.UUID, *, on: bool, by: str, now: datetime
) -> AutomationView:
    """Switch it on or off; what is queued for one that is off is not looked at any more."""
    before = _held(session, agent_id, automation_id)
    if before.enabled == on:
        return before
    following = check(session, agent_id, before.draft).trigger.next_at(now) if on else None
    session.execute(
        text("UPDATE automations SET enabled = :on, next_at = :next, updated_at = :now WHERE automation_id = :id"),
        {"id": automation_id, "on": on, "next": following, "now": now},
    )
    _forget(session, automation_id)
    _audit(session, before, by, "enabled" if on else "disabled")
    return find(session, agent_id, automation_id)


def delete(session: Session, agent_id: uuid.UUID, automation_id: uuid.UUID, *, by: str) -> str:
    """Remove it; returns its name. What it proposed stays."""
    before = _held(session, agent_id, automation_id)
    session.execute(text("DELETE FROM automations WHERE automation_id = :id"), {"id": automation_id})
    _audit(session, before, by, "deleted", before=_facts(before.draft))
    return before.name


_JSON: Final = frozenset({"trigger", "conditions", "args"})
_WRITTEN: Final = (
    "name",
    "kind",
    "event_type",
    "device_id",
    "tag",
    "space_id",
    "stream",
    "trigger",
    "conditions",
    "tool",
    "args",
    "why",
    "cooldown_s",
)


def _values(checked: Checked) -> dict[str, Any]:
    draft, trigger = checked.draft, checked.trigger
    return {
        "name": draft.name,
        "kind": draft.kind,
        "event_type": trigger.event_type,
        "device_id": checked.device_id,
        "tag": trigger.tag,
        "space_id": checked.space_id,
        "stream": trigger.stream,
        "trigger": msgspec.json.encode(trigger.plain).decode(),
        "conditions": msgspec.json.encode(checked.conditions).decode(),
        "tool": draft.tool,
        "args": msgspec.json.encode(dict(draft.args)).decode(),
        "why": draft.why,
        "cooldown_s": draft.cooldown_s,
    }


def _facts(draft: Draft) -> dict[str, Any]:
    facts = {name: getattr(draft, name) for name in Draft.__slots__}
    return facts | {"conditions": list(draft.conditions), "args": dict(draft.args), "trigger": dict(draft.trigger)}


def _held(session: Session, agent_id: uuid.UUID, automation_id: uuid.UUID) -> AutomationView:
    session.execute(
        text("SELECT 1 FROM automations WHERE automation_id = :id AND agent_id = :agent FOR NO KEY UPDATE"),
        {"id": automation_id, "agent": agent_id},
    )
    return find(session, agent_id, automation_id)


def _forget(session: Session, automation_id: uuid.UUID) -> None:
    for table in ("automation_states", "automation_queue"):
        session.execute(text(f"DELETE FROM {table} WHERE automation_id = :id"), {"id": automation_id})


def _taken(error: IntegrityError, name: str) -> Exception:
    if "automations_name_idx" not in str(error.orig):
        return error
    return Conflict(f"there is an automation {name} already", field="name")


def _views(session: Session, condition: str, **values: Any) -> list[AutomationView]:
    columns = ", ".join(f"a.{name.strip()}" for name in _COLUMNS.split(","))
    rows = session.execute(
        text(
            f"SELECT {columns}, (SELECT count(*) FROM actions AS x WHERE x.agent_id = a.agent_id "
            "AND x.proposer = 'automation:' || a.automation_id AND x.created_at > now() - interval '7 days') AS fired "
            f"FROM automations AS a WHERE {condition}"
        ),
        values,
    )
    return [AutomationView(**row._mapping) for row in rows]  # noqa: SLF001  (SQLAlchemy's public name)


def _audit(session: Session, one: AutomationView, by: str, what: str, **facts: Any) -> None:
    happening.forget(session)
    audit.record(
        session,
        one.agent_id,
        by=by,
        action=f"automation.{what}",
        subject=one.name,
        subject_id=one.automation_id,
        **facts,
    )
