"""For how long an agent keeps what it gathers: the form on its page."""

from typing import Annotated

from fastapi import APIRouter, Form, Request, Response
from pydantic import BaseModel, Field

from hub import agents, retention
from hub.errors import Conflict, HubError
from web.dependencies import CurrentVisitor, Db
from web.pages import retention_form
from web.pages.agents import Administered, page
from web.pages.retention_form import RetentionForm
from web.templating import redirect

router = APIRouter(prefix="/agents")

Days = Annotated[str, Field(max_length=20)]


class Filled(BaseModel):
    """The form as it comes: days as they were typed."""

    revision: Annotated[int, Field(ge=0)] = 0
    events_days: Days = ""
    telemetry_days: Days = ""
    commands_days: Days = ""
    actions_days: Days = ""
    denials_days: Days = ""
    dead_letters_days: Days = ""
    presence_days: Days = ""


@router.post("/{own_id}/retention")
def change(
    request: Request,
    agent: Administered,
    visitor: CurrentVisitor,
    session: Db,
    filled: Annotated[Filled, Form()],
) -> Response:
    """Keep for so many days from now on."""
    typed = {name: getattr(filled, name) for name in retention.NAMES}
    try:
        with session.begin_nested():
            days = {name: retention_form.days(name, text) for name, text in typed.items()}
            retention.change(session, agent.agent_id, days, revision=filled.revision, by=visitor.label)
    except HubError as error:
        if error.field is None:
            raise
        now = retention.view(session, agent.agent_id).revision
        form = RetentionForm(typed, now, {error.field: error.message})
        view = agents.view(session, visitor.user.user_id, agent.agent_id)
        status = 409 if isinstance(error, Conflict) else 422
        return page(request, session, view, status=status, retention=form)
    return redirect(request, f"/agents/{agent.agent_id}", message="Saved. What is older goes within minutes.")
