"""`actions`: a page of what an agent wants to do and what became of it, newest first."""

import uuid
from datetime import datetime
from typing import Annotated, Any

from pydantic import Field
from sqlmodel import Session

from hub import identity
from hub.actions import records
from hub.actions.records import ActionView, Filter
from hub.actions.states import Status
from hub.operations.questions import PAGE_MAX, Body, Question, read_cursor, write_cursor


class ActionsQuestion(Question):
    """Which actions; all filters together."""

    before: Annotated[str, Field(max_length=80, description="`next` of the page before")] | None = None
    status: Status | None = None
    tool: Annotated[str, Field(max_length=63, examples=["device_command"])] | None = None
    space: Annotated[str, Field(max_length=120, description="a space's id or name")] | None = None
    device: uuid.UUID | None = Field(None, description="the id of the device that it concerns")
    limit: Annotated[int, Field(ge=1, le=PAGE_MAX, description="actions on a page")] = 50


class ActionBody(Body):
    """One action."""

    action_id: uuid.UUID
    tool: str = Field(examples=["device_command"])
    args: dict[str, Any] = Field(examples=[{"device": "porch", "verb": "ping"}])
    scopes: list[str] = Field(description="what a policy must cover", examples=[["devices:command"]])
    status: Status
    risk: str = Field(examples=["low"])
    space_id: uuid.UUID | None
    device_id: uuid.UUID | None
    proposed_by: str
    proposer_kind: str = Field(examples=["device"])
    why: str
    cause_event_id: uuid.UUID | None
    created_at: datetime
    updated_at: datetime
    expires_at: datetime
    digest: str = Field(description="stands for exactly this action; who approves it names it")
    revision: int
    approvals: int = Field(description="people who have said yes to it as it is now")
    approvals_needed: int
    decided_by: str | None
    decision_reason: str | None
    policy: Any = Field(None, description="what a policy decided, and why")
    approved_at: datetime | None
    executed_at: datetime | None
    completed_at: datetime | None
    result: Any = None
    error: str | None


class ActionsBody(Body):
    """A page of actions, newest first; `next` is the `before` of the following page, null at the end."""

    items: list[ActionBody]
    next: str | None


class StepBody(Body):
    """A line of the timeline: a status that was reached, or what happened within one."""

    step: str = Field(examples=["approved"])
    witness: str
    note: str
    detail: Any = None
    at: datetime


class ApprovalBody(Body):
    """A yes; one that does not count was given to other arguments."""

    label: str
    reason: str
    at: datetime
    counts: bool


class WholeActionBody(ActionBody):
    """An action with its timeline and with who said yes."""

    steps: list[StepBody]
    said_yes: list[ApprovalBody]


def answer(session: Session, agent_id: uuid.UUID, question: ActionsQuestion) -> ActionsBody:
    """The page; raises `NotFound` for a space that the agent does not have, `Invalid` for a cursor."""
    space_id = identity.find_space(session, agent_id, question.space).space_id if question.space else None
    found = records.page(
        session,
        agent_id,
        Filter(question.status, question.tool, question.device, space_id),
        before=read_cursor(question.before) if question.before else None,
        limit=question.limit,
    )
    return ActionsBody(
        items=[body(one) for one in found.items], next=write_cursor(*found.next) if found.next is not None else None
    )


def body(one: ActionView) -> ActionBody:
    """An action as it is told."""
    return ActionBody(**_facts(one, ActionBody))


def whole(one: ActionView) -> WholeActionBody:
    """The same with its timeline."""
    return WholeActionBody(
        **_facts(one, ActionBody),
        steps=[StepBody(**_facts(step, StepBody)) for step in one.steps],
        said_yes=[ApprovalBody(**_facts(yes, ApprovalBody)) for yes in one.said_yes],
    )


def _facts(one: object, kind: type[Body]) -> dict[str, Any]:
    return {name: getattr(one, name) for name in kind.model_fields}
