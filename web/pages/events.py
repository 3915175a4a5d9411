"""What satellites reported, newest first: filtered, paged, and the rows that open pages fetch for what is new."""

import uuid
from dataclasses import dataclass
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request, Response
from sqlmodel import Session

from hub import device_views, devices, events, feed, identity
from hub.errors import NotFound
from web.dependencies import AgentContext, CurrentAgent, Db
from web.pages import payload
from web.pages.ids import parse_ids
from web.templating import render

router = APIRouter(prefix="/events")


@dataclass(frozen=True, slots=True)
class Filters:
    """What the list is narrowed to; None is everything."""

    type: str | None
    device_id: uuid.UUID | None
    space_id: uuid.UUID | None

    def query(self) -> dict[str, str]:
        """The same as the page's query has it."""
        given = {"type": self.type, "device": self.device_id, "space": self.space_id}
        return {name: str(value) for name, value in given.items() if value is not None}


def _filters(
    current: CurrentAgent,
    session: Db,
    type: Annotated[str, Query(max_length=63)] = "",  # noqa: A002  (the field's own name)
    device: Annotated[str, Query(max_length=36)] = "",
    space: Annotated[str, Query(max_length=36)] = "",
) -> Filters:
    device_id, space_id = _id(device, "device"), _id(space, "space")
    if device_id is not None:
        devices.find(session, current.agent_id, device_id)
    if space_id is not None:
        identity.find_space(session, current.agent_id, str(space_id))
    return Filters(type or None, device_id, space_id)


CurrentFilters = Annotated[Filters, Depends(_filters)]


@router.get("")
def overview(
    request: Request,
    current: CurrentAgent,
    session: Db,
    filters: CurrentFilters,
    before: Annotated[str, Query(max_length=20)] = "",
) -> Response:
    """One page of events."""
    rev = feed.revision(session, current.agent_id)  # read first: what comes from here on is replayed by the page
    page = events.page(
        session,
        current.agent_id,
        before=before or None,
        type=filters.type,
        device_id=filters.device_id,
        space_id=filters.space_id,
    )
    return render(
        request,
        "events.html",
        items=page.items,
        next=page.next,
        before=before,
        filters=filters,
        rev=rev,
        payload=payload,
        **_choices(session, current, filters),
    )


@router.get("/rows")
def rows(request: Request, ids: str, current: CurrentAgent, session: Db) -> Response:
    """The rows of several events, by their ids with commas between; those of others are left out."""
    found = events.by_ids(session, current.agent_id, parse_ids(ids))
    return render(request, "event_rows.html", items=found, payload=payload)


def _choices(session: Session, current: AgentContext, filters: Filters) -> dict[str, Any]:
    types = events.types(session, current.agent_id)
    if filters.type and filters.type not in types:
        types.append(filters.type)
    return {
        "types": [(found, found) for found in types],
        "devices": [(found.device_id, found.name) for found in device_views.overview(session, current.agent_id)],
        "spaces": [(found.space_id, found.name) for found in identity.spaces_of(session, current.agent_id)],
    }


def _id(given: str, field: str) -> uuid.UUID | None:
    if not given:
        return None
    try:
        return UUID(given)
    except ValueError:
        raise NotFound(f"there is no such {field}", field=field) from None
