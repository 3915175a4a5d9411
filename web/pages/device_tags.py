"""The words that satellites share: of one, and of many at once."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Form, Request, Response

from hub import devices, tags
from hub.errors import Conflict, Invalid
from web.dependencies import AdminAgent, CurrentVisitor, Db, Now
from web.pages import device_page
from web.templating import redirect

router = APIRouter(prefix="/devices")

Typed = Annotated[str, Form(max_length=2_000)]


@router.post("/tags")
def change_many(
    request: Request,
    current: AdminAgent,
    visitor: CurrentVisitor,
    session: Db,
    ids: Annotated[list[UUID] | None, Form()] = None,
    tags_: Annotated[str, Form(alias="tags", max_length=2_000)] = "",
    do: Annotated[str, Form(max_length=10)] = "add",
    back: Annotated[str, Form(max_length=40)] = "",
) -> Response:
    """Give tags to the chosen satellites, or take them away."""
    chosen, typed = list(dict.fromkeys(ids or [])), tags.split(tags_)
    if not chosen:
        raise Invalid("choose at least one satellite", field="ids")
    if not typed:
        raise Invalid("type at least one tag", field="tags")
    given, taken = ((), typed) if do == "remove" else (typed, ())
    changed = tags.change_many(session, current.agent_id, chosen, by=visitor.label, add=given, remove=taken)
    path = f"/devices?tag={back}" if back and tags.split(back) == [back] else "/devices"
    return redirect(request, path, message=f"{changed} of {len(chosen)} satellites have other tags now.")


@router.post("/{device_id}/tags")
def change(
    request: Request,
    device_id: UUID,
    current: AdminAgent,
    visitor: CurrentVisitor,
    session: Db,
    now: Now,
    tags_: Annotated[str, Form(alias="tags", max_length=2_000)] = "",
    expected: Typed = "",
) -> Response:
    """Let the satellite have exactly these tags."""
    device = devices.find(session, current.agent_id, device_id)
    try:
        tags.set_tags(session, device, tags.split(tags_), by=visitor.label, expected=tags.split(expected))
    except (Invalid, Conflict) as error:
        status = 409 if isinstance(error, Conflict) else 422
        shown = {"typed": tags_, "error": error.message}
        return device_page.page(request, device_id, current, session, now, status_code=status, tags=shown)
    return redirect(request, f"/devices/{device_id}", message=f"{device.name} has other tags now.")
