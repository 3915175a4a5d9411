"""Remotes for people: devices at other places; listed, and added with what is pasted into them."""

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Form, Request, Response
from sqlmodel import Session

from hub import device_views, devices, feed, identity
from hub.devices import DEFAULT_SCOPES, NAME_MAX
from hub.errors import HubError
from web.dependencies import AdminAgent, AgentContext, CurrentAgent, CurrentVisitor, Db, Now, WebSettings
from web.pages import device_proxy
from web.pages.devices import can_change, rows_of, token_page
from web.templating import local_url, redirect, render

router = APIRouter(prefix="/remotes")


@router.get("")
def overview(request: Request, current: CurrentAgent, session: Db, now: Now) -> Response:
    """All remotes of the agent, those of the earlier system included."""
    rev = feed.revision(session, current.agent_id)
    found = device_views.overview(session, current.agent_id, remotes=True)
    return render(request, "remotes.html", rows=rows_of(found, now), rev=rev, tag="", can_change=can_change(current))


@router.get("/new")
def new(request: Request, current: AdminAgent, session: Db) -> Response:
    """The form for a further remote."""
    return _form(request, session, current, values=asdict(device_proxy.Checked()))


@router.post("")
def add(
    request: Request,
    current: AdminAgent,
    visitor: CurrentVisitor,
    session: Db,
    settings: WebSettings,
    now: Now,
    checked: device_proxy.CheckedForm,
    name: Annotated[str, Form(max_length=400)] = "",
    handle: Annotated[str, Form(max_length=400)] = "",
    space: Annotated[str, Form(max_length=64)] = "",
) -> Response:
    """Register a remote, and show its token and what to paste into it, this once; one that another satellite checks
    gets no token.
    """
    rev = feed.revision(session, current.agent_id)
    values = {"name": name, "handle": handle, "space": space} | asdict(checked)
    try:
        space_id = identity.find_space(session, current.agent_id, space).space_id if space else None
        with session.begin_nested():
            device = devices.register(
                session,
                current.agent_id,
                name,
                scopes=list(DEFAULT_SCOPES),
                by=visitor.label,
                space_id=space_id,
                handle=handle.strip() or None,
                metadata={"is_remote": True, "connection_type": "network"},
            )
            if checked.proxy:
                device_proxy.let_check(session, current.agent_id, device.device_id, checked, by=visitor.label)
    except HubError as error:
        if error.field is None:
            raise
        return _form(request, session, current, values=values, errors={error.field: error.message})
    if checked.proxy:
        path = local_url(request, f"/devices/{device.device_id}")
        return redirect(request, path, message=f"{device.name} is added. It is unknown until the first report.")
    token = devices.give_first_token(session, device, by=visitor.label)
    session.flush()
    view = device_views.view(session, current.agent_id, device.device_id)
    return token_page(request, settings, view, token, rev=rev, now=now, is_new=True)


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
        "remote_new.html",
        status_code=422 if errors else 200,
        values=values,
        errors=errors or {},
        spaces=identity.spaces_of(session, current.agent_id),
        name_max=NAME_MAX,
        proxy_choices=device_proxy.choices(session, current.agent_id),
        proxy_kinds=device_proxy.KINDS,
    )
