"""For how long an agent keeps what it gathers: the form on its page."""

from typing import Annotated

from fastapi import APIRouter, Form, Request, Response

from hub import agents, retention
from hub.errors import Conflict, HubError
from web.dependencies import CurrentVisitor, Db
from web.pages import retention_form
from web.pages.agents import Administered, page
from web.pages.retention_form import RetentionForm
from web.templating import redirect

router = APIRouter(prefix="/agents")

Days = Annotated[str, Form(max_length=20)]


@router.post("/{own_id}/retention")
def change(
    request: Request,
    agent: Administered,
    visitor: CurrentVisitor,
    session: Db,
    revision: Annotated[int, Form(ge=0)] = 0,
    events_days: Days = "",
    telemetry_days: Days = "",
    commands_days: Days = "",
    denials_days: Days = "",
    dead_letters_days: Days = "",
) -> Response:
    """Keep for so many days from now on."""
    given = (events_days, telemetry_days, commands_days, denials_days, dead_letters_days)
    typed = dict(zip(retention.NAMES, given, strict=True))
    try:
        with session.begin_nested():
            days = {name: retention_form.days(name, text) for name, text in typed.items()}
            retention.change(session, agent.agent_id, days, revision=revision, by=visitor.label)
    except HubError as error:
        if error.field is None:
            raise
        now = retention.view(session, agent.agent_id).revision
        form = RetentionForm(typed, now, {error.field: error.message})
        view = agents.view(session, visitor.user.user_id, agent.agent_id)
        status = 409 if isinstance(error, Conflict) else 422
        return page(request, session, view, status=status, retention=form)
    return redirect(request, f"/agents/{agent.agent_id}", message="Saved. What is older goes within minutes.")
