"""One wish for all satellites with a tag: typed, shown with whom it reaches, sent, followed live, taken back."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response
from sqlmodel import Session
from starlette.datastructures import FormData

from hub import batches, device_views, feed, tags, verbs
from hub.batches import Plan, Wish
from hub.errors import HubError, Invalid
from hub.verbs import Verb
from web.dependencies import AdminAgent, AgentContext, CurrentAgent, CurrentVisitor, Db, Now
from web.pages import command_form, config_form, device_words, payload
from web.pages import devices as devices_page
from web.pages.command_form import DEADLINES, VerbForm
from web.pages.config_form import ConfigForm
from web.pages.typed_form import TypedForm, text_of
from web.templating import redirect, render

router = APIRouter(prefix="/batches")

_KINDS = ("command", "merge", "replace")


@dataclass(frozen=True, slots=True)
class Typed:
    """The form as it is shown: for a verb, or for values."""

    kind: str
    tag: str
    verb: str = ""
    verb_form: VerbForm | None = None
    config_form: ConfigForm | None = None
    errors: dict[str, str] = field(default_factory=dict)


@router.get("")
def overview(request: Request, current: CurrentAgent, session: Db) -> Response:
    """What was asked of many satellites at once."""
    return render(
        request,
        "batches.html",
        rev=feed.revision(session, current.agent_id),
        batches=batches.latest(session, current.agent_id),
        tags=tags.counted(session, current.agent_id),
        can_change=devices_page.can_change(current),
    )


@router.get("/new")
def new(
    request: Request,
    current: AdminAgent,
    session: Db,
    tag: Annotated[str, Query(max_length=32)] = "",
    kind: Annotated[str, Query(max_length=10)] = "command",
    verb: Annotated[str, Query(max_length=63)] = "",
) -> Response:
    """The form: first a verb of those that the satellites have, then its arguments; or values to set."""
    known = _verbs(session, current, tag)
    chosen = next((one for one in known if one.name == verb), None)
    typed = Typed(
        kind if kind in _KINDS else "command",
        tag,
        verb,
        command_form.of_verb(chosen) if chosen else None,
        config_form.of_values({}),
    )
    return _form(request, current, session, typed)


@router.post("")
def send(
    request: Request, current: AdminAgent, visitor: CurrentVisitor, session: Db, now: Now, form: TypedForm
) -> Response:
    """Show whom it would reach; and send it when that is what was shown."""
    typed = _typed(form, _verbs(session, current, text_of(form, "tag", most=200)))
    try:
        plan = batches.plan(session, current.agent_id, _wish(form, typed))
        _confirm(form, typed)
    except HubError as error:
        if not isinstance(error, Invalid):
            raise
        return _form(request, current, session, _typed(form, _verbs(session, current, typed.tag), error))
    if text_of(form, "do", most=20) != "send" or text_of(form, "previewed", most=64) != plan.digest:
        was_shown = text_of(form, "do", most=20) == "send"
        return _form(request, current, session, typed, plan=plan, has_changed=was_shown)
    batch = batches.send(session, current.agent_id, plan, by=visitor.label, now=now)
    return redirect(request, f"/batches/{batch.batch_id}", message=f"Sent to {len(plan.targets)} satellites.")


@router.get("/{batch_id}")
def show(request: Request, batch_id: UUID, current: CurrentAgent, session: Db) -> Response:
    """How each satellite fares."""
    rev = feed.revision(session, current.agent_id)
    return render(
        request,
        "batch.html",
        rev=rev,
        view=batches.view(session, current.agent_id, batch_id),
        words=device_words,
        payload=payload,
        shown=config_form.shown,
        can_change=devices_page.can_change(current),
    )


@router.post("/{batch_id}/cancel")
def cancel(
    request: Request, batch_id: UUID, current: AdminAgent, visitor: CurrentVisitor, session: Db, now: Now
) -> Response:
    """Take back the commands that still wait."""
    batch = batches.find(session, current.agent_id, batch_id)
    count = batches.cancel(session, batch, by=visitor.label, now=now)
    message = f"{count} commands are taken back." if count else "Nothing waits any more."
    return redirect(request, f"/batches/{batch_id}", message=message)


def _verbs(session: Session, current: AgentContext, tag: str) -> list[Verb]:
    """The verbs of all satellites with this tag, those that most of them have first."""
    found: dict[str, Verb] = {}
    having: Counter[str] = Counter()
    for device in device_views.overview(session, current.agent_id, tag=tag or None) if tag else ():
        for verb in verbs.of_hello(device.hello) if device.revoked_at is None else ():
            found.setdefault(verb.name, verb)
            having[verb.name] += 1
    return sorted(found.values(), key=lambda verb: (not verb.is_declared, -having[verb.name], verb.name))


def _typed(form: FormData, known: list[Verb], error: HubError | None = None) -> Typed:
    kind = text_of(form, "kind", most=20)
    tag, name = text_of(form, "tag", most=200), text_of(form, "verb", most=200)
    errors = {error.field or "tags": error.message} if error else {}
    verb = next((one for one in known if one.name == name), None)
    if verb is None and kind == "command" and name:
        verb = Verb(name, is_declared=False)
    wanted = command_form.of_verb(verb, command_form.typed_values(form), errors) if verb else None
    config = config_form.typed(form, errors) if kind in ("merge", "replace") else config_form.of_values({})
    return Typed(kind if kind in _KINDS else "command", tag, name, wanted, config, errors)


def _wish(form: FormData, typed: Typed) -> Wish:
    if typed.kind != "command":
        return Wish("merge" if typed.kind == "merge" else "replace", typed.tag, config_form.read_values(form))
    if typed.verb_form is None:
        raise Invalid("choose what they are to do", field="verb")
    ttl_s = text_of(form, "ttl_s", most=20)
    if ttl_s not in {str(one) for one in DEADLINES}:
        raise Invalid("is one of the deadlines", field="ttl_s")
    args = command_form.read_args(form, typed.verb_form)
    return Wish("command", typed.tag, args, typed.verb, float(ttl_s))


def _confirm(form: FormData, typed: Typed) -> None:
    is_high = typed.verb_form is not None and typed.kind == "command" and typed.verb_form.verb.risk == "high"
    if is_high and text_of(form, "do", most=20) == "send" and not text_of(form, "confirmed", most=10):
        raise Invalid("Its risk is high: tick that you mean it.", field="confirmed")


def _form(
    request: Request,
    current: AgentContext,
    session: Session,
    typed: Typed,
    *,
    plan: Plan | None = None,
    has_changed: bool = False,
) -> Response:
    context: dict[str, Any] = {
        "typed": typed,
        "plan": plan,
        "has_changed": has_changed,
        "verbs": _verbs(session, current, typed.tag),
        "tags": tags.counted(session, current.agent_id),
        "deadlines": DEADLINES,
    }
    return render(request, "batch_new.html", status_code=422 if typed.errors else 200, **context)
