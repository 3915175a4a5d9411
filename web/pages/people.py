"""The people of an agent: who they are to it, inviting them, and what their role may become."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Form, Request, Response
from sqlmodel import Session

from hub import members
from hub.errors import Conflict, HubError, Invalid
from hub.identity import ROLES
from hub.members import INVITABLE, Invitation, MemberView
from web.dependencies import AdminAgent, AgentContext, CurrentVisitor, Db, MemberAgent, Now, OwnerAgent
from web.pages.devices import can_change
from web.templating import local_url, redirect, render

router = APIRouter(prefix="/people")

Text = Annotated[str, Form(max_length=400)]
# What each role may, in the words of the page.
MEANINGS = {
    "owner": "everything; hands ownership over, switches the agent off, deletes it",
    "admin": "changes satellites, spaces, access and people",
    "member": "sees everything, reports events",
    "guest": "sees satellites, commands and events",
    "blocked": "kept out, whoever invites them",
}


@router.get("")
def overview(request: Request, current: MemberAgent, visitor: CurrentVisitor, session: Db, now: Now) -> Response:
    """Everybody who belongs to the agent."""
    return _list(request, current, visitor.user.user_id, session, now)


@router.post("")
def invite(
    request: Request,
    current: AdminAgent,
    visitor: CurrentVisitor,
    session: Db,
    now: Now,
    email: Text = "",
    display_name: Text = "",
    role: Text = "member",
) -> Response:
    """Add somebody by their address; who never signed in gets a link, shown this once."""
    try:
        with session.begin_nested():
            added = members.invite(
                session,
                current.agent_id,
                email,
                role,
                by_user_id=visitor.user.user_id,
                now=now,
                name=display_name,
            )
    except HubError as error:
        if error.field is None:
            raise
        typed = {"email": email, "display_name": display_name, "role": role}
        errors = {error.field: error.message}
        return _list(request, current, visitor.user.user_id, session, now, typed=typed, errors=errors)
    return _invited(request, added)


@router.get("/{user_id}")
def show(
    request: Request, user_id: UUID, current: MemberAgent, visitor: CurrentVisitor, session: Db, now: Now
) -> Response:
    """One of them."""
    return _one(request, current, visitor.user.user_id, members.view(session, current.agent_id, user_id, now))


@router.post("/{user_id}/role")
def set_role(
    request: Request,
    user_id: UUID,
    current: AdminAgent,
    visitor: CurrentVisitor,
    session: Db,
    now: Now,
    role: Text = "",
    was: Text = "",
) -> Response:
    """Give them another role; what the form showed before must still be so."""
    view = members.view(session, current.agent_id, user_id, now)
    try:
        if role == "owner":
            raise Invalid("ownership is handed over below, with the address typed", field="role")
        if was and was != view.role:
            raise Conflict(f"somebody changed it meanwhile: the role is {view.role} now", field="role")
        members.set_role(session, current.agent_id, user_id, role, by_user_id=visitor.user.user_id)
    except HubError as error:
        if error.field != "role":
            raise
        status = 409 if isinstance(error, Conflict) else 422
        return _one(request, current, visitor.user.user_id, view, errors={"role": error.message}, status=status)
    return _back(request, user_id, f"{_name(view)} is {role} now.")


@router.post("/{user_id}/block")
def block(
    request: Request, user_id: UUID, current: AdminAgent, visitor: CurrentVisitor, session: Db, now: Now
) -> Response:
    """Keep them out."""
    view = members.view(session, current.agent_id, user_id, now)
    members.block(session, current.agent_id, user_id, by_user_id=visitor.user.user_id)
    return _back(request, user_id, f"{_name(view)} is blocked.")


@router.post("/{user_id}/remove")
def remove(
    request: Request, user_id: UUID, current: MemberAgent, visitor: CurrentVisitor, session: Db, now: Now
) -> Response:
    """End a membership: an admin anybody's, and everybody their own."""
    view = members.view(session, current.agent_id, user_id, now)
    members.remove(session, current.agent_id, user_id, by_user_id=visitor.user.user_id)
    if user_id == visitor.user.user_id:
        return redirect(request, "/agents", message=f"You have left {current.agent.name}.")
    return redirect(request, local_url(request, "/people"), message=f"{_name(view)} is removed.")


@router.post("/{user_id}/invite")
def invite_again(
    request: Request, user_id: UUID, current: AdminAgent, visitor: CurrentVisitor, session: Db, now: Now
) -> Response:
    """A new link for somebody who never signed in."""
    added = members.invite_again(session, current.agent_id, user_id, by_user_id=visitor.user.user_id, now=now)
    return _invited(request, added)


@router.post("/{user_id}/owner")
def hand_over(
    request: Request,
    user_id: UUID,
    current: OwnerAgent,
    visitor: CurrentVisitor,
    session: Db,
    now: Now,
    typed: Text = "",
) -> Response:
    """Make them the owner; the one who does it becomes an admin."""
    view = members.view(session, current.agent_id, user_id, now)
    try:
        if typed.strip().lower() != view.email.lower() or not view.email:
            raise Invalid(f"type {view.email or 'their address'} to hand ownership over", field="typed")
        members.set_role(session, current.agent_id, user_id, "owner", by_user_id=visitor.user.user_id)
    except HubError as error:
        if error.field is None:
            raise
        return _one(request, current, visitor.user.user_id, view, errors={"typed": error.message}, status=422)
    return _back(request, user_id, f"{_name(view)} owns {current.agent.name} now; you are admin.")


def _invited(request: Request, added: Invitation) -> Response:
    return render(request, "person_invited.html", email=added.email, link=_link(request, added), is_new=added.is_new)


def _link(request: Request, added: Invitation) -> str:
    base = str(request.base_url).rstrip("/")
    return f"{base}/{'invite' if added.is_new else 'join'}/{added.token}"


def _list(
    request: Request,
    current: AgentContext,
    mine: UUID,
    session: Session,
    now: Any,
    *,
    typed: dict[str, str] | None = None,
    errors: dict[str, str] | None = None,
) -> Response:
    return render(
        request,
        "people.html",
        status_code=422 if errors else 200,
        people=members.overview(session, current.agent_id, now, with_blocked=can_change(current)),
        mine=mine,
        roles=INVITABLE,
        meanings=MEANINGS,
        typed=typed or {"role": "member"},
        errors=errors or {},
        can_change=can_change(current),
    )


def _one(
    request: Request,
    current: AgentContext,
    mine: UUID,
    view: MemberView,
    *,
    errors: dict[str, str] | None = None,
    status: int = 200,
) -> Response:
    return render(
        request,
        "person.html",
        status_code=status,
        person=view,
        mine=mine,
        roles=[role for role in ROLES if role != "owner"],
        meanings=MEANINGS,
        errors=errors or {},
        can_change=can_change(current),
        is_owner=current.role == "owner",
    )


def _back(request: Request, user_id: UUID, message: str) -> Response:
    return redirect(request, local_url(request, f"/people/{user_id}"), message=message)


def _name(view: MemberView) -> str:
    return view.display_name or view.email or "This person"
