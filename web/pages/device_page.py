"""One satellite's page: all that is known of it, its settings, and its end."""

from datetime import datetime
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Form, Request, Response
from sqlmodel import Session

from hub import audit, device_views, devices, events, feed, identity
from hub.access import denials, live_sessions, principals
from hub.access.scopes import VOCABULARY
from hub.errors import Conflict, HubError
from hub.settings import Settings
from web.dependencies import AdminAgent, AgentContext, CurrentAgent, CurrentVisitor, Db, Now
from web.pages import device_presence, device_proxy, device_sections, device_telemetry, device_words, payload
from web.pages.change_words import Change, in_words
from web.pages.devices import can_change
from web.templating import local_url, redirect, render

router = APIRouter(prefix="/devices")

REFUSALS_SHOWN: Final = 10
EVENTS_SHOWN: Final = 10
CHANGES_SHOWN: Final = 20


@router.get("/{device_id}")
def show(request: Request, device_id: UUID, current: CurrentAgent, session: Db, now: Now) -> Response:
    """Everything about one satellite; guests see how it is, and not what it may or tried."""
    return page(request, device_id, current, session, now)


@router.post("/{device_id}")
def change(
    request: Request,
    device_id: UUID,
    current: AdminAgent,
    visitor: CurrentVisitor,
    session: Db,
    now: Now,
    revision: Annotated[int, Form(ge=1)] = 1,
    name: Annotated[str, Form(max_length=400)] = "",
    space: Annotated[str, Form(max_length=64)] = "",
) -> Response:
    """Rename it, put it into another space."""
    device = devices.find(session, current.agent_id, device_id)
    try:
        with session.begin_nested():
            space_id = identity.find_space(session, current.agent_id, space).space_id if space else None
            devices.change(session, device, name=name, space_id=space_id, revision=revision, by=visitor.label)
    except HubError as error:
        if error.field is None:
            raise
        session.refresh(device)
        form = {"typed": {"name": name, "space": space}, "errors": {error.field: error.message}}
        status = 409 if isinstance(error, Conflict) else 422
        return page(request, device_id, current, session, now, status_code=status, settings=form)
    return redirect(request, local_url(request, f"/devices/{device_id}"), message="Saved.")


@router.post("/{device_id}/delete")
def delete(
    request: Request,
    device_id: UUID,
    current: AdminAgent,
    visitor: CurrentVisitor,
    session: Db,
    now: Now,
    typed: Annotated[str, Form(max_length=400)] = "",
) -> Response:
    """Remove it for good."""
    device = devices.find(session, current.agent_id, device_id)
    try:
        devices.delete(session, device, typed, by=visitor.label)
    except HubError as error:
        if error.field != "typed":
            raise
        form = {"errors": {"typed": error.message}}
        return page(request, device_id, current, session, now, status_code=422, settings=form)
    return redirect(request, local_url(request, "/devices"), message=f"{device.name} is deleted.")


def page(
    request: Request,
    device_id: UUID,
    current: AgentContext,
    session: Session,
    now: datetime,
    *,
    status_code: int = 200,
    **forms: dict[str, Any],
) -> Response:
    """The page; `forms`: what sections (commands, config, tags, settings) show of a form that came back."""
    settings: Settings = request.app.state.settings
    rev = feed.revision(session, current.agent_id)
    is_member = current.role != "guest"
    view = device_views.view(session, current.agent_id, device_id)
    own = {"typed": {"name": view.name, "space": str(view.space_id or "")}, "errors": {}}
    return render(
        request,
        "device.html",
        status_code=status_code,
        **own | forms.get("settings", {}),
        spaces=identity.spaces_of(session, current.agent_id),
        row=device_words.row(view, now),
        device=view,
        **device_sections.of_commands(session, view, **forms.get("commands", {})),
        **device_sections.of_config(session, view, **forms.get("config", {})),
        **device_sections.of_tags(session, view, **forms.get("tags", {})),
        refusals=denials.recent(session, device_id=device_id, limit=REFUSALS_SHOWN) if is_member else [],
        events=events.page(session, current.agent_id, device_id=device_id, limit=EVENTS_SHOWN).items,
        connection=live_sessions.of_device(session, current.agent_id, device_id) if is_member else None,
        principal=principals.load(session, view.handle, settings.root) if is_member else None,
        changes=_changes(session, current, device_id) if is_member else [],
        vocabulary=VOCABULARY,
        words=device_words,
        payload=payload,
        rev=rev,
        now=now,
        is_member=is_member,
        can_change=can_change(current),
        **device_proxy.facts(session, view, forms.get("proxy", {}), can_change=can_change(current)),
        **device_presence.of_page(session, device_id, now),
        **device_telemetry.facts(session, current, view, settings),
    )


def _changes(session: Session, current: AgentContext, device_id: UUID) -> list[Change]:
    found = audit.entries(session, current.agent_id, subject_id=device_id, limit=CHANGES_SHOWN)
    return [in_words(one) for one in found]
