"""One's agents: the list, a further one, and the settings of each, with what its owner alone may do."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Form, Request, Response
from sqlmodel import Session

from hub import agent_deletion, agents
from hub.agents import ABOUT_MAX, NAME_MAX, AgentView
from hub.errors import Conflict, Forbidden, HubError, NotFound
from web.dependencies import CurrentVisitor, Db, MaybeAgent
from web.pages import retention_form
from web.pages.retention_form import RetentionForm
from web.templating import redirect, render

router = APIRouter(prefix="/agents")

Name = Annotated[str, Form(max_length=400)]
About = Annotated[str, Form(max_length=4000)]


def _mine(own_id: UUID, visitor: CurrentVisitor, _: MaybeAgent, session: Db) -> AgentView:
    """The agent in the path, also when it is switched off; 404 unless the visitor belongs to it."""
    return agents.view(session, visitor.user.user_id, own_id)


Mine = Annotated[AgentView, Depends(_mine)]


def _administered(agent: Mine) -> AgentView:
    if agent.role not in {"owner", "admin"}:
        raise Forbidden(f"This takes the role admin in this agent; yours is {agent.role}.")
    return agent


Administered = Annotated[AgentView, Depends(_administered)]


def _owned(agent: Mine) -> AgentView:
    if agent.role != "owner":
        raise Forbidden(f"Only the owner of {agent.name} does this.")
    return agent


Owned = Annotated[AgentView, Depends(_owned)]


@router.get("")
def overview(request: Request, visitor: CurrentVisitor, _: MaybeAgent, session: Db) -> Response:
    """All agents that one belongs to."""
    return _list(request, visitor.user.user_id, session)


@router.post("")
def add(
    request: Request, visitor: CurrentVisitor, _: MaybeAgent, session: Db, name: Name = "", about: About = ""
) -> Response:
    """A further agent, of which one is the owner."""
    try:
        with session.begin_nested():
            agent = agents.create(session, visitor.user.user_id, name, about, by=visitor.label)
    except HubError as error:
        if error.field is None:
            raise
        typed = {"name": name, "about": about}
        return _list(request, visitor.user.user_id, session, typed=typed, errors={error.field: error.message})
    return redirect(request, f"/devices?agent={agent.agent_id}", message=f"{agent.name} is there, and it is yours.")


@router.get("/{own_id}")
def show(request: Request, agent: Mine, session: Db) -> Response:
    """Its settings."""
    return page(request, session, agent)


@router.post("/{own_id}")
def change(
    request: Request,
    agent: Administered,
    visitor: CurrentVisitor,
    session: Db,
    revision: Annotated[int, Form(ge=1)] = 1,
    name: Name = "",
    about: About = "",
) -> Response:
    """Rename and describe it."""
    try:
        with session.begin_nested():
            agents.change(session, agent.agent_id, name, about, revision=revision, by=visitor.label)
    except HubError as error:
        if error.field is None:
            raise
        typed = {"name": name, "about": about}
        status = 409 if isinstance(error, Conflict) else 422
        now = agents.view(session, visitor.user.user_id, agent.agent_id)
        errors = {error.field: error.message}
        return page(request, session, now, typed=typed, errors=errors, status=status)
    return redirect(request, f"/agents/{agent.agent_id}", message="Saved.")


@router.post("/{own_id}/disable")
def disable(request: Request, agent: Owned, visitor: CurrentVisitor, session: Db) -> Response:
    """Switch it off."""
    agents.set_disabled(session, agent.agent_id, disabled=True, by=visitor.label)
    return redirect(request, f"/agents/{agent.agent_id}", message=f"{agent.name} is switched off.")


@router.post("/{own_id}/enable")
def enable(request: Request, agent: Owned, visitor: CurrentVisitor, session: Db) -> Response:
    """Switch it on again."""
    agents.set_disabled(session, agent.agent_id, disabled=False, by=visitor.label)
    return redirect(request, f"/agents/{agent.agent_id}", message=f"{agent.name} is on again.")


@router.post("/{own_id}/delete")
def delete(
    request: Request,
    agent: Owned,
    visitor: CurrentVisitor,
    session: Db,
    typed: Annotated[str, Form(max_length=400)] = "",
) -> Response:
    """Delete it for good."""
    try:
        agent_deletion.delete(session, agent.agent_id, typed, by=visitor.label)
    except HubError as error:
        if error.field != "typed":
            raise
        errors = {"typed": error.message}
        return page(request, session, agent, errors=errors, status=422)
    message = f"{agent.name} is gone for everybody. What it held is being removed."
    return redirect(request, "/agents", message=message)


def _list(
    request: Request,
    user_id: UUID,
    session: Session,
    *,
    typed: dict[str, str] | None = None,
    errors: dict[str, str] | None = None,
) -> Response:
    found = agents.of_user(session, user_id)
    going = {one.agent_id: agent_deletion.remaining(session, one.agent_id) for one in found if one.deleted_at}
    return render(
        request,
        "agents.html",
        status_code=422 if errors else 200,
        agents=found,
        going=going,
        may_add=any(one.role == "owner" for one in found),
        typed=typed or {},
        errors=errors or {},
        name_max=NAME_MAX,
        about_max=ABOUT_MAX,
    )


def page(
    request: Request,
    session: Session,
    agent: AgentView,
    *,
    typed: dict[str, str] | None = None,
    errors: dict[str, str] | None = None,
    status: int = 200,
    retention: RetentionForm | None = None,
) -> Response:
    """The settings of one; `retention` is that section when its form came back."""
    if agent.deleted_at is not None:
        raise NotFound("There is no such agent among yours.", field="agent")
    return render(
        request,
        "agent.html",
        status_code=status,
        agent=agent,
        retention=retention_form.facts(session, agent.agent_id, retention)
        if agent.role in {"owner", "admin"}
        else None,
        losses=agent_deletion.losses(session, agent.agent_id) if agent.role == "owner" else None,
        typed=typed or {"name": agent.name, "about": agent.about},
        errors=errors or {},
        name_max=NAME_MAX,
        about_max=ABOUT_MAX,
    )
