"""`/api/spaces`: the agent's places."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from hub import spaces
from hub.spaces import NAME_MAX, SpaceView
from web.api.access import Access, needs_person
from web.api.once import Once
from web.dependencies import Db

router = APIRouter(prefix="/api/spaces", tags=["spaces"])

Reader = Annotated[Access, Depends(needs_person("spaces:read"))]
Writer = Annotated[Access, Depends(needs_person("spaces:write"))]
TypedName = Annotated[str, Query(max_length=400, description="the space's name; needed when it has events")]
SpaceName = Annotated[str, Field(min_length=1, max_length=NAME_MAX, examples=["Hall"])]


class SpaceBody(BaseModel):
    """A space and what goes on there."""

    space_id: UUID
    name: str = Field(examples=["Hall"])
    privacy_mode: bool = Field(description="nothing that happens there is stored")
    revision: int = Field(description="rises with every change; a change says which one it was made from")
    created_at: datetime
    devices: int
    online: int
    events_today: int = Field(description="in the last 24 hours")
    last_event_at: datetime | None


class SpaceList(BaseModel):
    """The agent's spaces by name."""

    items: list[SpaceBody]


class NewSpace(BaseModel):
    """A space to be made."""

    model_config = ConfigDict(extra="forbid")

    name: SpaceName


class SpaceChange(BaseModel):
    """What to change; what is left out stays."""

    model_config = ConfigDict(extra="forbid")

    name: SpaceName | None = None
    privacy_mode: bool | None = None
    revision: int | None = Field(None, ge=1, description="refused when it is no longer at this one")


@router.get("")
def overview(access: Reader, session: Db) -> SpaceList:
    """All spaces."""
    return SpaceList(items=[_body(one) for one in spaces.overview(session, access.agent_id)])


@router.post("", status_code=201, response_model=SpaceBody)
def create(new: NewSpace, access: Writer, session: Db, once: Once) -> JSONResponse:
    """A further space."""

    def make() -> SpaceBody:
        space = spaces.create(session, access.agent_id, new.name, by=access.label)
        return _body(spaces.view(session, access.agent_id, space.space_id))

    return once(make)


@router.get("/{space_id}")
def show(space_id: UUID, access: Reader, session: Db) -> SpaceBody:
    """One space."""
    return _body(spaces.view(session, access.agent_id, space_id))


@router.patch("/{space_id}")
def change(space_id: UUID, asked: SpaceChange, access: Writer, session: Db) -> SpaceBody:
    """Rename it, or switch its privacy."""
    spaces.change(
        session,
        access.agent_id,
        space_id,
        name=asked.name,
        privacy_mode=asked.privacy_mode,
        revision=asked.revision,
        by=access.label,
    )
    return _body(spaces.view(session, access.agent_id, space_id))


@router.delete("/{space_id}", status_code=204)
def delete(space_id: UUID, access: Writer, session: Db, name: TypedName = "") -> Response:
    """Remove it; its devices are then in no space, its events stay."""
    spaces.delete(session, access.agent_id, space_id, name, by=access.label)
    return Response(status_code=204)


def _body(view: SpaceView) -> SpaceBody:
    return SpaceBody(**{name: getattr(view, name) for name in SpaceBody.model_fields})
