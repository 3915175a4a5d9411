"""`GET /v1/me`: who the bearer of this token is, and what it may do."""

from datetime import datetime
from typing import Literal
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel, Field
from sqlmodel import Session

from hub import device_views, identity
from hub.access.callers import DeviceCaller, PersonCaller
from hub.access.scopes import expand
from hub.tables import Agent
from web.api.caller import CurrentCaller
from web.dependencies import Db

router = APIRouter(tags=["me"])


class DeviceMe(BaseModel):
    """A device, as it is known here."""

    kind: Literal["device"] = "device"
    device_id: UUID
    handle: str = Field(examples=["front-door"])
    name: str = Field(examples=["Front door"])
    agent_id: UUID
    agent: str = Field(examples=["Home"])
    space_id: UUID | None
    space: str | None = Field(examples=["Hall"])
    scopes: list[str] = Field(description="as they were given", examples=[["events:*", "presence:write"]])
    may: list[str] = Field(description="what they amount to", examples=[["events:read", "events:write"]])
    presence: Literal["online", "suspect", "offline", "sleeping", "unknown"]
    token_created_at: datetime | None


class AgentOfMine(BaseModel):
    """An agent that the person belongs to."""

    agent_id: UUID
    name: str = Field(examples=["Home"])
    role: Literal["guest", "member", "admin", "owner"]
    may: list[str] = Field(examples=[["devices:read", "events:read"]])


class TokenOfMine(BaseModel):
    """The personal token that was used."""

    token_id: UUID
    name: str = Field(examples=["backup script"])
    scopes: list[str] = Field(examples=[["devices:read"]])
    expires_at: datetime


class PersonMe(BaseModel):
    """A person, with the agents they belong to."""

    kind: Literal["person"] = "person"
    user_id: UUID
    email: str = Field(examples=["ann@example.org"])
    display_name: str = Field(examples=["Ann"])
    agents: list[AgentOfMine]
    token: TokenOfMine | None = Field(description="null when signed in with a browser")


@router.get("/v1/me")
def me(caller: CurrentCaller, session: Db) -> DeviceMe | PersonMe:
    """Who I am."""
    if isinstance(caller, DeviceCaller):
        return _device(session, caller)
    return _person(session, caller)


def _device(session: Session, caller: DeviceCaller) -> DeviceMe:
    view = device_views.view(session, caller.agent_id, caller.device_id)
    return DeviceMe(
        device_id=view.device_id,
        handle=view.handle,
        name=view.name,
        agent_id=view.agent_id,
        agent=session.get_one(Agent, view.agent_id).name,
        space_id=view.space_id,
        space=view.space_name,
        scopes=view.scopes,
        may=sorted(expand(view.scopes)),
        presence=view.presence,
        token_created_at=view.token_created_at,
    )


def _person(session: Session, caller: PersonCaller) -> PersonMe:
    agents = [
        AgentOfMine(agent_id=agent.agent_id, name=agent.name, role=role, may=sorted(caller.may(agent.agent_id)))
        for agent, role in identity.memberships_of(session, caller.user_id)
    ]
    token = caller.token and TokenOfMine(
        token_id=caller.token.token_id,
        name=caller.token.token_name,
        scopes=list(caller.token.scopes),
        expires_at=caller.token.expires_at,
    )
    return PersonMe(
        user_id=caller.user_id, email=caller.email, display_name=caller.display_name, agents=agents, token=token
    )
