"""`/api/dead-letters`: messages that could not be stored or sent, for admins and their scripts."""

import base64
from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Query, Response
from pydantic import BaseModel, ConfigDict, Field
from sqlmodel import Session

from hub import dead_letters
from hub.access.callers import PersonCaller
from hub.dead_letters import DeadLetter, Filter, View
from hub.inbox import retrying
from web.api.access import Access, needs_person
from web.dependencies import Db, Now, WebSettings

router = APIRouter(prefix="/api/dead-letters", tags=["dead letters"])

Reader = Annotated[Access, Depends(needs_person("dead_letters:read"))]
Writer = Annotated[Access, Depends(needs_person("dead_letters:write"))]
Number = Annotated[int, Path(ge=1, le=2**63 - 1)]
Direction = Literal["in", "out"]


class DeadLetterBody(BaseModel):
    """A message that could not be stored (`in`) or that the broker did not take (`out`)."""

    dead_letter_id: int
    device_id: UUID | None
    direction: Direction
    topic: str = Field(examples=["marvain/v1/d/front-door/event/bell"])
    error: str = Field(examples=["CheckViolation: …"])
    received_at: datetime
    parked_at: datetime
    tries: int
    tried_at: datetime | None
    size: int = Field(description="bytes of the payload")


class WholeDeadLetter(DeadLetterBody):
    """The same with what it carries."""

    payload_base64: str


class DeadLetterPage(BaseModel):
    """Newest first; `next` is the `before` of the following page, null at the end; `total` counts all that match."""

    items: list[DeadLetterBody]
    next: int | None
    total: int


class DeadLetterQuestion(BaseModel):
    """Which ones; all together."""

    model_config = ConfigDict(extra="forbid")

    words: Annotated[str, Field(max_length=200)] = Field("", description="a part of the topic or of the error")
    direction: Direction | None = None
    before: Annotated[int, Field(ge=1, le=2**63 - 1)] | None = Field(None, description="`next` of the page before")
    limit: Annotated[int, Field(ge=1, le=dead_letters.PAGE_MAX)] = 50


class Discarding(BaseModel):
    """Which ones are to go, and how many the caller thinks there are."""

    model_config = ConfigDict(extra="forbid")

    words: Annotated[str, Field(max_length=200)] = ""
    direction: Direction | None = None
    up_to: Annotated[int, Field(ge=1, le=2**63 - 1)] = Field(description="the newest `dead_letter_id` that was seen")
    count: Annotated[int, Field(ge=0, le=2**53)] = Field(description="refused when there are others")


class Retried(BaseModel):
    """What came of it; with `ok` it is no dead letter any more."""

    ok: bool
    error: str | None


@router.get("")
def page(question: Annotated[DeadLetterQuestion, Query()], access: Reader, session: Db) -> DeadLetterPage:
    """A page of them, newest first."""
    matching = Filter(question.words, question.direction)
    found = dead_letters.page(session, _view(session, access), matching, before=question.before, limit=question.limit)
    return DeadLetterPage(items=[_body(one) for one in found.items], next=found.next, total=found.total)


@router.delete("", status_code=204)
def discard_matching(asked: Annotated[Discarding, Query()], access: Writer, session: Db) -> Response:
    """Discard all that match, if they are as many as `count`."""
    matching = Filter(asked.words, asked.direction)
    view = _view(session, access)
    dead_letters.discard_matching(session, view, matching, up_to=asked.up_to, count=asked.count, by=access.label)
    return Response(status_code=204)


@router.get("/{dead_letter_id}")
def show(dead_letter_id: Number, access: Reader, session: Db) -> WholeDeadLetter:
    """One of them, with what it carries."""
    letter = dead_letters.get(session, _view(session, access), dead_letter_id)
    return WholeDeadLetter(**_body(letter).model_dump(), payload_base64=base64.b64encode(letter.payload).decode())


@router.post("/{dead_letter_id}/retry")
def retry(dead_letter_id: Number, access: Writer, session: Db, settings: WebSettings, now: Now) -> Retried:
    """Try it again through the same pipeline."""
    view = _view(session, access)
    _, error = retrying.retry(session, view, dead_letter_id, settings.root, now, by=access.label)
    return Retried(ok=error is None, error=error)


@router.delete("/{dead_letter_id}", status_code=204)
def discard(dead_letter_id: Number, access: Writer, session: Db) -> Response:
    """Discard it for good."""
    dead_letters.discard(session, _view(session, access), dead_letter_id, by=access.label)
    return Response(status_code=204)


def _view(session: Session, access: Access) -> View:
    role = access.caller.roles.get(access.agent_id, "") if isinstance(access.caller, PersonCaller) else ""
    return dead_letters.view_of(session, access.agent_id, role)


def _body(letter: DeadLetter) -> DeadLetterBody:
    names = [name for name in DeadLetterBody.model_fields if name != "size"]
    return DeadLetterBody(**{name: getattr(letter, name) for name in names}, size=len(letter.payload))
