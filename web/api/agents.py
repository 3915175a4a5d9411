"""`/api/agents`: the agents that a person belongs to."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Query, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field
from sqlmodel import Session

from hub import agent_deletion, agents
from hub.access.callers import PersonCaller
from hub.agents import ABOUT_MAX, NAME_MAX, AgentView
from hub.errors import Forbidden
from web.api.caller import CurrentPerson
from web.api.once import Once
from web.dependencies import Db

router = APIRouter(prefix="/api/agents", tags=["agents"])

AgentName = Annotated[str, Field(min_length=1, max_length=NAME_MAX, examples=["Summer house"])]
TypedName = Annotated[str, Query(max_length=400, description="the agent's name, to show that it is meant")]
About = Annotated[str, Field(max_length=ABOUT_MAX, examples=["The house by the lake"])]


class AgentBody(BaseModel):
    """An agent and what the caller is to it."""

    agent_id: UUID
    name: str = Field(examples=["Home"])
    about: str
    role: Literal["guest", "member", "admin", "owner"]
    revision: int = Field(description="rises with every change; a change says which one it was made from")
    disabled: bool
    created_at: datetime
    devices: int
    spaces: int
    members: int


class AgentList(BaseModel):
    """One's agents; those that are switched off too."""

    items: list[AgentBody]


class NewAgent(BaseModel):
    """An agent to be made."""

    model_config = ConfigDict(extra="forbid")

    name: AgentName
    about: About = ""


class AgentChange(BaseModel):
    """What to change; what is left out stays."""

    model_config = ConfigDict(extra="forbid")

    name: AgentName | None = None
    about: About | None = None
    revision: int | None = Field(None, ge=1, description="refused when it is no longer at this one")
    disabled: bool | None = Field(None, description="the owner alone: switch it off, or on again")


@router.get("")
def overview(caller: CurrentPerson, session: Db) -> AgentList:
    """All agents that one belongs to."""
    return AgentList(items=[_body(one) for one in agents.of_user(session, caller.user_id) if one.deleted_at is None])


@router.post("", status_code=201, response_model=AgentBody)
def create(new: NewAgent, caller: CurrentPerson, session: Db, once: Once) -> JSONResponse:
    """Make an agent, of which the caller is the owner."""
    _whole(caller)

    def make() -> AgentBody:
        agent = agents.create(session, caller.user_id, new.name, new.about, by=caller.label)
        return _body(agents.view(session, caller.user_id, agent.agent_id))

    return once(make)


@router.get("/{own_id}")
def show(own_id: UUID, caller: CurrentPerson, session: Db) -> AgentBody:
    """One of them."""
    return _body(agents.view(session, caller.user_id, own_id))


@router.patch("/{own_id}")
def change(own_id: UUID, asked: AgentChange, caller: CurrentPerson, session: Db) -> AgentBody:
    """Rename and describe it, switch it off or on."""
    view = mine(session, caller, own_id, "admin" if asked.disabled is None else "owner")
    if asked.name is not None or asked.about is not None:
        agents.change(
            session,
            own_id,
            view.name if asked.name is None else asked.name,
            view.about if asked.about is None else asked.about,
            revision=asked.revision or view.revision,
            by=caller.label,
        )
    if asked.disabled is not None:
        agents.set_disabled(session, own_id, disabled=asked.disabled, by=caller.label)
    return _body(agents.view(session, caller.user_id, own_id))


@router.delete("/{own_id}", status_code=204)
def delete(own_id: UUID, name: TypedName, caller: CurrentPerson, session: Db) -> Response:
    """Delete it for good: gone at once, and removed in the background."""
    mine(session, caller, own_id, "owner")
    agent_deletion.delete(session, own_id, name, by=caller.label)
    return Response(status_code=204)


def mine(session: Session, caller: PersonCaller, agent_id: UUID, role: str) -> AgentView:
    """The agent, also when it is switched off; its admins or its owner alone, and no token that is narrower."""
    view = agents.view(session, caller.user_id, agent_id)
    if view.role != "owner" and (role == "owner" or view.role != "admin"):
        raise Forbidden(f"this takes the role {role} in this agent; yours is {view.role}")
    _whole(caller)
    return view


def _whole(caller: PersonCaller) -> None:
    if caller.token is not None and not {"*", "agents:*", "agents:write"} & set(caller.token.scopes):
        raise Forbidden("this token lacks the permission agents:write")


def _body(view: AgentView) -> AgentBody:
    return AgentBody(**{name: getattr(view, name) for name in AgentBody.model_fields})
