"""Who is connected right now, as the broker reports it, and how to end a session."""

from dataclasses import asdict
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Form, Query, Request, Response
from sqlmodel import Session

from hub.access import live_sessions
from hub.access.live_sessions import REASON_MAX, SessionView
from hub.errors import NotFound
from web.dependencies import AdminAgent, CurrentVisitor, Db, MemberAgent
from web.pages.access_frame import address, show
from web.templating import redirect

router = APIRouter(prefix="/access/sessions")

Username = Annotated[str, Query(max_length=200)]


@router.get("")
def overview(request: Request, current: MemberAgent, session: Db) -> Response:
    """All sessions of the agent."""
    return show(
        request, "sessions.html", current, session, tab="/access/sessions", **_listed(session, current.agent_id)
    )


@router.get("/rows")
def rows(request: Request, current: MemberAgent, session: Db) -> Response:
    """The same rows alone."""
    return show(request, "rows.html", current, session, denials=[], **_listed(session, current.agent_id))


@router.get("/end")
def ask(request: Request, current: AdminAgent, session: Db, username: Username) -> Response:
    """The question before somebody is disconnected."""
    known = next((one for one in live_sessions.of_agent(session, current.agent_id) if one.username == username), None)
    if known is None or known.kind == "hub":
        raise NotFound("there is no such session")
    out = {"device": "the device", "integration": "the integration"}.get(known.kind, "")
    sentences = [f"{known.name} ({username}) loses its connection now. Nothing else changes: it may come back at once."]
    if out:
        sentences.append(f"To keep it out, revoke {out}; to take something away from it, edit its roles or scopes.")
    else:
        sentences.append("It is a page that somebody has open. To keep a person out, end their membership.")
    return show(
        request,
        "confirm.html",
        current,
        session,
        tab="/access/sessions",
        question=f"Disconnect {known.name}?",
        sentences=sentences,
        action=address(current, "/access/sessions/end"),
        carried={"username": username},
        back=address(current, "/access/sessions"),
        keep="Leave it",
        do="Disconnect",
        wants_reason=True,
        stays=True,
    )


@router.post("/end", response_model=None)
def end(
    request: Request,
    current: AdminAgent,
    visitor: CurrentVisitor,
    session: Db,
    username: Annotated[str, Form(max_length=200)],
    reason: Annotated[str, Form(max_length=REASON_MAX * 4)] = "",
) -> Response | dict[str, str]:
    """Have the broker end the session."""
    live_sessions.disconnect(session, current.agent_id, username, by=visitor.label, reason=reason)
    message = f"{username} is disconnected. It may come back at once."
    if "text/html" in request.headers.get("accept", ""):
        return redirect(request, address(current, "/access/sessions"), message=message)
    return {"username": username, "message": message}


def _listed(session: Session, agent_id: UUID) -> dict[str, Any]:
    found = live_sessions.of_agent(session, agent_id)
    connected = sum(one.connected for one in found)
    away = len(found) - connected
    counted = f"{connected} connected" + (f", {away} away with a session that is kept" if away else "")
    return {"sessions": [_row(one) for one in found], "counted": counted}


def _row(one: SessionView) -> dict[str, Any]:
    href = ""
    if one.device_id is not None:
        href = f"/devices/{one.device_id}"
    elif one.integration_id is not None:
        href = f"/integrations/{one.integration_id}"
    facts = asdict(one)
    return facts | {"href": href, "queued_size": _size(one.queued_bytes), "may_end": one.kind != "hub"}


def _size(count: int) -> str:
    """Bytes as people read them: 812 B, 40 kB, 3.1 MB."""
    if count < 1_000:
        return f"{count} B"
    return f"{count / 1_000:.0f} kB" if count < 1_000_000 else f"{count / 1_000_000:.1f} MB"
