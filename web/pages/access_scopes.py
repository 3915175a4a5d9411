"""The scopes of one device: shown with all that follows, changed with every effect shown before it is saved."""

import hashlib
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Form, Request, Response
from pydantic import BaseModel, Field
from sqlmodel import Session

from hub import audit, device_views, devices
from hub.access import principals
from hub.access.preview import Preview, preview_scopes
from hub.access.scopes import VOCABULARY, Scope
from hub.device_views import DeviceView
from hub.errors import Invalid
from web.dependencies import AdminAgent, AgentContext, CurrentVisitor, Db, MemberAgent, Now, WebSettings
from web.pages.access_frame import EntryId, address, just_saved, show
from web.templating import redirect

router = APIRouter(prefix="/access/devices")


class ScopesForm(BaseModel):
    """The form's fields; `was` are the scopes that it began with, `previewed` marks those whose effect was shown."""

    scopes: Annotated[list[str], Field(max_length=50)] = []
    was: Annotated[str, Field(max_length=2_000)] = ""
    previewed: Annotated[str, Field(max_length=64)] = ""
    do: Annotated[str, Field(max_length=20)] = "preview"


@router.get("/{device_id}")
def open_one(
    request: Request,
    device_id: UUID,
    current: MemberAgent,
    session: Db,
    settings: WebSettings,
    saved: EntryId = 0,
) -> Response:
    """The scopes of a device; `saved` names the change that was just made."""
    device = device_views.view(session, current.agent_id, device_id)
    entry = just_saved(session, current, saved, "device.scopes_changed")
    before = (entry.before or {}).get("scopes") if entry and entry.subject_id == device_id else None
    return _page(request, current, session, device, settings.root, typed=device.scopes, before=before)


@router.post("/{device_id}/preview")
def look(
    request: Request,
    device_id: UUID,
    current: AdminAgent,
    session: Db,
    settings: WebSettings,
    now: Now,
    form: Annotated[ScopesForm, Form()],
) -> Response:
    """What giving the device these scopes would change; a piece of a page."""
    given = form.scopes
    effect = preview_scopes(session, current.agent_id, device_id, given, root=settings.root, now=now)
    return show(request, "preview.html", current, session, preview=effect, sure=_mark(given))


@router.post("/{device_id}")
def edit(
    request: Request,
    device_id: UUID,
    current: AdminAgent,
    visitor: CurrentVisitor,
    session: Db,
    settings: WebSettings,
    now: Now,
    form: Annotated[ScopesForm, Form()],
) -> Response:
    """Give the device these scopes, or show what that would change."""
    given = form.scopes
    found = devices.find(session, current.agent_id, device_id)
    session.refresh(found, with_for_update=True)  # two who save at once: the second sees what the first has done
    device = device_views.view(session, current.agent_id, device_id)
    try:
        effect = preview_scopes(session, current.agent_id, device_id, given, root=settings.root, now=now)
    except Invalid as error:
        return _page(request, current, session, device, settings.root, typed=given, problem=error.message)
    conflict = sorted(_split(form.was)) != sorted(device.scopes)
    if conflict or form.do != "save" or form.previewed != _mark(given):
        return _page(request, current, session, device, settings.root, typed=given, effect=effect, conflict=conflict)
    devices.set_scopes(session, found, given, by=visitor.label)
    newest = audit.entries(session, current.agent_id, subject_id=device_id, limit=1)
    saved = newest[0].entry_id if newest else None
    return redirect(request, address(current, f"/access/devices/{device_id}", saved=saved))


def _page(
    request: Request,
    current: AgentContext,
    session: Session,
    device: DeviceView,
    root: str,
    *,
    typed: list[str],
    before: list[str] | None = None,
    effect: Preview | None = None,
    problem: str = "",
    conflict: bool = False,
) -> Response:
    return show(
        request,
        "device.html",
        current,
        session,
        tab="/access",
        status_code=422 if problem else 409 if conflict else 200,
        device=device,
        typed=typed,
        choices=_choices(device.scopes, typed),
        principal=principals.load(session, device.handle, root),
        preview=effect,
        sure=_mark(typed) if effect else "",
        problem=problem,
        conflict=conflict,
        undo=_undo(current, device, before) if before is not None else None,
    )


def _undo(current: AgentContext, device: DeviceView, before: list[str]) -> dict[str, Any]:
    """The way back: the same form, filled with the scopes from before, as long as nobody has changed them since."""
    fields = [("scopes", scope) for scope in before]
    fields += [("was", ",".join(device.scopes)), ("previewed", _mark(before)), ("do", "save")]
    return {"path": address(current, f"/access/devices/{device.device_id}"), "fields": fields, "text": "Saved."}


def _choices(held: list[str], typed: list[str]) -> list[tuple[str, str]]:
    """The scopes that are served, and those that the device has beyond them."""
    offered = [scope for scope in VOCABULARY.values() if scope.is_served or scope.name in {*held, *typed}]
    wide = [name for name in dict.fromkeys([*held, *typed]) if name not in VOCABULARY]
    return [_choice(scope) for scope in offered] + [(name, "several at once") for name in wide]


def _choice(scope: Scope) -> tuple[str, str]:
    return scope.name, scope.about if scope.is_served else f"{scope.about} (nothing here uses it yet)"


def _split(scopes: str) -> list[str]:
    """The scopes of a text with commas between."""
    return [scope for scope in scopes.split(",") if scope]


def _mark(scopes: list[str]) -> str:
    return hashlib.sha256(repr(sorted(set(scopes))).encode("utf-8", "replace")).hexdigest()[:32]
