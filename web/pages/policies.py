"""Policies: what is approved without asking; written, rehearsed against what people decided, then switched on."""

from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Form, Query, Request, Response
from sqlmodel import Session

from hub import device_views, schedules, tags
from hub.errors import Conflict, HubError
from hub.policies import match, records, rehearsal, windows
from hub.policies.records import Draft, PolicyView
from hub.policies.rehearsal import Rehearsal
from hub.tools import registry
from hub.tools.tool import Tool
from web.dependencies import AdminAgent, AgentContext, CurrentVisitor, Db, MemberAgent, Now
from web.pages import action_words, rule_form
from web.pages.devices import can_change
from web.pages.rule_form import Row, Typed
from web.pages.typed_form import TypedForm, text_of, texts_of
from web.templating import local_url, redirect, render

router = APIRouter(prefix="/policies")

DAYS: Final = 30
RATES: Final = {60: "minute", 3_600: "hour", 86_400: "day"}


@router.get("")
def overview(request: Request, current: MemberAgent, session: Db) -> Response:
    """All policies of the agent."""
    return render(
        request,
        "policies/list.html",
        policies=records.listed(session, current.agent_id),
        sentence=sentence,
        can_change=can_change(current),
    )


@router.get("/new")
def new(
    request: Request, current: AdminAgent, session: Db, tool: Annotated[str, Query(max_length=63)] = ""
) -> Response:
    """First a tool, then what of it is approved."""
    chosen = registry.load().get(tool) if tool != schedules.TOOL else None
    scopes = list(chosen.scopes) if chosen else []
    values = {"zone": "UTC", "risk_max": "low", "rate_s": "3600", "rate_count": "10"}
    many = {"days": list(windows.DAYS), "scopes": scopes}
    return _form(request, current, session, chosen, Typed(values, many, [Row()] * rule_form.ROWS))


@router.post("")
def add(
    request: Request, current: AdminAgent, visitor: CurrentVisitor, session: Db, now: Now, form: TypedForm
) -> Response:
    """Keep it, switched off; the next page shows what it would have approved."""
    return _save(request, current, visitor.label, session, now, form, None)


@router.get("/{policy_id}")
def show(
    request: Request,
    policy_id: UUID,
    current: MemberAgent,
    session: Db,
    now: Now,
    days: Annotated[int, Query(ge=1, le=rehearsal.DAYS_MAX)] = DAYS,
) -> Response:
    """One of them with its rehearsal, which stands before the switch."""
    found = records.find(session, current.agent_id, policy_id)
    told: Rehearsal | None = None
    trouble = ""
    try:
        told = rehearsal.rehearse(session, current.agent_id, found.draft, days, now)
    except HubError as error:
        trouble = f"{error.field}: {error.message}" if error.field else error.message
    return render(
        request,
        "policies/one.html",
        policy=found,
        sentence=sentence(found),
        told=told,
        trouble=trouble,
        words=action_words,
        can_change=can_change(current),
    )


@router.get("/{policy_id}/edit")
def edit(request: Request, policy_id: UUID, current: AdminAgent, session: Db) -> Response:
    """Its form."""
    found = records.find(session, current.agent_id, policy_id)
    return _form(request, current, session, registry.find(found.tool), _typed_of(found), found)


@router.post("/{policy_id}")
def change(
    request: Request,
    policy_id: UUID,
    current: AdminAgent,
    visitor: CurrentVisitor,
    session: Db,
    now: Now,
    form: TypedForm,
) -> Response:
    """Give it another form; it is off until it is switched on anew."""
    found = records.find(session, current.agent_id, policy_id)
    return _save(request, current, visitor.label, session, now, form, found)


@router.post("/{policy_id}/switch")
def switch(
    request: Request,
    policy_id: UUID,
    current: AdminAgent,
    visitor: CurrentVisitor,
    session: Db,
    now: Now,
    revision: Annotated[int, Form()] = 0,
    on: Annotated[bool, Form()] = False,  # noqa: FBT002  (a form's field)
) -> Response:
    """Switch it on, in the form that was looked at, or off."""
    found = records.switch(session, current.agent_id, policy_id, on=on, revision=revision, by=visitor.label, now=now)
    message = f"{found.name} is {'on' if on else 'off'}."
    return redirect(request, local_url(request, f"/policies/{policy_id}"), message=message)


@router.post("/{policy_id}/delete")
def delete(request: Request, policy_id: UUID, current: AdminAgent, visitor: CurrentVisitor, session: Db) -> Response:
    """Remove it; what it approved stays approved."""
    name = records.delete(session, current.agent_id, policy_id, by=visitor.label)
    return redirect(request, local_url(request, "/policies"), message=f"{name} is deleted.")


def sentence(one: PolicyView) -> str:
    """What it lets through, in a line."""
    whose = f" of {one.device}" if one.device else f" of satellites tagged {one.tag}" if one.tag else ""
    held = rule_form.sentence(one.conditions)
    often = (
        f", at most {one.rate_count} per {RATES.get(int(one.rate_s or 0), f'{one.rate_s:g} s')}"
        if one.rate_count
        else ""
    )
    when = ""
    if isinstance(one.time_window, dict) and one.time_window:
        days = one.time_window.get("days") or []
        on = f", on {', '.join(days)}" if len(days) < len(windows.DAYS) else ""
        when = f"{on}, {one.time_window.get('from')} to {one.time_window.get('to')} ({one.time_window.get('zone')})"
    others = "" if one.other_args else ", with no other arguments"
    kinds = " or ".join("automation" if kind == "policy" else kind for kind in one.proposers)
    by = f", proposed by: {kinds}" if one.proposers else ""
    return f"Approves {one.tool}{whose} up to {one.risk_max} risk{held}{others}{by}{when}{often}."


def _save(
    request: Request,
    current: AgentContext,
    by: Any,
    session: Session,
    now: Any,
    form: TypedForm,
    found: PolicyView | None,
) -> Response:
    tool = registry.find(text_of(form, "tool", most=63))
    try:
        with session.begin_nested():
            draft = _draft(form, tool)
            if found is None:
                made = records.create(session, current.agent_id, draft, by=by, now=now)
            else:
                revision = int(rule_form.number(form, "revision", "revision") or 0)
                made = records.edit(
                    session, current.agent_id, found.policy_id, draft, revision=revision, by=by, now=now
                )
    except HubError as error:
        status = 409 if isinstance(error, Conflict) else 422
        return _form(request, current, session, tool, rule_form.typed(form, error), found, status=status)
    message = "It is kept, and off. Look what it would have approved."
    return redirect(request, local_url(request, f"/policies/{made.policy_id}"), message=message)


def _draft(form: TypedForm, tool: Tool) -> Draft:
    window = None
    if text_of(form, "from", most=10).strip() or text_of(form, "to", most=10).strip():
        window = {
            "days": texts_of(form, "days"),
            "from": text_of(form, "from", most=10).strip(),
            "to": text_of(form, "to", most=10).strip(),
            "zone": text_of(form, "zone", most=80).strip(),
        }
    count = rule_form.number(form, "rate_count", "rate_count")
    return Draft(
        text_of(form, "name", most=400),
        tool.name,
        tuple(texts_of(form, "scopes")),
        text_of(form, "device", most=80) or None,
        text_of(form, "tag", most=80) or None,
        rule_form.read_conditions(form),
        text_of(form, "other_args", most=10) == "true",
        window,
        int(count) if count is not None else None,
        rule_form.number(form, "rate_s", "rate_s") if count is not None else None,
        text_of(form, "risk_max", most=10),
        tuple(texts_of(form, "proposers")),
    )


def _typed_of(found: PolicyView) -> Typed:
    window = found.time_window or {}
    values = {
        "name": found.name,
        "device": found.device or "",
        "tag": found.tag or "",
        "risk_max": found.risk_max,
        "other_args": "true" if found.other_args else "",
        "rate_count": str(found.rate_count or ""),
        "rate_s": f"{found.rate_s or 3_600:g}",
        "from": window.get("from", ""),
        "to": window.get("to", ""),
        "zone": window.get("zone", "UTC"),
    }
    many = {"days": window.get("days", list(windows.DAYS)), "scopes": found.scopes, "proposers": found.proposers}
    return Typed(values, many, rule_form.rows_of(found.conditions))


def _form(
    request: Request,
    current: AgentContext,
    session: Session,
    tool: Tool | None,
    typed: Typed,
    found: PolicyView | None = None,
    *,
    status: int = 200,
) -> Response:
    known = {name: one for name, one in registry.load().items() if name != schedules.TOOL}
    return render(
        request,
        "policies/form.html",
        status_code=status,
        tool=tool,
        typed=typed,
        policy=found,
        tools=list(known.values()),
        scopes=sorted({scope for one in known.values() for scope in one.scopes}),
        comparisons=rule_form.COMPARISONS,
        days=windows.DAYS,
        risks=match.RISKS,
        proposers=match.PROPOSERS,
        rates=RATES,
        devices=[(one.handle, one.name) for one in device_views.overview(session, current.agent_id)],
        tags=list(tags.counted(session, current.agent_id)),
    )
