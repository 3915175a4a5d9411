"""`/api/automations`: rules by which what happens leads to proposals."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from hub.automations import records, rehearsal
from hub.automations.records import AutomationView, Draft
from web.api.access import Access, needs_person
from web.api.once import Once
from web.dependencies import Db, Now

router = APIRouter(prefix="/api/automations", tags=["automations"])

Reader = Annotated[Access, Depends(needs_person("actions:read"))]
Writer = Annotated[Access, Depends(needs_person("automations:write"))]


class NewAutomation(BaseModel):
    """When (kind, trigger), if (conditions), then (tool, args); texts may hold places as in `{{event.payload.x}}`."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "name": "Door at night",
                    "kind": "event",
                    "trigger": {"type": "door_open"},
                    "tool": "send_message",
                    "args": {"text": "{{device.name}} is open"},
                }
            ]
        },
    )

    name: Annotated[str, Field(max_length=records.NAME_MAX)]
    kind: Literal["event", "presence", "telemetry", "time"]
    trigger: dict[str, Any]
    conditions: Annotated[list[dict[str, Any]], Field(max_length=20)] = []
    tool: Annotated[str, Field(max_length=63)]
    args: dict[str, Any] = {}
    why: Annotated[str, Field(max_length=records.WHY_MAX)] = ""
    cooldown_s: Annotated[float, Field(ge=0, le=records.COOLDOWN_MAX_S)] = 0.0

    def draft(self) -> Draft:
        """As the domain takes it."""
        facts = self.model_dump(include=set(NewAutomation.model_fields))
        return Draft(**(facts | {"conditions": tuple(self.conditions)}))


class ChangedAutomation(NewAutomation):
    """The whole of it, and the revision that it was made from."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "name": "Door",
                    "kind": "event",
                    "trigger": {"type": "door_open"},
                    "tool": "send_message",
                    "args": {"text": "open"},
                    "revision": 1,
                }
            ]
        },
    )

    revision: int = Field(ge=1)


class Switch(BaseModel):
    """On or off."""

    model_config = ConfigDict(extra="forbid")

    enabled: bool


class AutomationBody(BaseModel):
    """An automation; `fired` counts what it proposed in the last seven days."""

    automation_id: UUID
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
    fired: int


class Automations(BaseModel):
    """All of them."""

    items: list[AutomationBody]


class FiringBody(BaseModel):
    """When it would have proposed, and what; or what would have been wrong."""

    at: datetime
    subject: str
    args: dict[str, Any] | None
    error: str


class RehearsalBody(BaseModel):
    """What it would have done in the last days; `coming` for those that go by the clock."""

    days: int
    looked_at: int
    is_cut: bool
    fired: int
    wrong: int
    shown: list[FiringBody]
    coming: list[datetime]


class Rehearse(NewAutomation):
    """A draft, and how many days to look back."""

    days: Annotated[int, Field(ge=1, le=rehearsal.DAYS_MAX)] = 7


@router.get("")
def listed(access: Reader, session: Db) -> Automations:
    """All automations."""
    return Automations(items=[_body(one) for one in records.listed(session, access.agent_id)])


@router.post("", status_code=201, response_model=AutomationBody)
def create(new: NewAutomation, access: Writer, session: Db, now: Now, once: Once) -> JSONResponse:
    """A new one, switched off."""
    return once(lambda: _body(records.create(session, access.agent_id, new.draft(), by=access.label, now=now)))


@router.post("/rehearse")
def rehearse(asked: Rehearse, access: Reader, session: Db, now: Now) -> RehearsalBody:
    """What a draft would have done; nothing is kept."""
    told = rehearsal.rehearse(session, access.agent_id, asked.draft(), asked.days, now)
    shown = [FiringBody(at=one.at, subject=one.subject, args=one.args, error=one.error) for one in told.shown]
    facts = {name: getattr(told, name) for name in RehearsalBody.model_fields if name != "shown"}
    return RehearsalBody(**facts, shown=shown)


@router.get("/{automation_id}")
def show(automation_id: UUID, access: Reader, session: Db) -> AutomationBody:
    """One of them."""
    return _body(records.find(session, access.agent_id, automation_id))


@router.put("/{automation_id}")
def edit(automation_id: UUID, asked: ChangedAutomation, access: Writer, session: Db, now: Now) -> AutomationBody:
    """Give it another form."""
    draft = asked.draft()
    made = records.edit(
        session, access.agent_id, automation_id, draft, revision=asked.revision, by=access.label, now=now
    )
    return _body(made)


@router.patch("/{automation_id}")
def switch(automation_id: UUID, asked: Switch, access: Writer, session: Db, now: Now) -> AutomationBody:
    """Switch it on or off."""
    return _body(records.switch(session, access.agent_id, automation_id, on=asked.enabled, by=access.label, now=now))


@router.delete("/{automation_id}", status_code=204)
def delete(automation_id: UUID, access: Writer, session: Db) -> Response:
    """Remove it; what it proposed stays."""
    records.delete(session, access.agent_id, automation_id, by=access.label)
    return Response(status_code=204)


def _body(one: AutomationView) -> AutomationBody:
    return AutomationBody(**{name: getattr(one, name) for name in AutomationBody.model_fields})
