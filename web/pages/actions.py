"""Where people decide: what waits for them, one action with all that was said about it, and a form to propose one."""

from collections.abc import Mapping
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response
from sqlmodel import Session

from hub import events, feed, spaces
from hub.access.callers import visitor as caller_of
from hub.actions import approval_rules, deciding, proposing, records
from hub.actions.deciding import Decider
from hub.actions.proposing import Proposal, Proposer
from hub.actions.records import ActionView, Filter
from hub.actions.states import STATUSES, Status
from hub.errors import Conflict, HubError, Invalid, NotFound
from hub.operations.questions import read_cursor, write_cursor
from hub.tools import registry
from hub.tools.tool import Tool
from hub.verbs import Verb
from web.dependencies import AgentContext, CurrentVisitor, Db, MemberAgent, Now
from web.pages import action_words, command_form
from web.pages.command_form import VerbForm
from web.pages.typed_form import TypedForm, text_of
from web.templating import local_url, redirect, render

router = APIRouter(prefix="/actions")

PAGE = 50


@router.get("")
def overview(
    request: Request,
    current: MemberAgent,
    session: Db,
    status: Annotated[str, Query(max_length=20)] = "",
    tool: Annotated[str, Query(max_length=63)] = "",
    before: Annotated[str, Query(max_length=80)] = "",
) -> Response:
    """What waits for people, then everything else, newest first."""
    rev = feed.revision(session, current.agent_id)
    wanted = Filter(_status(status), tool or None)
    found = records.page(session, current.agent_id, wanted, before=read_cursor(before) if before else None, limit=PAGE)
    rules = approval_rules.view(session, current.agent_id)
    waiting = [] if before else records.waiting(session, current.agent_id)
    return render(
        request,
        "actions/list.html",
        rev=rev,
        waiting=waiting,
        mine={one.action_id for one in waiting if rules.may_decide(current.role, one.risk)},
        items=[one for one in found.items if one.status != "proposed" or wanted.status == "proposed"],
        following=write_cursor(*found.next) if found.next else "",
        before=before,
        query={name: value for name, value in (("status", status), ("tool", tool)) if value},
        statuses=STATUSES,
        tools=list(registry.load()),
        words=action_words,
    )


@router.get("/waiting")
def waiting(current: MemberAgent, session: Db) -> dict[str, Any]:
    """How many wait for this person, and the newest of them: for the badge, and for the browser's own notification."""
    rules = approval_rules.view(session, current.agent_id)
    mine = [one for one in records.waiting(session, current.agent_id) if rules.may_decide(current.role, one.risk)]
    newest = max(mine, key=lambda one: one.created_at, default=None)
    return {
        "count": len(mine),
        "newest": {"action_id": str(newest.action_id), "tool": newest.tool, "risk": newest.risk} if newest else None,
    }


@router.get("/new")
def new(
    request: Request, current: MemberAgent, session: Db, tool: Annotated[str, Query(max_length=63)] = ""
) -> Response:
    """First a tool, then what it takes."""
    chosen = registry.load().get(tool)
    return _form(
        request, current, session, chosen, command_form.of_verb(command_form.as_verb(chosen)) if chosen else None
    )


@router.post("")
def propose(
    request: Request, current: MemberAgent, visitor: CurrentVisitor, session: Db, now: Now, form: TypedForm
) -> Response:
    """Propose it in one's own name."""
    chosen = registry.find(text_of(form, "tool", most=200))
    verb = command_form.as_verb(chosen)
    person = caller_of(session, visitor)
    try:
        with session.begin_nested():
            args = command_form.read_args(form, command_form.of_verb(verb))
            space = text_of(form, "space", most=80)
            proposal = Proposal(
                chosen.name, args, text_of(form, "why", most=5_000), space_id=UUID(space) if space else None
            )
            proposer = Proposer(person.name, person.label)
            made = proposing.propose(session, current.agent_id, proposal, proposer=proposer, now=now)
    except (Invalid, NotFound, Conflict) as error:
        errors = {error.field or "args": error.message}
        typed = command_form.of_verb(verb, command_form.typed_values(form), errors)
        return _form(request, current, session, chosen, typed, status=422)
    except ValueError:
        raise NotFound("the agent has no such space", field="space") from None
    return redirect(request, local_url(request, f"/actions/{made.action.action_id}"), message="It is proposed.")


@router.get("/{action_id}")
def show(request: Request, action_id: UUID, current: MemberAgent, session: Db) -> Response:
    """One action with its timeline, and the decision."""
    return _one(request, current, session, action_id)


@router.post("/{action_id}/{what}")
def decide(
    request: Request,
    action_id: UUID,
    what: str,
    current: MemberAgent,
    visitor: CurrentVisitor,
    session: Db,
    now: Now,
    form: TypedForm,
) -> Response:
    """Approve, reject, take back or edit; what was seen travels along, and what has changed since is shown."""
    by = _decider(session, visitor, current)
    action = records.find(session, current.agent_id, action_id)
    facts: Mapping[str, Any] = {"by": by, "now": now}
    try:
        with session.begin_nested():
            if what == "edit":
                args = command_form.read_args(form, edit_form(action))
                deciding.edit(session, current.agent_id, action_id, args, revision=_number(form, "revision"), **facts)
            elif what == "approve":
                digest, reason = text_of(form, "digest", most=64), text_of(form, "reason", most=5_000)
                deciding.approve(session, current.agent_id, action_id, digest=digest, reason=reason, **facts)
            elif what in ("reject", "cancel"):
                act = deciding.reject if what == "reject" else deciding.cancel
                act(session, current.agent_id, action_id, reason=text_of(form, "reason", most=5_000), **facts)
            else:
                raise NotFound("there is nothing of that name to do")
    except (Invalid, Conflict) as error:
        if request.headers.get("accept", "").startswith("application/json"):
            raise
        typed = command_form.typed_values(form)
        status = 422 if isinstance(error, Invalid) else 409
        return _one(request, current, session, action_id, error=error, typed=typed, what=what, status=status)
    after = records.find(session, current.agent_id, action_id)
    return redirect(request, local_url(request, f"/actions/{action_id}"), message=_told(what, after))


def edit_form(
    action: ActionView, typed: Mapping[str, str] | None = None, errors: Mapping[str, str] | None = None
) -> VerbForm:
    """The form for its arguments as they are, or as they were typed; as JSON where its tool is gone."""
    tool = registry.load().get(action.tool)
    verb = command_form.as_verb(tool) if tool is not None else Verb(action.tool, trouble="is not known any more")
    form = command_form.of_verb(verb, typed or {}, errors or {})
    if typed is not None:
        return form
    values = {"args": action_words.pretty(action.args)}
    for one in form.fields or ():
        if one.name in action.args:
            value = action.args[one.name]
            values[f"arg.{one.name}"] = value if one.kind == "string" else command_form.as_json(value)
        else:
            values[f"arg.{one.name}"] = ""
    return command_form.of_verb(verb, values)


def _decider(session: Session, visitor: Any, current: AgentContext) -> Decider:
    person = caller_of(session, visitor)
    return Decider(person.name, person.label, current.role, person.user_id)


def _form(
    request: Request,
    current: AgentContext,
    session: Session,
    chosen: Tool | None,
    form: VerbForm | None,
    *,
    status: int = 200,
) -> Response:
    return render(
        request,
        "actions/new.html",
        status_code=status,
        tools=list(registry.load().values()),
        chosen=chosen,
        form=form,
        spaces=[(one.space_id, one.name) for one in spaces.overview(session, current.agent_id)],
        why_max=proposing.WHY_MAX,
    )


def _one(
    request: Request,
    current: AgentContext,
    session: Session,
    action_id: UUID,
    *,
    error: HubError | None = None,
    typed: Mapping[str, str] | None = None,
    what: str = "",
    status: int = 200,
) -> Response:
    rev = feed.revision(session, current.agent_id)
    action = records.find(session, current.agent_id, action_id)
    rules = approval_rules.view(session, current.agent_id)
    is_edit = what == "edit" and typed is not None
    errors = {error.field or "args": error.message} if error is not None and is_edit else {}
    cause = events.by_ids(session, current.agent_id, [action.cause_event_id]) if action.cause_event_id else []
    return render(
        request,
        "actions/one.html",
        status_code=status,
        rev=rev,
        action=action,
        words=action_words,
        rule=rules.of(action.risk),
        may_decide=rules.may_decide(current.role, action.risk),
        form=edit_form(action, typed if is_edit else None, errors),
        is_edit=is_edit,
        error=error,
        cause=cause[0] if cause else None,
        reason=(typed or {}).get("reason", ""),
    )


def _told(what: str, action: ActionView) -> str:
    if what == "approve":
        left = action.approvals_needed - action.approvals
        return "It is approved." if action.status != "proposed" else f"Your yes counts; it takes {left} more."
    return {"reject": "It is rejected.", "cancel": "It is taken back.", "edit": "Its arguments are changed."}[what]


def _number(form: TypedForm, name: str) -> int:
    typed = text_of(form, name, most=12)
    if not typed.isascii() or not typed.isdigit():
        raise Invalid("is a number", field=name)
    return int(typed)


def _status(given: str) -> Status | None:
    return next((one for one in STATUSES if one == given), None)
