"""Automations: written in steps (when, if, then), tried against the past, switched on, and what came of them."""

from dataclasses import dataclass
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Form, Query, Request, Response
from sqlmodel import Session

from hub import device_views, tags
from hub.actions import records as actions
from hub.automations import records, rehearsal, triggers
from hub.automations.records import AutomationView, Draft
from hub.automations.rehearsal import Rehearsal
from hub.errors import Conflict, HubError, Invalid
from hub.tools import registry
from hub.tools.tool import Tool
from web.dependencies import AdminAgent, AgentContext, CurrentVisitor, Db, MemberAgent, Now
from web.pages import action_words, rule_form
from web.pages.devices import can_change
from web.pages.rule_form import Row, Typed
from web.pages.typed_form import TypedForm, text_of, texts_of
from web.templating import local_url, redirect, render

router = APIRouter(prefix="/automations")

DAYS: Final = 7
KINDS: Final = {
    "event": "a satellite reports an event",
    "presence": "a satellite comes or goes",
    "telemetry": "a value passes a threshold",
    "time": "it is time",
}


@dataclass(frozen=True, slots=True)
class Choice:
    """What a form is for: a kind of trigger and a tool."""

    kind: str
    tool: Tool


@router.get("")
def overview(request: Request, current: MemberAgent, session: Db) -> Response:
    """All automations of the agent."""
    return render(
        request,
        "automations/list.html",
        automations=records.listed(session, current.agent_id),
        sentence=sentence,
        can_change=can_change(current),
    )


@router.get("/new")
def new(
    request: Request,
    current: AdminAgent,
    session: Db,
    kind: Annotated[str, Query(max_length=20)] = "",
    tool: Annotated[str, Query(max_length=63)] = "",
) -> Response:
    """First what sets it going and what it is to do, then the rest."""
    known = registry.load()
    choice = Choice(kind, known[tool]) if kind in KINDS and tool in known else None
    typed = Typed({"zone": "UTC"}, {"days": list(triggers.DAYS)}, [Row()] * rule_form.ROWS)
    return _form(request, current, session, choice, typed)


@router.post("")
def add(
    request: Request, current: AdminAgent, visitor: CurrentVisitor, session: Db, now: Now, form: TypedForm
) -> Response:
    """Try it against the past, or keep it."""
    return _save(request, current, visitor.label, session, now, form, None)


@router.get("/{automation_id}")
def show(request: Request, automation_id: UUID, current: MemberAgent, session: Db, now: Now) -> Response:
    """One of them, with what it would have done and what it did."""
    found = records.find(session, current.agent_id, automation_id)
    told: Rehearsal | None = None
    trouble = ""
    try:
        told = rehearsal.rehearse(session, current.agent_id, found.draft, DAYS, now)
    except HubError as error:
        trouble = f"{error.field}: {error.message}" if error.field else error.message
    proposed = actions.page(session, current.agent_id, actions.Filter(proposer=f"automation:{automation_id}"), limit=20)
    return render(
        request,
        "automations/one.html",
        automation=found,
        sentence=sentence(found),
        told=told,
        trouble=trouble,
        proposed=proposed.items,
        words=action_words,
        can_change=can_change(current),
    )


@router.get("/{automation_id}/edit")
def edit(request: Request, automation_id: UUID, current: AdminAgent, session: Db) -> Response:
    """Its form."""
    found = records.find(session, current.agent_id, automation_id)
    return _form(request, current, session, _choice(found.kind, found.tool), _typed_of(found), found)


@router.post("/{automation_id}")
def change(
    request: Request,
    automation_id: UUID,
    current: AdminAgent,
    visitor: CurrentVisitor,
    session: Db,
    now: Now,
    form: TypedForm,
) -> Response:
    """Give it another form, or try that first."""
    found = records.find(session, current.agent_id, automation_id)
    return _save(request, current, visitor.label, session, now, form, found)


@router.post("/{automation_id}/switch")
def switch(
    request: Request,
    automation_id: UUID,
    current: AdminAgent,
    visitor: CurrentVisitor,
    session: Db,
    now: Now,
    on: Annotated[bool, Form()] = False,  # noqa: FBT002  (a form's field)
) -> Response:
    """Switch it on or off."""
    found = records.switch(session, current.agent_id, automation_id, on=on, by=visitor.label, now=now)
    message = f"{found.name} is {'on' if on else 'off'}."
    return redirect(request, local_url(request, f"/automations/{automation_id}"), message=message)


@router.post("/{automation_id}/delete")
def delete(
    request: Request, automation_id: UUID, current: AdminAgent, visitor: CurrentVisitor, session: Db
) -> Response:
    """Remove it; what it proposed stays."""
    name = records.delete(session, current.agent_id, automation_id, by=visitor.label)
    return redirect(request, local_url(request, "/automations"), message=f"{name} is deleted.")


def sentence(one: AutomationView) -> str:
    """What it does, in a line."""
    trigger = one.trigger
    whose = trigger.get("device") or (f"a satellite tagged {trigger['tag']}" if trigger.get("tag") else "a satellite")
    lasts = f" for {trigger['for_s']:g} s" if trigger.get("for_s") else ""
    if one.kind == "event":
        when = f"When {whose} reports {trigger.get('type')}"
    elif one.kind == "presence":
        when = f"When {whose} is {' or '.join(trigger.get('to', ()))}{lasts}"
    elif one.kind == "telemetry":
        side = "above" if "above" in trigger else "below"
        when = f"When {trigger.get('stream')} of {whose} is {side} {trigger.get(side)}{lasts}"
    else:
        days = trigger.get("days") or []
        on = f" on {', '.join(days)}" if 0 < len(days) < len(triggers.DAYS) else ""
        when = f"At {trigger['at']}{on}" if trigger.get("at") else f"By the clock ({trigger.get('cron')})"
    held = rule_form.sentence(one.conditions)
    return f"{when}{held}: {action_words.sentence(one.tool, one.args)}"


def _save(
    request: Request,
    current: AgentContext,
    by: Any,
    session: Session,
    now: Any,
    form: TypedForm,
    found: AutomationView | None,
) -> Response:
    choice = _choice(text_of(form, "kind", most=20), text_of(form, "tool", most=63))
    try:
        draft = _draft(form, choice)
        if text_of(form, "do", most=10) == "test":
            told = rehearsal.rehearse(session, current.agent_id, draft, DAYS, now)
            return _form(request, current, session, choice, rule_form.typed(form), found, told=told)
        with session.begin_nested():
            if found is None:
                made = records.create(session, current.agent_id, draft, by=by, now=now)
            else:
                revision = int(rule_form.number(form, "revision", "revision") or 0)
                made = records.edit(
                    session, current.agent_id, found.automation_id, draft, revision=revision, by=by, now=now
                )
    except HubError as error:
        status = 409 if isinstance(error, Conflict) else 422
        return _form(request, current, session, choice, rule_form.typed(form, error), found, status=status)
    message = "It is kept. Look what it would have done, then switch it on." if found is None else "It is changed."
    return redirect(request, local_url(request, f"/automations/{made.automation_id}"), message=message)


def _choice(kind: str, tool: str) -> Choice:
    if kind not in KINDS:
        raise Invalid(f"is one of {', '.join(KINDS)}", field="kind")
    return Choice(kind, registry.find(tool))


def _draft(form: TypedForm, choice: Choice) -> Draft:
    trigger: dict[str, Any] = {}
    if choice.kind != "time":
        trigger |= {"device": text_of(form, "device", most=80), "tag": text_of(form, "tag", most=80)}
    if choice.kind == "event":
        trigger["type"] = text_of(form, "type", most=80).strip()
    elif choice.kind == "presence":
        trigger["to"] = texts_of(form, "to")
    elif choice.kind == "telemetry":
        trigger["stream"] = text_of(form, "stream", most=80).strip()
        side = "below" if text_of(form, "side", most=10) == "below" else "above"
        trigger[side] = rule_form.number(form, "bound", f"trigger.{side}")
        trigger["rearm"] = rule_form.number(form, "rearm", "trigger.rearm")
        if trigger[side] is None:
            raise Invalid("is required", field=f"trigger.{side}")
    else:
        cron, at = text_of(form, "cron", most=120).strip(), text_of(form, "at", most=10).strip()
        trigger |= {"cron": cron} if cron else {"at": at, "days": texts_of(form, "days")}
        trigger["zone"] = text_of(form, "zone", most=80).strip()
    if choice.kind in ("presence", "telemetry"):
        trigger["for_s"] = rule_form.number(form, "for_s", "trigger.for_s")
    return Draft(
        text_of(form, "name", most=400),
        choice.kind,
        trigger,
        choice.tool.name,
        rule_form.read_args(form, choice.tool),
        rule_form.read_conditions(form),
        text_of(form, "why", most=2_000),
        (rule_form.number(form, "cooldown", "cooldown_s") or 0.0) * 60,
    )


def _typed_of(found: AutomationView) -> Typed:
    trigger = found.trigger
    side = "below" if "below" in trigger else "above"
    values = {name: str(trigger[name]) for name in trigger if isinstance(trigger[name], str | int | float)}
    values |= {"name": found.name, "why": found.why, "cooldown": f"{found.cooldown_s / 60:g}", "side": side}
    values |= {"bound": f"{trigger[side]:g}"} if side in trigger else {}
    values |= rule_form.shown_args(registry.find(found.tool), found.args)
    many = {name: list(trigger.get(name) or []) for name in ("to", "days")}
    return Typed(values, many, rule_form.rows_of(found.conditions))


def _form(
    request: Request,
    current: AgentContext,
    session: Session,
    choice: Choice | None,
    typed: Typed,
    found: AutomationView | None = None,
    *,
    told: Rehearsal | None = None,
    status: int = 200,
) -> Response:
    return render(
        request,
        "automations/form.html",
        status_code=status,
        choice=choice,
        typed=typed,
        automation=found,
        told=told,
        kinds=KINDS,
        tools=list(registry.load().values()),
        args=rule_form.args_form(choice.tool, typed.values, typed.errors) if choice else None,
        comparisons=rule_form.COMPARISONS,
        verdicts=triggers.VERDICTS,
        days=triggers.DAYS,
        devices=[(one.handle, one.name) for one in device_views.overview(session, current.agent_id)],
        tags=list(tags.counted(session, current.agent_id)),
    )
