"""Telling a satellite what to do: the form for each verb, taking back what waits, and the whole ledger."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response

from hub import command_ends, commands, device_views, devices, feed, verbs
from hub.errors import HubError, Invalid
from web.dependencies import AdminAgent, CurrentAgent, CurrentVisitor, Db, Now
from web.pages import command_form, device_page, device_sections, device_words, payload
from web.pages import devices as devices_page
from web.pages.command_form import DEADLINES
from web.pages.typed_form import TypedForm, text_of
from web.templating import redirect, render

router = APIRouter(prefix="/devices/{device_id}/commands")


@router.get("")
def ledger(
    request: Request,
    device_id: UUID,
    current: CurrentAgent,
    session: Db,
    now: Now,
    before: Annotated[UUID | None, Query()] = None,
) -> Response:
    """A page of everything that it was asked."""
    rev = feed.revision(session, current.agent_id)
    view = device_views.view(session, current.agent_id, device_id)
    return render(
        request,
        "device_commands.html",
        device=view,
        row=device_words.row(view, now),
        words=device_words,
        payload=payload,
        rev=rev,
        before=before,
        can_change=devices_page.can_change(current),
        **device_sections.of_commands(session, view, before=before),
    )


@router.post("", response_model=None)
def send(
    request: Request,
    device_id: UUID,
    current: AdminAgent,
    visitor: CurrentVisitor,
    session: Db,
    now: Now,
    form: TypedForm,
) -> Response | dict[str, Any]:
    """Queue one command; how it fares shows in the ledger."""
    device = devices.find(session, current.agent_id, device_id)
    view = device_views.view(session, current.agent_id, device_id)
    known = view.hello if view.last_hello_at else None
    verb = verbs.choose(known, text_of(form, "verb", most=200), device.handle)
    wanted = command_form.of_verb(verb)
    try:
        ttl_s = text_of(form, "ttl_s", most=20)
        if ttl_s not in {str(one) for one in DEADLINES}:
            raise Invalid("is one of the deadlines", field="ttl_s")
        if verb.risk == "high" and not text_of(form, "confirmed", most=10):
            raise Invalid("Its risk is high: tick that you mean it.", field="confirmed")
        args = command_form.read_args(form, wanted)
        command = commands.request(session, device, verb.name, args, by=visitor.label, ttl_s=float(ttl_s), now=now)
    except HubError as error:
        if not _wants_page(request) or not isinstance(error, Invalid):
            raise
        errors = {error.field or "args": error.message}
        sent = command_form.of_verb(verb, command_form.typed_values(form), errors)
        return device_page.page(request, device_id, current, session, now, status_code=422, commands={"sent": sent})
    message = _told(verb.name, view, command.expires_at)
    if _wants_page(request):
        return redirect(request, f"/devices/{device_id}", message=message)
    return {"command_id": str(command.command_id), "message": message}


@router.post("/{command_id}/cancel", response_model=None)
def cancel(
    request: Request,
    device_id: UUID,
    command_id: UUID,
    current: AdminAgent,
    visitor: CurrentVisitor,
    session: Db,
    now: Now,
) -> Response | dict[str, str]:
    """Take back what waits, or ask the device to end what it has; 409 for what cannot be ended any more."""
    device = devices.find(session, current.agent_id, device_id)
    taken_back = command_ends.cancel(session, current.agent_id, command_id, by=visitor.label, now=now)
    message = f"{device.name} will not be asked." if taken_back else f"{device.name} is told to end it."
    if _wants_page(request):
        return redirect(request, f"/devices/{device_id}", message=message)
    return {"command_id": str(command_id), "message": message}


def _told(verb: str, view: device_views.DeviceView, expires_at: Any) -> str:
    if view.presence in ("online", "suspect"):
        return f"{verb} goes to {view.name}."
    until = expires_at.strftime("%H:%M")
    return f"{view.name} is not there: {verb} waits for it until {until} UTC."


def _wants_page(request: Request) -> bool:
    return "text/html" in request.headers.get("accept", "")
