"""`/v1/events`: report one, read pages of them."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Query
from fastapi.responses import JSONResponse
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from hub import identity, reporting
from hub.errors import NotFound
from hub.operations import events
from hub.operations.events import EventBody, EventsBody, EventsQuestion
from hub_protocol.messages import MAX_SAFE_INTEGER
from hub_protocol.topics import LEVEL_PATTERN
from web.api.access import Access, needs
from web.api.once import Once
from web.dependencies import Db, Now

router = APIRouter(tags=["events"])

Name = Annotated[str, Field(pattern=rf"^{LEVEL_PATTERN}$")]
Reader = Annotated[Access, Depends(needs("events:read"))]


class NewEvent(BaseModel):
    """An event to be stored."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"type": "door_open", "payload": {"angle": 12}, "space": "Hall"}]},
    )

    type: Name = Field(description="what happened, as one level of a topic")
    payload: dict[str, Any] = Field({}, description="a JSON object, at most 60 KiB")
    id: Name | None = Field(None, description="made by the sender (UUIDv7 or ULID): the same id is stored once")
    space: Annotated[str, Field(max_length=120)] | None = Field(None, description="id or name; else the device's own")
    at: AwareDatetime | None = Field(None, description="when it happened, by the sender's clock")
    epoch: Annotated[int, Field(ge=1, le=MAX_SAFE_INTEGER)] | None = Field(
        None, description="of a device that keeps one: refused when it has gone back"
    )
    seq: Annotated[int, Field(ge=0, le=MAX_SAFE_INTEGER)] | None = None


@router.post(
    "/v1/events",
    status_code=201,
    response_model=EventBody,
    responses={200: {"model": EventBody, "description": "It is stored already"}},
)
def report(
    body: NewEvent, access: Annotated[Access, Depends(needs("events:write"))], session: Db, now: Now, once: Once
) -> JSONResponse:
    """Report an event; a device's is also a sign of life."""
    reported: list[reporting.Reported] = []

    def store() -> EventBody:
        reported.append(
            reporting.event(
                session,
                access.caller,
                access.agent_id,
                now,
                type=body.type,
                payload=body.payload,
                message_id=body.id,
                space=body.space,
                happened_at=body.at,
                epoch=body.epoch,
                seq=body.seq,
            )
        )
        return events.body(reported[0].event)

    answer = once(store)
    if reported and not reported[0].is_new:
        answer.status_code = 200
    return answer


@router.get("/v1/events")
def page(question: Annotated[EventsQuestion, Query()], access: Reader, session: Db) -> EventsBody:
    """A page of the agent's events, newest first."""
    return events.answer(session, access.agent_id, question)


@router.get("/v1/spaces/{space_id}/events")
def page_of_space(
    space_id: UUID, question: Annotated[EventsQuestion, Query()], access: Reader, session: Db
) -> EventsBody:
    """A page of the events in one space, newest first."""
    space = identity.find_space(session, access.agent_id, str(space_id))
    if question.space not in (None, str(space.space_id), space.name):
        raise NotFound("the path names another space", field="space")
    return events.answer(session, access.agent_id, question.model_copy(update={"space": str(space.space_id)}))
