"""Remotes for people: devices at other places; listed, and added with what is pasted into them."""

from typing import Annotated, Any

from fastapi import APIRouter, Form, Request, Response
from sqlmodel import Session

from hub import devices, feed, identity
from hub.devices import DEFAULT_SCOPES, NAME_MAX
from hub.errors import HubError
from web.dependencies import AdminAgent, AgentContext, CurrentAgent, CurrentVisitor, Db, Now, WebSettings
from web.pages.devices import can_change, rows_of, token_page
from web.templating import render

router = APIRouter(prefix="/remotes")


@router.get("")
def overview(request: Request, current: CurrentAgent, session: Db, now: Now) -> Response:
    """All remotes of the agent, those of the earlier system included."""
    rev = feed.revision(session, current.agent_id)
    found = devices.overview(session, current.agent_id, remotes=True)
    return render(request, "remotes.html", rows=rows_of(found, now), rev=rev, tag="", can_change=can_change(current))


@router.get("/new")
def new(request: Request, current: AdminAgent, session: Db) -> Response:
    """The form for a further remote."""
    return _form(request, session, current, values={})


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
) -> Response:
    """Register a remote, and show its token and what to paste into it, this once."""
    rev = feed.revision(session, current.agent_id)
    try:
        space_id = identity.find_space(session, current.agent_id, space).space_id if space else None
        added = devices.add(
            session,
            current.agent_id,
            name,
            scopes=list(DEFAULT_SCOPES),
            by=visitor.label,
            space_id=space_id,
            handle=handle.strip() or None,
            metadata={"is_remote": True, "connection_type": "network"},
        )
    except HubError as error:
        if error.field is None:
            raise
        values = {"name": name, "handle": handle, "space": space}
        return _form(request, session, current, values=values, errors={error.field: error.message})
    session.flush()
    view = devices.view(session, current.agent_id, added.device.device_id)
    return token_page(request, settings, view, added.token, rev=rev, now=now, is_new=True)


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
    )
