"""Claim codes and devices that ask to join: making a code, waiting for its device, approving or rejecting."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Final
from uuid import UUID

import segno
from fastapi import APIRouter, Form, Request, Response
from pydantic import BaseModel, Field
from sqlmodel import Session

from hub import claims, devices, enrolment_decisions, enrolment_records, feed, identity
from hub.access.scopes import VOCABULARY
from hub.claims import ClaimDraft, ClaimView
from hub.devices import DEFAULT_SCOPES, NAME_MAX
from hub.enrolment_decisions import REASON_MAX, Approval
from hub.enrolment_records import EnrolmentView
from hub.errors import HubError, Invalid
from hub.settings import Settings
from web.dependencies import AdminAgent, AgentContext, CurrentVisitor, Db, MemberAgent, Now, WebSettings
from web.device_address import is_local
from web.security import came_in_clear
from web.templating import redirect, render

router = APIRouter(prefix="/devices")
public = APIRouter()

# What can be chosen as lifetime, in minutes.
LIFETIMES: Final = {15: "15 minutes", 60: "an hour", 1440: "a day", 10080: "a week"}
_ADMINS: Final = frozenset({"owner", "admin"})


class DeviceForm(BaseModel):
    """What a device shall be."""

    name: Annotated[str, Field(max_length=400)] = ""
    handle: Annotated[str, Field(max_length=400)] = ""
    space: Annotated[str, Field(max_length=64)] = ""
    scopes: Annotated[list[str], Field(max_length=50)] = []


class ClaimForm(DeviceForm):
    """The same, for the device that will come with a code; `device` is the one that is there already."""

    minutes: int = claims.MINUTES
    approval: Annotated[str, Field(max_length=20)] = "person"
    device: UUID | None = None


def joining(session: Session, current: AgentContext, now: datetime) -> dict[str, Any]:
    """What the Devices page says of those who ask to join; nothing to guests, codes to admins alone."""
    is_admin = current.role in _ADMINS
    return {
        "waiting": [] if current.role == "guest" else enrolment_records.waiting(session, current.agent_id, now),
        "codes": claims.open_ones(session, current.agent_id, now) if is_admin else [],
        "can_decide": is_admin,
    }


@router.get("/joining")
def joining_part(request: Request, current: MemberAgent, session: Db, now: Now) -> Response:
    """The part of the Devices page with devices that ask to join."""
    rev = feed.revision(session, current.agent_id)
    return render(request, "enrolment/joining.html", rev=rev, **joining(session, current, now))


@router.get("/claim")
def new(request: Request, current: AdminAgent, session: Db, device: UUID | None = None) -> Response:
    """The form for a claim code, for a new device or for one that is there."""
    values = {"scopes": list(DEFAULT_SCOPES), "minutes": claims.MINUTES, "approval": "person", "device": device}
    return _claim_form(request, session, current, values=values)


@router.post("/claim")
def make(
    request: Request,
    current: AdminAgent,
    visitor: CurrentVisitor,
    session: Db,
    settings: WebSettings,
    now: Now,
    form: Annotated[ClaimForm, Form()],
) -> Response:
    """Make a code and show it, this once."""
    rev = feed.revision(session, current.agent_id)
    try:
        draft = ClaimDraft(
            name=form.name.strip() or None,
            handle=form.handle.strip() or None,
            space_id=_space(session, current, form.space),
            scopes=tuple(form.scopes),
            device_id=form.device,
            needs_approval=form.approval != "code",
            minutes=form.minutes,
        )
        user_id = visitor.user.user_id
        made = claims.create(session, current.agent_id, draft, by=visitor.label, user_id=user_id, now=now)
    except HubError as error:
        if error.field is None:
            raise
        return _claim_form(request, session, current, values=form.model_dump(), errors={error.field: error.message})
    return _claim_page(request, session, current, settings, made.claim, now, rev=rev, code=made.code)


@router.get("/claims/{claim_id}")
def show(
    request: Request, claim_id: UUID, current: AdminAgent, session: Db, settings: WebSettings, now: Now
) -> Response:
    """A code's page once more, without the code: who used it, and what became of that."""
    rev = feed.revision(session, current.agent_id)
    claim = claims.find(session, current.agent_id, claim_id)
    return _claim_page(request, session, current, settings, claim, now, rev=rev)


@router.get("/claims/{claim_id}/state")
def state(request: Request, claim_id: UUID, current: AdminAgent, session: Db, now: Now) -> Response:
    """The part of a code's page that says whether a device has come."""
    claim = claims.find(session, current.agent_id, claim_id)
    return render(request, "enrolment/state.html", **_state(session, current, claim, now))


@router.post("/claims/{claim_id}/withdraw")
def withdraw(
    request: Request, claim_id: UUID, current: AdminAgent, visitor: CurrentVisitor, session: Db, now: Now
) -> Response:
    """Make a code worthless."""
    claims.withdraw(session, current.agent_id, claim_id, by=visitor.label, now=now)
    return redirect(request, "/devices", message="The code is withdrawn: no device can use it any more.")


@router.get("/enrolments/{enrolment_id}")
def look(request: Request, enrolment_id: UUID, current: AdminAgent, session: Db) -> Response:
    """A device that asks to join, with the form to let it in."""
    view = enrolment_records.find(session, current.agent_id, enrolment_id)
    return _decision(request, session, current, view, values=_proposal(session, view))


@router.post("/enrolments/{enrolment_id}/approve")
def approve(
    request: Request,
    enrolment_id: UUID,
    current: AdminAgent,
    visitor: CurrentVisitor,
    session: Db,
    now: Now,
    form: Annotated[DeviceForm, Form()],
) -> Response:
    """Let it in."""
    view = enrolment_records.find(session, current.agent_id, enrolment_id)
    try:
        if not form.name.strip() and not view.is_known:
            raise Invalid("is required", field="name")
        approval = Approval(
            name=form.name,
            handle=form.handle.strip() or None,
            space_id=_space(session, current, form.space),
            scopes=form.scopes,
        )
        device = enrolment_decisions.approve(
            session, current.agent_id, enrolment_id, approval, by=visitor.label, now=now
        )
    except HubError as error:
        if error.field is None:
            raise
        errors = {error.field: error.message}
        return _decision(request, session, current, view, values=form.model_dump(), errors=errors)
    return redirect(
        request, f"/devices/{device.device_id}", message=f"{device.name} is approved. It fetches its token by itself."
    )


@router.post("/enrolments/{enrolment_id}/reject")
def reject(
    request: Request,
    enrolment_id: UUID,
    current: AdminAgent,
    visitor: CurrentVisitor,
    session: Db,
    now: Now,
    reason: Annotated[str, Form(max_length=400)] = "",
) -> Response:
    """Send it away."""
    view = enrolment_records.find(session, current.agent_id, enrolment_id)
    try:
        enrolment_decisions.reject(session, current.agent_id, enrolment_id, by=visitor.label, now=now, reason=reason)
    except Invalid as error:
        values = _proposal(session, view) | {"reason": reason}
        return _decision(request, session, current, view, values=values, errors={str(error.field): error.message})
    return redirect(request, "/devices", message=f"{view.called} is rejected and is told so.")


@public.get("/enrol")
def scanned(request: Request) -> Response:
    """Where the picture of a code leads a phone. The code stands behind the #, so it is never sent here."""
    return render(request, "enrol.html", hub=_address(request))


def _claim_form(
    request: Request,
    session: Session,
    current: AgentContext,
    *,
    values: Mapping[str, Any],
    errors: Mapping[str, str] | None = None,
) -> Response:
    device_id = values.get("device")
    return render(
        request,
        "enrolment/claim_new.html",
        status_code=422 if errors else 200,
        values=values,
        errors=errors or {},
        device=devices.find(session, current.agent_id, device_id) if device_id else None,
        spaces=identity.spaces_of(session, current.agent_id),
        vocabulary=VOCABULARY,
        name_max=NAME_MAX,
        lifetimes=LIFETIMES,
    )


def _claim_page(
    request: Request,
    session: Session,
    current: AgentContext,
    settings: Settings,
    claim: ClaimView,
    now: datetime,
    *,
    rev: int,
    code: str = "",
) -> Response:
    hub = _address(request)
    link = f"{hub}/enrol#code={code}"
    # Drawn on white with its quiet zone, so that cameras read it in dark mode too.
    picture = segno.make(link, error="m", micro=False).svg_data_uri(scale=6, border=4, dark="#000", light="#fff")
    return render(
        request,
        "enrolment/claim.html",
        code=code,
        link=link,
        picture=picture if code else "",
        hub=hub,
        is_local=is_local(request.url.hostname or ""),
        in_clear=came_in_clear(request) and not settings.enrol_over_http,
        rev=rev,
        **_state(session, current, claim, now),
    )


def _state(session: Session, current: AgentContext, claim: ClaimView, now: datetime) -> dict[str, Any]:
    return {
        "claim": claim,
        "state": claim.state(now),
        "enrolment": enrolment_records.of_claim(session, current.agent_id, claim.claim_id),
        "can_decide": True,
    }


def _decision(
    request: Request,
    session: Session,
    current: AgentContext,
    view: EnrolmentView,
    *,
    values: Mapping[str, Any],
    errors: Mapping[str, str] | None = None,
) -> Response:
    return render(
        request,
        "enrolment/decision.html",
        status_code=422 if errors else 200,
        enrolment=view,
        values=values,
        errors=errors or {},
        spaces=identity.spaces_of(session, current.agent_id),
        vocabulary=VOCABULARY,
        name_max=NAME_MAX,
        reason_max=REASON_MAX,
        rev=feed.revision(session, current.agent_id),
        can_decide=False,
    )


def _proposal(session: Session, view: EnrolmentView) -> dict[str, Any]:
    """What the form holds at first: what the code says, then what the device says."""
    name = view.name or view.said_name
    handle = view.handle or ""
    if name and not handle and not view.is_known:
        try:
            handle = devices.propose_handle(session, name)
        except Invalid:
            handle = ""  # no letter in it that a handle may have: a person has to find one
    return {"name": name, "handle": handle, "space": str(view.space_id or ""), "scopes": view.scopes}


def _space(session: Session, current: AgentContext, ref: str) -> UUID | None:
    return identity.find_space(session, current.agent_id, ref).space_id if ref else None


def _address(request: Request) -> str:
    return f"{request.url.scheme}://{request.url.netloc}"
