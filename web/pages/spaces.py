"""The places of an agent: the list, one place with its satellites and events, and changing them."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Form, Request, Response
from sqlmodel import Session

from hub import device_views, events, feed, spaces
from hub.errors import Conflict, HubError
from hub.spaces import NAME_MAX, SpaceView
from web.dependencies import AdminAgent, AgentContext, CurrentAgent, CurrentVisitor, Db, Now
from web.pages import device_words, payload
from web.pages.devices import can_change
from web.templating import local_url, redirect, render

router = APIRouter(prefix="/spaces")

EVENTS_SHOWN = 20
Name = Annotated[str, Form(max_length=400)]
Revision = Annotated[int, Form(ge=1)]


@router.get("")
def overview(request: Request, current: CurrentAgent, session: Db) -> Response:
    """All spaces of the agent."""
    return _list(request, current, session)


@router.post("")
def add(request: Request, current: AdminAgent, visitor: CurrentVisitor, session: Db, name: Name = "") -> Response:
    """A further space."""
    try:
        space = spaces.create(session, current.agent_id, name, by=visitor.label)
    except HubError as error:
        if error.field != "name":
            raise
        return _list(request, current, session, typed=name, errors={"name": error.message})
    return redirect(request, local_url(request, "/spaces"), message=f"{space.name} is there.")


@router.get("/{space_id}")
def show(request: Request, space_id: UUID, current: CurrentAgent, session: Db, now: Now) -> Response:
    """One space: its satellites, what happened there, and its settings."""
    return _one(request, current, session, now, spaces.view(session, current.agent_id, space_id))


@router.post("/{space_id}")
def change(
    request: Request,
    space_id: UUID,
    current: AdminAgent,
    visitor: CurrentVisitor,
    session: Db,
    now: Now,
    revision: Revision = 1,
    name: Name = "",
) -> Response:
    """Rename it."""
    try:
        with session.begin_nested():
            space = spaces.change(session, current.agent_id, space_id, name=name, revision=revision, by=visitor.label)
    except HubError as error:
        if error.field is None or error.field == "space":
            raise
        view = spaces.view(session, current.agent_id, space_id)
        status = 409 if isinstance(error, Conflict) else 422
        return _one(
            request, current, session, now, view, typed=name, errors={error.field: error.message}, status=status
        )
    return redirect(request, local_url(request, f"/spaces/{space_id}"), message=f"It is named {space.name} now.")


@router.post("/{space_id}/privacy")
def privacy(
    request: Request,
    space_id: UUID,
    current: AdminAgent,
    visitor: CurrentVisitor,
    session: Db,
    private: Annotated[bool, Form()] = False,  # noqa: FBT002  (a form's field)
) -> Response:
    """Switch its privacy on or off."""
    space = spaces.change(session, current.agent_id, space_id, privacy_mode=private, by=visitor.label)
    message = (
        f"{space.name} is private: nothing that happens there is stored."
        if private
        else f"{space.name} is not private any more."
    )
    return redirect(request, local_url(request, f"/spaces/{space_id}"), message=message)


@router.post("/{space_id}/delete")
def delete(
    request: Request,
    space_id: UUID,
    current: AdminAgent,
    visitor: CurrentVisitor,
    session: Db,
    now: Now,
    typed: Annotated[str, Form(max_length=400)] = "",
) -> Response:
    """Remove it for good."""
    view = spaces.view(session, current.agent_id, space_id)
    try:
        spaces.delete(session, current.agent_id, space_id, typed, by=visitor.label)
    except HubError as error:
        if error.field != "typed":
            raise
        return _one(request, current, session, now, view, errors={"typed": error.message}, status=422)
    return redirect(request, local_url(request, "/spaces"), message=f"{view.name} is deleted.")


def _list(
    request: Request,
    current: AgentContext,
    session: Session,
    *,
    typed: str = "",
    errors: dict[str, str] | None = None,
) -> Response:
    return render(
        request,
        "spaces.html",
        status_code=422 if errors else 200,
        spaces=spaces.overview(session, current.agent_id),
        typed=typed,
        errors=errors or {},
        name_max=NAME_MAX,
        can_change=can_change(current),
    )


def _one(
    request: Request,
    current: AgentContext,
    session: Session,
    now: Any,
    view: SpaceView,
    *,
    typed: str | None = None,
    errors: dict[str, str] | None = None,
    status: int = 200,
) -> Response:
    rev = feed.revision(session, current.agent_id)
    found = [one for one in device_views.overview(session, current.agent_id) if one.space_id == view.space_id]
    return render(
        request,
        "space.html",
        status_code=status,
        space=view,
        typed=view.name if typed is None else typed,
        errors=errors or {},
        rows=[device_words.row(one, now) for one in found],
        rev=rev,
        events=events.page(session, current.agent_id, space_id=view.space_id, limit=EVENTS_SHOWN).items,
        payload=payload,
        name_max=NAME_MAX,
        can_change=can_change(current),
    )
