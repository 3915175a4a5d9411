"""`propose`: something is to be done; people or a policy decide."""

import uuid
from datetime import datetime
from typing import Annotated, Any

from pydantic import Field
from sqlmodel import Session

from hub import identity
from hub.access.callers import Caller
from hub.actions import proposing
from hub.actions.approval_rules import EXPIRES_MAX_S
from hub.actions.proposing import WHY_MAX, Proposal, Proposed, Proposer
from hub.idempotency import KEY_MAX
from hub.operations import actions
from hub.operations.actions import WholeActionBody
from hub.operations.questions import Question


class ProposeQuestion(Question):
    """What is to be done, and why."""

    tool: Annotated[str, Field(max_length=63, examples=["send_message"])]
    args: dict[str, Any] = Field({}, description="what the tool takes: GET /v1/tools", examples=[{"text": "Dinner!"}])
    why: Annotated[str, Field(max_length=WHY_MAX)] = ""
    cause_event_id: uuid.UUID | None = Field(None, description="the event that is the reason")
    space: Annotated[str, Field(max_length=120, description="a space's id or name")] | None = None
    key: Annotated[str, Field(min_length=1, max_length=KEY_MAX)] | None = Field(
        None, description="proposed again with it, it is proposed once; with another action it is a conflict"
    )
    ttl_s: Annotated[float, Field(gt=0, le=EXPIRES_MAX_S)] | None = Field(None, description="how long it may wait")


def propose(
    session: Session, caller: Caller, agent_id: uuid.UUID, question: ProposeQuestion, now: datetime, key: str | None
) -> Proposed:
    """Store it in the caller's name; `key` counts where the question has none. Raises as `proposing.propose` does."""
    space_id = identity.find_space(session, agent_id, question.space).space_id if question.space else None
    proposal = Proposal(
        question.tool,
        question.args,
        question.why,
        question.cause_event_id,
        space_id,
        question.key or key,
        question.ttl_s,
    )
    return proposing.propose(session, agent_id, proposal, proposer=Proposer(caller.name, caller.label), now=now)


def answer(
    session: Session, caller: Caller, agent_id: uuid.UUID, question: ProposeQuestion, now: datetime, key: str
) -> WholeActionBody:
    """The same as it is told; over MQTT the request's id is the key, so that a message that comes twice is one."""
    return actions.whole(propose(session, caller, agent_id, question, now, f"mqtt:{key}").action)
