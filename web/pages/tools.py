"""What actions can do, and what admins allow of it: who decides, which hosts are asked, how people are notified."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Form, Request, Response
from sqlmodel import Session

from hub import args_schema, notify_channels, outside_hosts, schedules
from hub.actions import approval_rules
from hub.actions.approval_rules import RISKS, ROLES, Rule, Rules
from hub.errors import Conflict, HubError, Invalid
from hub.outside import METHODS
from hub.sealed import Sealed
from hub.tools import registry
from web.dependencies import AdminAgent, AgentContext, CurrentVisitor, Db, MemberAgent, Now, WebSettings
from web.pages import action_words
from web.pages.devices import can_change
from web.pages.typed_form import TypedForm, text_of, texts_of
from web.templating import local_url, redirect, render

router = APIRouter(prefix="/tools")

HOURS = {1: "1 hour", 4: "4 hours", 24: "1 day", 72: "3 days", 168: "7 days", 720: "30 days"}
Text = Annotated[str, Form(max_length=3_000)]


@router.get("")
def overview(request: Request, current: MemberAgent, session: Db) -> Response:
    """All tools, and what they may do here."""
    return _page(request, current, session)


@router.post("/rules")
def rules(request: Request, current: AdminAgent, visitor: CurrentVisitor, session: Db, form: TypedForm) -> Response:
    """Say who decides."""
    typed = {name: value for name, value in form.multi_items() if isinstance(value, str)}
    try:
        with session.begin_nested():
            approval_rules.change(session, current.agent_id, _rules(form), by=visitor.label)
    except (Invalid, Conflict) as error:
        status = 409 if isinstance(error, Conflict) else 422
        return _page(request, current, session, part="rules", typed=typed, error=error, status=status)
    return redirect(request, local_url(request, "/tools"), message="Decided by these rules from now on.")


@router.post("/hosts")
def allow(request: Request, current: AdminAgent, visitor: CurrentVisitor, session: Db, form: TypedForm) -> Response:
    """Let `http_request` ask a host."""
    host, methods = text_of(form, "host", most=300), texts_of(form, "methods")
    try:
        with session.begin_nested():
            outside_hosts.allow(session, current.agent_id, host, methods, by=visitor.label)
    except HubError as error:
        typed = {"host": host, "methods": methods}
        return _page(request, current, session, part="hosts", typed=typed, error=error, status=422)
    return redirect(request, local_url(request, "/tools"), message=f"{host} may be asked.")


@router.post("/hosts/forbid")
def forbid(request: Request, current: AdminAgent, visitor: CurrentVisitor, session: Db, host: Text = "") -> Response:
    """Let it ask a host no more."""
    outside_hosts.forbid(session, current.agent_id, host, by=visitor.label)
    return redirect(request, local_url(request, "/tools"), message=f"{host} is asked no more.")


@router.post("/channels")
def add_channel(
    request: Request,
    current: AdminAgent,
    visitor: CurrentVisitor,
    session: Db,
    settings: WebSettings,
    name: Text = "",
    url: Text = "",
    token: Text = "",
) -> Response:
    """Add a channel; its secret is not shown again, not even in a form that is wrong."""
    secret = notify_channels.Secret(url, token)
    try:
        with session.begin_nested():
            notify_channels.add(
                session,
                current.agent_id,
                name,
                secret,
                sealed=Sealed(settings),
                private_hosts=settings.private_hosts,
                by=visitor.label,
            )
    except HubError as error:
        return _page(request, current, session, part="channels", typed={"name": name}, error=error, status=422)
    return redirect(request, local_url(request, "/tools"), message=f"{name} is there.")


@router.post("/channels/{channel_id}/remove")
def remove_channel(
    request: Request, channel_id: UUID, current: AdminAgent, visitor: CurrentVisitor, session: Db
) -> Response:
    """Remove a channel with its secret."""
    name = notify_channels.remove(session, current.agent_id, channel_id, by=visitor.label)
    return redirect(request, local_url(request, "/tools"), message=f"{name} is removed.")


@router.post("/schedules/{schedule_id}/stop")
def stop(
    request: Request, schedule_id: UUID, current: AdminAgent, visitor: CurrentVisitor, session: Db, now: Now
) -> Response:
    """End a schedule for good."""
    schedules.stop(session, current.agent_id, schedule_id, by=visitor.label, now=now)
    return redirect(request, local_url(request, "/tools"), message="The schedule is stopped.")


def _rules(form: TypedForm) -> Rules:
    by_risk: dict[str, Any] = {}
    for risk in RISKS:
        role, count = text_of(form, f"{risk}_role", most=20), text_of(form, f"{risk}_approvals", most=4)
        if not count.isascii() or not count.isdigit():
            raise Invalid("is a number", field=f"{risk}_approvals")
        by_risk[risk] = Rule(role, int(count))  # type: ignore[arg-type]  # judged by the domain
    hours, revision = text_of(form, "hours", most=6), text_of(form, "revision", most=12)
    if not (hours.isascii() and hours.isdigit() and revision.isascii() and revision.isdigit()):
        raise Invalid("is one of the choices", field="expires_s")
    return Rules(**by_risk, expires_s=int(hours) * 3_600.0, revision=int(revision))


def _page(
    request: Request,
    current: AgentContext,
    session: Session,
    *,
    part: str = "",
    typed: dict[str, Any] | None = None,
    error: HubError | None = None,
    status: int = 200,
) -> Response:
    found = approval_rules.view(session, current.agent_id)
    shown: dict[str, Any] = {f"{risk}_role": found.of(risk).role for risk in RISKS}
    shown |= {f"{risk}_approvals": found.of(risk).approvals for risk in RISKS}
    shown |= {"hours": round(found.expires_s / 3_600), "revision": found.revision}
    if part == "rules" and typed is not None:
        shown |= {name: value for name, value in typed.items() if name != "revision"}
    return render(
        request,
        "actions/tools.html",
        status_code=status,
        tools=list(registry.load().values()),
        fields={one.name: args_schema.form_fields(one.schema) or [] for one in registry.load().values()},
        rules=shown,
        risks=RISKS,
        roles=ROLES,
        hours=HOURS | {int(shown["hours"]): HOURS.get(int(shown["hours"]), f"{shown['hours']} hours")},
        hosts=outside_hosts.listed(session, current.agent_id),
        methods=METHODS,
        channels=notify_channels.listed(session, current.agent_id),
        schedules=schedules.listed(session, current.agent_id),
        words=action_words,
        part=part,
        typed=typed or {},
        error=error,
        can_change=can_change(current),
    )
