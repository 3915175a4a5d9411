"""Which roles an integration bears: changed with every effect shown before it is saved."""

import uuid
from dataclasses import replace
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Form, Request, Response
from pydantic import BaseModel, Field
from sqlmodel import Session

from hub import integrations
from hub.access import roles
from hub.access.preview import Preview, preview
from hub.settings import Settings
from web.dependencies import AdminAgent, CurrentVisitor, Db, Now, WebSettings
from web.pages.access_frame import open_topics, show
from web.pages.integrations import find, page
from web.pages.role_choice import RoleChoice

router = APIRouter(prefix="/integrations/{integration_id}/roles")


class ChoiceForm(BaseModel):
    """The form's fields; `was` are the roles that it began with, `previewed` marks those whose effect was shown."""

    roles: Annotated[list[uuid.UUID], Field(max_length=500)] = []
    was: Annotated[str, Field(max_length=20_000)] = ""
    previewed: Annotated[str, Field(max_length=64)] = ""
    do: Annotated[str, Field(max_length=20)] = "preview"


@router.post("/preview")
def look(
    request: Request,
    integration_id: uuid.UUID,
    current: AdminAgent,
    session: Db,
    settings: WebSettings,
    now: Now,
    form: Annotated[ChoiceForm, Form()],
) -> Response:
    """What bearing these roles and no others would change; a piece of a page."""
    choice = RoleChoice.of(form.roles)
    effect = _effect(session, current.agent_id, integration_id, choice, settings, now)
    return show(request, "preview.html", current, session, preview=effect, sure=choice.mark)


@router.post("")
def edit(
    request: Request,
    integration_id: uuid.UUID,
    current: AdminAgent,
    visitor: CurrentVisitor,
    session: Db,
    settings: WebSettings,
    now: Now,
    form: Annotated[ChoiceForm, Form()],
) -> Response:
    """Have it bear these roles and no others, or show what that would change."""
    borne = RoleChoice.of(role_id for role_id, _ in find(session, current.agent_id, integration_id).roles)
    choice = RoleChoice.of(form.roles)
    effect = _effect(session, current.agent_id, integration_id, choice, settings, now)
    conflict = RoleChoice.read(form.was) != borne
    if conflict or form.do != "save" or form.previewed != choice.mark:
        return page(
            request,
            current,
            session,
            settings,
            integration_id,
            choice=choice,
            effect=effect,
            conflict=conflict,
        )
    integrations.set_roles(session, current.agent_id, integration_id, choice.role_ids, by=visitor.label)
    # Not a redirect: the way back is offered by this answer alone, not by an address that anybody could make.
    return page(request, current, session, settings, integration_id, before=borne)


def _effect(
    session: Session,
    agent_id: uuid.UUID,
    integration_id: uuid.UUID,
    choice: RoleChoice,
    settings: Settings,
    now: datetime,
) -> Preview:
    """What changes role after role; given ones first, so that nothing shows as lost that another role gives."""
    borne = {role_id for role_id, _ in find(session, agent_id, integration_id).roles}
    given, taken = sorted(choice.role_ids - borne), sorted(borne - choice.role_ids)
    steps = []
    with session.begin_nested() as trial:
        for role_id in [*given, *taken]:
            draft = roles.find(session, agent_id, role_id).draft
            others = tuple(one for one in draft.integrations if one != integration_id)
            bears = role_id in choice.role_ids
            steps.append(
                preview(
                    session,
                    agent_id,
                    role_id,
                    replace(draft, integrations=(*others, integration_id) if bears else others),
                    root=settings.root,
                    open_topics=open_topics(settings),
                    now=now,
                )
            )
            roles.set_bearer(session, agent_id, role_id, integration_id, bears=bears, by="a preview")
        trial.rollback()
    return _together(steps)


def _together(steps: list[Preview]) -> Preview:
    def rows(name: str) -> list[Any]:
        found: list[Any] = []
        for step in steps:
            found += [row for row in getattr(step, name) if row not in found]
        return found

    more: dict[str, int] = {}
    for step in steps:
        for name, count in step.more.items():
            more[name] = more.get(name, 0) + count
    lists = ("gains", "losses", "sessions", "subscriptions", "retained", "integrations", "refused")
    return Preview(
        **{name: rows(name) for name in lists}, unknown=max((one.unknown for one in steps), default=0), more=more
    )
