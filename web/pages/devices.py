"""Satellites for people: the list, one satellite's page, and adding, pinging, rotating and revoking them."""

import uuid
from datetime import datetime
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Form, Query, Request, Response
from sqlmodel import Session

from hub import commands, device_views, devices, feed, identity, quarantines, tags
from hub.access.scopes import VOCABULARY
from hub.device_views import DeviceView
from hub.devices import DEFAULT_SCOPES, NAME_MAX
from hub.errors import HubError, Invalid
from hub.settings import Settings
from hub_protocol.errors import BadName
from hub_protocol.topics import Topics, check_handle
from web.dependencies import AdminAgent, AgentContext, CurrentAgent, CurrentVisitor, Db, Now, WebSettings
from web.pages import device_words, enrolment, snippets
from web.pages.ids import parse_ids
from web.templating import local_url, redirect, render

router = APIRouter(prefix="/devices")

Tag = Annotated[str, Query(max_length=32)]

PING_TTL_S: Final = 30
_MAY_CHANGE: Final = frozenset({"owner", "admin"})


@router.get("")
def overview(request: Request, current: CurrentAgent, session: Db, now: Now, tag: Tag = "") -> Response:
    """All satellites of the agent, or those with one tag."""
    rev = feed.revision(session, current.agent_id)  # read first: what changes from here on is replayed by the page
    found = device_views.overview(session, current.agent_id, tag=tag or None)
    return render(
        request,
        "devices.html",
        rows=rows_of(found, now),
        rev=rev,
        can_change=can_change(current),
        tag=tag,
        tags=tags.counted(session, current.agent_id),
        **enrolment.joining(session, current, now),
    )


@router.get("/rows")
def rows(
    request: Request,
    ids: str,
    current: CurrentAgent,
    session: Db,
    now: Now,
    tag: Tag = "",
    remotes: bool = False,  # noqa: FBT001, FBT002  (a parameter of the address)
) -> Response:
    """The rows of several satellites, by their ids with commas between; those of others are left out."""
    return _fragment(request, current, session, now, parse_ids(ids), tag=tag, remotes=remotes)


@router.get("/new")
def new(request: Request, current: AdminAgent, session: Db) -> Response:
    """The form for a further satellite."""
    return _form(request, session, current, values={"scopes": list(DEFAULT_SCOPES)})


@router.get("/handle")
def handle(
    _: AdminAgent,
    session: Db,
    name: Annotated[str, Query(max_length=400)] = "",
    wanted: Annotated[str, Query(max_length=400)] = "",
) -> dict[str, str]:
    """A free handle for a name, or what is wrong with the one that somebody typed."""
    if not wanted:
        try:
            return {"handle": devices.propose_handle(session, name) if name.strip() else "", "problem": ""}
        except Invalid as error:
            return {"handle": "", "problem": error.message}
    try:
        free = devices.propose_handle(session, check_handle(wanted))
    except BadName as error:
        return {"handle": "", "problem": error.rule}
    problem = "" if free == wanted else f"is taken; {free} is free"
    return {"handle": wanted, "problem": problem}


@router.post("")
def add(
    request: Request,
    current: AdminAgent,
    visitor: CurrentVisitor,
    session: Db,
    settings: WebSettings,
    now: Now,
    name: Annotated[str, Form(max_length=400)] = "",
    handle: Annotated[str, Form(max_length=400)] = "",
    space: Annotated[str, Form(max_length=64)] = "",
    scopes: Annotated[list[str] | None, Form()] = None,
) -> Response:
    """Register a satellite and show its token, this once."""
    rev = feed.revision(session, current.agent_id)
    try:
        space_id = identity.find_space(session, current.agent_id, space).space_id if space else None
        added = devices.add(
            session,
            current.agent_id,
            name,
            scopes=scopes or [],
            by=visitor.label,
            space_id=space_id,
            handle=handle.strip() or None,
        )
    except HubError as error:
        if error.field is None:
            raise
        values = {"name": name, "handle": handle, "space": space, "scopes": scopes or []}
        return _form(request, session, current, values=values, errors={error.field: error.message})
    session.flush()
    view = device_views.view(session, current.agent_id, added.device.device_id)
    return token_page(request, settings, view, added.token, rev=rev, now=now, is_new=True)


@router.get("/{device_id}/row")
def row(request: Request, device_id: UUID, current: CurrentAgent, session: Db, now: Now) -> Response:
    """The row of one satellite."""
    devices.find(session, current.agent_id, device_id)
    return _fragment(request, current, session, now, [device_id])


@router.post("/{device_id}/ping", response_model=None)
def ping(
    request: Request, device_id: UUID, current: AdminAgent, visitor: CurrentVisitor, session: Db, now: Now
) -> Response | dict[str, Any]:
    """Ask the satellite whether it is there; the answer comes over the live feed."""
    device = devices.find(session, current.agent_id, device_id)
    command = commands.request(session, device, "ping", {}, by=visitor.label, ttl_s=PING_TTL_S, now=now)
    if "text/html" in request.headers.get("accept", ""):
        return redirect(request, f"/devices/{device_id}", message=f"Asked {device.name}; its answer shows here.")
    return {
        "command_id": str(command.command_id),
        "device_id": str(device_id),
        "handle": device.handle,
        "verb": command.verb,
        "status": command.status,
        "expires_at": command.expires_at,
    }


@router.post("/{device_id}/let-go")
def let_go(request: Request, device_id: UUID, current: AdminAgent, visitor: CurrentVisitor, session: Db) -> Response:
    """Let the satellite out of quarantine."""
    device = devices.find(session, current.agent_id, device_id)
    quarantines.let_go(session, device, by=visitor.label)
    return redirect(
        request, local_url(request, f"/devices/{device_id}"), message=f"{device.name} is heard again from now on."
    )


@router.post("/{device_id}/rotate")
def rotate(
    request: Request,
    device_id: UUID,
    current: AdminAgent,
    visitor: CurrentVisitor,
    session: Db,
    settings: WebSettings,
    now: Now,
) -> Response:
    """Replace the satellite's token and show the new one, this once."""
    rev = feed.revision(session, current.agent_id)
    device = devices.find(session, current.agent_id, device_id)
    token = devices.rotate(session, device, by=visitor.label)
    session.flush()
    view = device_views.view(session, current.agent_id, device_id)
    return token_page(request, settings, view, token, rev=rev, now=now, is_new=False)


@router.post("/{device_id}/revoke", response_model=None)
def revoke(
    request: Request,
    device_id: UUID,
    current: AdminAgent,
    visitor: CurrentVisitor,
    session: Db,
    reason: Annotated[str, Form(max_length=4000)] = "",
) -> Response | dict[str, str]:
    """Shut the satellite out for good; it is told why."""
    device = devices.find(session, current.agent_id, device_id)
    devices.revoke(session, device, by=visitor.label, reason=reason)
    message = f"{device.name} is revoked."
    if "text/html" in request.headers.get("accept", ""):
        return redirect(request, f"/devices/{device_id}", message=message)
    return {"device_id": str(device_id), "message": message}


def rows_of(found: list[DeviceView], now: datetime) -> list[device_words.Row]:
    return [device_words.row(device, now) for device in found]


def _fragment(
    request: Request,
    current: AgentContext,
    session: Session,
    now: datetime,
    ids: list[uuid.UUID],
    *,
    tag: str = "",
    remotes: bool = False,
) -> Response:
    rev = feed.revision(session, current.agent_id)
    found = device_views.overview(session, current.agent_id, ids, tag=tag or None, remotes=remotes)
    return render(request, "device_rows.html", rows=rows_of(found, now), rev=rev, can_change=can_change(current))


def _form(
    request: Request,
    session: Session,
    current: AgentContext,
    *,
    values: dict[str, Any],
    errors: dict[str, str] | None = None,
) -> Response:
    return render(
        request,
        "device_new.html",
        status_code=422 if errors else 200,
        values=values,
        errors=errors or {},
        spaces=identity.spaces_of(session, current.agent_id),
        vocabulary=VOCABULARY,
        name_max=NAME_MAX,
    )


def token_page(
    request: Request, settings: Settings, view: DeviceView, token: str, *, rev: int, now: datetime, is_new: bool
) -> Response:
    """The one sight of a token, with all that is pasted into a device."""
    # Whatever spoke with an older token had a lower one: the present in seconds is always ahead.
    epoch = int(now.timestamp())
    return render(
        request,
        "device_token.html",
        device=view,
        token=token,
        is_new=is_new,
        rev=rev,
        host=settings.device_mqtt_host,
        port=settings.device_mqtt_port,
        tls=settings.tls_cert_file is not None,
        topics=Topics(settings.root),
        epoch=epoch,
        snippets=snippets.of_device(settings, view.handle, token, epoch),
        is_remote=view.metadata.get("is_remote") is True,
    )


def can_change(current: AgentContext) -> bool:
    """Whether whoever looks may change anything."""
    return current.role in _MAY_CHANGE
