"""`events`: a page of an agent's events, newest first."""

import uuid
from datetime import datetime
from typing import Annotated, Any

from pydantic import Field
from sqlmodel import Session

from hub import events, identity
from hub.operations.questions import PAGE_MAX, Body, Question

Cursor = Annotated[str, Field(max_length=20, pattern=r"^[0-9]+$", description="a number from an earlier page")]


class EventsQuestion(Question):
    """Which events; all filters together."""

    before: Cursor | None = Field(None, description="`next` of the page before: older events follow")
    after: Cursor | None = Field(None, description="an `event_no`: only what arrived later")
    space: Annotated[str, Field(max_length=120, description="a space's id or name")] | None = None
    device: uuid.UUID | None = Field(None, description="a device's id")
    type: Annotated[str, Field(max_length=63, description="the event's type", examples=["door_open"])] | None = None
    limit: Annotated[int, Field(ge=1, le=PAGE_MAX, description="events on a page")] = 50


class EventBody(Body):
    """One event."""

    event_id: uuid.UUID
    event_no: int = Field(description="the order of arrival, rising", examples=[4711])
    type: str = Field(examples=["door_open"])
    payload: dict[str, Any] = Field(examples=[{"angle": 12}])
    device_id: uuid.UUID | None = Field(description="null when a person reported it, or the device is gone")
    handle: str | None = Field(examples=["front-door"])
    space_id: uuid.UUID | None
    space: str | None = Field(description="the space's name", examples=["Hall"])
    reported_by: str | None = Field(description="the person who reported it", examples=["Ann"])
    happened_at: datetime | None = Field(description="by the sender's clock, where it said so")
    received_at: datetime


class EventsBody(Body):
    """A page of events, newest first; `next` is the `before` of the following page, null at the end."""

    items: list[EventBody]
    next: str | None = Field(examples=["4662"])


def answer(session: Session, agent_id: uuid.UUID, question: EventsQuestion) -> EventsBody:
    """The page; raises `NotFound` for a space that the agent does not have."""
    space_id = identity.find_space(session, agent_id, question.space).space_id if question.space else None
    page = events.page(
        session,
        agent_id,
        before=question.before,
        after=question.after,
        space_id=space_id,
        device_id=question.device,
        type=question.type,
        limit=question.limit,
    )
    return EventsBody(items=[body(one) for one in page.items], next=page.next)


def body(one: events.EventView) -> EventBody:
    """An event as it is told."""
    return EventBody(
        event_id=one.event_id,
        event_no=one.event_no,
        type=one.type,
        payload=one.payload,
        device_id=one.device_id,
        handle=one.handle,
        space_id=one.space_id,
        space=one.space_name,
        reported_by=one.user_name,
        happened_at=one.happened_at,
        received_at=one.received_at,
    )
