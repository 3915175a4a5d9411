"""Integrations for people: the list, one integration's page, adding, rotating, revoking them, giving them roles."""

from datetime import datetime
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Form, Request, Response
from sqlmodel import Session

from hub import integration_scopes, integrations
from hub.access import denials, live_sessions, principals, roles
from hub.access.preview import Preview, preview_revoking
from hub.errors import Conflict, Invalid, NotFound
from hub.integrations import IntegrationView
from hub.settings import Settings
from web.dependencies import AdminAgent, AgentContext, CurrentVisitor, Db, MemberAgent, Now, WebSettings
from web.pages import integration_presets
from web.pages.access_frame import address, show
from web.pages.role_choice import RoleChoice
from web.pages.typed_form import TypedForm, text_of, texts_of
from web.templating import redirect

router = APIRouter(prefix="/integrations")

REFUSALS_SHOWN: Final = 10
REASON_MAX: Final = 200

Text = Annotated[str, Form(max_length=400)]


@router.get("")
def overview(request: Request, current: MemberAgent, session: Db) -> Response:
    """All integrations of the agent."""
    sessions = live_sessions.of_agent(session, current.agent_id)
    return show(
        request,
        "integrations.html",
        current,
        session,
        integrations=integrations.list_integrations(session, current.agent_id),
        connected={one.username for one in sessions if one.connected},
    )


@router.get("/new")
def new(request: Request, current: AdminAgent, session: Db) -> Response:
    """The form for a further integration."""
    return _form(request, session, current, {"name": "", "handle": "", "roles": [], "presets": ["watch"]}, {})


@router.post("")
def add(
    request: Request,
    current: AdminAgent,
    visitor: CurrentVisitor,
    session: Db,
    settings: WebSettings,
    name: Text = "",
    handle: Text = "",
    roles: Annotated[list[str] | None, Form(max_length=500)] = None,
    presets: Annotated[list[str] | None, Form(max_length=10)] = None,
) -> Response:
    """Add an integration and show its token, this once."""
    values = {"name": name, "handle": handle, "roles": roles or [], "presets": presets or []}
    try:
        with session.begin_nested():
            borne = _ids(roles or []) + integration_presets.made(
                session, current.agent_id, settings, presets or [], by=visitor.label
            )
            added = integrations.add(
                session, current.agent_id, name, by=visitor.label, handle=handle.strip() or None, roles=borne
            )
    except (Invalid, Conflict) as error:
        if error.field is None:
            raise
        return _form(request, session, current, values, {error.field: error.message})
    session.flush()
    view = find(session, current.agent_id, added.integration.integration_id)
    return _token_page(request, current, session, settings, view, added.token, is_new=True)


@router.get("/{integration_id}")
def open_one(
    request: Request,
    integration_id: UUID,
    current: MemberAgent,
    session: Db,
    settings: WebSettings,
) -> Response:
    """Everything about one integration."""
    return page(request, current, session, settings, integration_id)


@router.post("/{integration_id}/name")
def rename(
    request: Request,
    integration_id: UUID,
    current: AdminAgent,
    visitor: CurrentVisitor,
    session: Db,
    settings: WebSettings,
    name: Text = "",
) -> Response:
    """Call it something else; its handle stays."""
    try:
        integrations.rename(session, current.agent_id, integration_id, name, by=visitor.label)
    except Invalid as error:
        return page(
            request, current, session, settings, integration_id, typed_name=name, errors={"name": error.message}
        )
    return redirect(request, address(current, f"/integrations/{integration_id}"), message="Renamed.")


@router.get("/{integration_id}/rotate")
def ask_to_rotate(request: Request, integration_id: UUID, current: AdminAgent, session: Db) -> Response:
    """The question before its token is replaced."""
    found = find(session, current.agent_id, integration_id)
    return show(
        request,
        "confirm.html",
        current,
        session,
        question=f"Rotate the token of {found.name}?",
        sentences=[
            "It gets a new token, which is shown to you once.",
            "The old one is worthless at once: the integration is disconnected until somebody gives it the new one.",
        ],
        action=address(current, f"/integrations/{integration_id}/rotate"),
        back=address(current, f"/integrations/{integration_id}"),
        keep="Keep the token",
        do="Rotate the token",
        dangerous=False,
    )


@router.post("/{integration_id}/rotate")
def rotate(
    request: Request,
    integration_id: UUID,
    current: AdminAgent,
    visitor: CurrentVisitor,
    session: Db,
    settings: WebSettings,
) -> Response:
    """Replace its token and show the new one, this once."""
    token = integrations.rotate(session, current.agent_id, integration_id, by=visitor.label)
    session.flush()
    view = find(session, current.agent_id, integration_id)
    return _token_page(request, current, session, settings, view, token, is_new=False)


@router.post("/{integration_id}/scopes")
def scopes(
    request: Request, integration_id: UUID, current: AdminAgent, visitor: CurrentVisitor, session: Db, form: TypedForm
) -> Response:
    """Say what it may ask of the hub."""
    wanted, role = texts_of(form, "scopes"), text_of(form, "decides_as", most=20) or "member"
    integration_scopes.change(session, current.agent_id, integration_id, wanted, role, by=visitor.label)
    return redirect(request, address(current, f"/integrations/{integration_id}"), message="That is what it may ask.")


@router.get("/{integration_id}/revoke")
def ask_to_revoke(
    request: Request, integration_id: UUID, current: AdminAgent, session: Db, settings: WebSettings, now: Now
) -> Response:
    """The question before it is shut out for good: what ends with it."""
    return _revoke_page(request, current, session, settings, integration_id, now)


@router.post("/{integration_id}/revoke")
def revoke(
    request: Request,
    integration_id: UUID,
    current: AdminAgent,
    visitor: CurrentVisitor,
    session: Db,
    settings: WebSettings,
    now: Now,
    reason: Annotated[str, Form(max_length=4_000)] = "",
) -> Response:
    """Shut it out for good."""
    try:
        integrations.revoke(session, current.agent_id, integration_id, reason=reason, by=visitor.label)
    except Invalid as error:
        problem = f"The reason {error.message}."
        return _revoke_page(request, current, session, settings, integration_id, now, reason=reason, problem=problem)
    return redirect(request, address(current, f"/integrations/{integration_id}"), message="It is revoked.")


def find(session: Session, agent_id: UUID, integration_id: UUID) -> IntegrationView:
    """One integration with its roles; `NotFound` also for another agent's."""
    for one in integrations.list_integrations(session, agent_id):
        if one.integration_id == integration_id:
            return one
    raise NotFound("there is no such integration")


def _form(
    request: Request, session: Session, current: AgentContext, values: dict[str, Any], errors: dict[str, str]
) -> Response:
    known = roles.list_roles(session, current.agent_id)
    names = {role.name.casefold() for role in known}
    return show(
        request,
        "integration_new.html",
        current,
        session,
        status_code=422 if errors else 200,
        values=values,
        errors=errors,
        roles=known,
        presets=[one for one in integration_presets.PRESETS if one.name.casefold() not in names],
    )


def page(
    request: Request,
    current: AgentContext,
    session: Session,
    settings: Settings,
    integration_id: UUID,
    *,
    before: RoleChoice | None = None,
    typed_name: str | None = None,
    errors: dict[str, str] | None = None,
    choice: RoleChoice | None = None,
    effect: Preview | None = None,
    conflict: bool = False,
) -> Response:
    """The page of one integration; `before` are its roles before a change that was made just now."""
    view = find(session, current.agent_id, integration_id)
    live = [one for one in live_sessions.of_agent(session, current.agent_id) if one.integration_id == integration_id]
    borne = RoleChoice.of(role_id for role_id, _ in view.roles)
    return show(
        request,
        "integration.html",
        current,
        session,
        status_code=422 if errors else 409 if conflict else 200,
        integration=view,
        asks=integration_scopes.view(session, current.agent_id, integration_id),
        all_scopes=integration_scopes.SCOPES,
        username=view.username,
        typed_name=view.name if typed_name is None else typed_name,
        errors=errors or {},
        conflict=conflict,
        preview=effect,
        sure=choice.mark if choice and effect else "",
        roles=roles.list_roles(session, current.agent_id),
        borne=(choice or borne).role_ids,
        was=borne.text,
        live=live[0] if live else None,
        principal=principals.load(session, view.username, settings.root),
        refusals=denials.recent(session, integration_id=integration_id, limit=REFUSALS_SHOWN),
        undo={
            "path": address(current, f"/integrations/{integration_id}/roles") + "#roles",
            "fields": before.fields(was=borne),
            "text": "Saved.",
        }
        if before is not None
        else None,
    )


def _token_page(
    request: Request,
    current: AgentContext,
    session: Session,
    settings: Settings,
    view: IntegrationView,
    token: str,
    *,
    is_new: bool,
) -> Response:
    return show(
        request,
        "integration_token.html",
        current,
        session,
        integration=view,
        username=view.username,
        token=token,
        is_new=is_new,
        host=settings.device_mqtt_host,
        port=settings.device_mqtt_port,
        root=settings.root,
        tls=settings.tls_cert_file is not None,
    )


def _revoke_page(
    request: Request,
    current: AgentContext,
    session: Session,
    settings: Settings,
    integration_id: UUID,
    now: datetime,
    *,
    reason: str = "",
    problem: str = "",
) -> Response:
    found = find(session, current.agent_id, integration_id)
    return show(
        request,
        "confirm.html",
        current,
        session,
        status_code=422 if problem else 200,
        question=f"Revoke {found.name}?",
        sentences=["It is disconnected at once and can never connect again. There is no way back: add it anew."],
        action=address(current, f"/integrations/{integration_id}/revoke"),
        back=address(current, f"/integrations/{integration_id}"),
        keep="Keep it",
        do="Revoke it for good",
        wants_reason=True,
        reason=reason,
        problem=problem,
        preview=preview_revoking(session, current.agent_id, integration_id=integration_id, root=settings.root, now=now),
    )


def _ids(given: list[str]) -> list[UUID]:
    try:
        return [UUID(one) for one in given]
    except ValueError:
        raise Invalid("are roles of this agent", field="roles") from None
