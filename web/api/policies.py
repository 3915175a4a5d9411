"""`/api/policies`: what is approved without asking."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from hub.policies import records, rehearsal
from hub.policies.records import Draft, PolicyView
from web.api.access import Access, needs_person
from web.api.once import Once
from web.dependencies import Db, Now

router = APIRouter(prefix="/api/policies", tags=["policies"])

Reader = Annotated[Access, Depends(needs_person("actions:read"))]
Writer = Annotated[Access, Depends(needs_person("policies:write"))]
Scope = Annotated[str, Field(max_length=80)]


class NewPolicy(BaseModel):
    """What is approved: everything that is said here must hold, and what is not said of an argument refuses it."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"name": "Messages", "tool": "send_message", "scopes": ["messages:send"], "other_args": True}]
        },
    )

    name: Annotated[str, Field(max_length=records.NAME_MAX)]
    tool: Annotated[str, Field(max_length=63)]
    scopes: Annotated[list[Scope], Field(max_length=20)] = Field(description="all that an action may need")
    device: Annotated[str, Field(max_length=63)] | None = None
    tag: Annotated[str, Field(max_length=63)] | None = None
    conditions: Annotated[list[dict[str, Any]], Field(max_length=20)] = []
    other_args: bool = Field(False, description="arguments that no condition names may be anything")
    time_window: dict[str, Any] | None = Field(None, examples=[{"days": ["mon"], "from": "7:00", "to": "9:00"}])
    rate_count: Annotated[int, Field(ge=1, le=records.RATE_MAX)] | None = None
    rate_s: Annotated[float, Field(ge=1, le=records.RATE_MAX_S)] | None = None
    risk_max: Literal["low", "medium", "high"] = "low"
    proposers: list[Literal["person", "device", "integration", "policy", "system"]] = []

    def draft(self) -> Draft:
        """As the domain takes it."""
        facts = self.model_dump(include=set(NewPolicy.model_fields))
        several = {name: tuple(facts[name]) for name in ("scopes", "conditions", "proposers")}
        return Draft(**(facts | several))


class ChangedPolicy(NewPolicy):
    """The whole of it, and the revision that it was made from."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"name": "Messages", "tool": "send_message", "scopes": ["messages:send"], "revision": 1}]
        },
    )

    revision: int = Field(ge=1)


class SwitchPolicy(BaseModel):
    """On or off, in the form that was looked at."""

    model_config = ConfigDict(extra="forbid")

    enabled: bool
    revision: int = Field(ge=1)


class PolicyBody(BaseModel):
    """A policy; `approved` counts the last seven days."""

    policy_id: UUID
    name: str
    enabled: bool
    revision: int
    tool: str
    scopes: list[str]
    device: str | None
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
    approved: int
    approved_last: datetime | None


class Policies(BaseModel):
    """All of them, in the order in which they are asked."""

    items: list[PolicyBody]


class RehearsePolicy(NewPolicy):
    """A draft, and how many days to look back."""

    days: Annotated[int, Field(ge=1, le=rehearsal.DAYS_MAX)] = 30


class PolicyRehearsal(BaseModel):
    """What it would have approved of the last days, and what people had made of the same proposals."""

    days: int
    looked_at: int
    is_cut: bool
    approved: int
    approved_by_people: int
    rejected_by_people: list[UUID]
    held_back: int
    why_not: dict[str, int]


@router.get("")
def listed(access: Reader, session: Db) -> Policies:
    """All policies."""
    return Policies(items=[_body(one) for one in records.listed(session, access.agent_id)])


@router.post("", status_code=201, response_model=PolicyBody)
def create(new: NewPolicy, access: Writer, session: Db, now: Now, once: Once) -> JSONResponse:
    """A new one, switched off."""
    return once(lambda: _body(records.create(session, access.agent_id, new.draft(), by=access.label, now=now)))


@router.post("/rehearse")
def rehearse(asked: RehearsePolicy, access: Reader, session: Db, now: Now) -> PolicyRehearsal:
    """What a draft would have approved; nothing is kept."""
    told = rehearsal.rehearse(session, access.agent_id, asked.draft(), asked.days, now)
    facts = {name: getattr(told, name) for name in PolicyRehearsal.model_fields if name != "rejected_by_people"}
    return PolicyRehearsal(**facts, rejected_by_people=[one.action_id for one in told.rejected_by_people])


@router.get("/{policy_id}")
def show(policy_id: UUID, access: Reader, session: Db) -> PolicyBody:
    """One of them."""
    return _body(records.find(session, access.agent_id, policy_id))


@router.put("/{policy_id}")
def edit(policy_id: UUID, asked: ChangedPolicy, access: Writer, session: Db, now: Now) -> PolicyBody:
    """Give it another form; it is off until it is switched on anew."""
    made = records.edit(
        session, access.agent_id, policy_id, asked.draft(), revision=asked.revision, by=access.label, now=now
    )
    return _body(made)


@router.patch("/{policy_id}")
def switch(policy_id: UUID, asked: SwitchPolicy, access: Writer, session: Db, now: Now) -> PolicyBody:
    """Switch it on or off."""
    found = records.switch(
        session, access.agent_id, policy_id, on=asked.enabled, revision=asked.revision, by=access.label, now=now
    )
    return _body(found)


@router.delete("/{policy_id}", status_code=204)
def delete(policy_id: UUID, access: Writer, session: Db) -> Response:
    """Remove it; what it approved stays approved."""
    records.delete(session, access.agent_id, policy_id, by=access.label)
    return Response(status_code=204)


def _body(one: PolicyView) -> PolicyBody:
    return PolicyBody(**{name: getattr(one, name) for name in PolicyBody.model_fields})
