"""`/v1/actions`: what the agent wants to do and what became of it, and proposals; `/api/actions`: decisions."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Response
from pydantic import BaseModel, ConfigDict, Field

from hub.access.callers import PersonCaller
from hub.actions import deciding, records
from hub.actions.deciding import REASON_MAX, Decider
from hub.operations import actions, propose
from hub.operations.actions import ActionsBody, ActionsQuestion, WholeActionBody
from hub.operations.propose import ProposeQuestion
from web.api.access import Access, needs, needs_person
from web.api.once import Once
from web.dependencies import Db, Now

router = APIRouter(tags=["actions"])

Reader = Annotated[Access, Depends(needs("actions:read"))]
Approver = Annotated[Access, Depends(needs_person("actions:approve"))]
Reason = Annotated[str, Field(max_length=REASON_MAX)]


class Yes(BaseModel):
    """A yes to exactly one action as it is now."""

    model_config = ConfigDict(extra="forbid")

    digest: Annotated[str, Field(max_length=64)] = Field(description="of the action that was looked at")
    reason: Reason = ""


class No(BaseModel):
    """A no, or a never mind."""

    model_config = ConfigDict(extra="forbid")

    reason: Reason = ""


class Edit(BaseModel):
    """Other arguments for a proposal; who said yes to the old ones has to say so again."""

    model_config = ConfigDict(extra="forbid")

    args: dict[str, Any]
    revision: int = Field(ge=1, description="the one that was looked at")


@router.get("/v1/actions")
def page(question: Annotated[ActionsQuestion, Query()], access: Reader, session: Db) -> ActionsBody:
    """A page of actions, newest first."""
    return actions.answer(session, access.agent_id, question)


@router.post("/v1/actions", status_code=201, response_model=WholeActionBody)
def make(
    question: ProposeQuestion,
    access: Annotated[Access, Depends(needs("actions:propose"))],
    session: Db,
    now: Now,
    once: Once,
) -> Response:
    """Propose an action; people or a policy decide. 201 also when it had been proposed with the same key."""

    def start() -> WholeActionBody:
        proposed = propose.propose(session, access.caller, access.agent_id, question, now, None)
        return actions.whole(proposed.action)

    return once(start)


@router.get("/v1/actions/{action_id}")
def show(action_id: UUID, access: Reader, session: Db) -> WholeActionBody:
    """One action with its timeline and with who said yes."""
    return actions.whole(records.find(session, access.agent_id, action_id))


@router.post("/api/actions/{action_id}/approve")
def approve(action_id: UUID, asked: Yes, access: Approver, session: Db, now: Now) -> WholeActionBody:
    """Say yes to what has this digest; it is done when enough people have."""
    by = decider(access)
    done = deciding.approve(
        session, access.agent_id, action_id, by=by, digest=asked.digest, reason=asked.reason, now=now
    )
    return actions.whole(done)


@router.post("/api/actions/{action_id}/reject")
def reject(action_id: UUID, asked: No, access: Approver, session: Db, now: Now) -> WholeActionBody:
    """Say no; one is enough."""
    done = deciding.reject(session, access.agent_id, action_id, by=decider(access), reason=asked.reason, now=now)
    return actions.whole(done)


@router.post("/api/actions/{action_id}/cancel")
def cancel(
    action_id: UUID,
    asked: No,
    access: Annotated[Access, Depends(needs_person("actions:propose"))],
    session: Db,
    now: Now,
) -> WholeActionBody:
    """Take back what has not begun: one's own, or what one may decide on."""
    done = deciding.cancel(session, access.agent_id, action_id, by=decider(access), reason=asked.reason, now=now)
    return actions.whole(done)


@router.post("/api/actions/{action_id}/edit")
def edit(action_id: UUID, asked: Edit, access: Approver, session: Db, now: Now) -> WholeActionBody:
    """Give a proposal other arguments."""
    done = deciding.edit(
        session, access.agent_id, action_id, asked.args, by=decider(access), revision=asked.revision, now=now
    )
    return actions.whole(done)


def decider(access: Access) -> Decider:
    """The person who calls, as one who decides."""
    caller = access.caller
    if not isinstance(caller, PersonCaller):
        raise TypeError("the route lets through people alone")
    return Decider(caller.name, caller.label, caller.roles.get(access.agent_id, ""), caller.user_id)
