"""A satellite's page: which other satellite checks it, and whom it checks itself."""

from dataclasses import asdict, dataclass
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Depends, Form, Request, Response
from sqlmodel import Session

from hub import device_views, devices, proxied, proxying
from hub.device_views import DeviceView
from hub.errors import HubError, Invalid
from web.dependencies import AdminAgent, CurrentVisitor, Db, Now
from web.pages import device_page
from web.templating import local_url, redirect

router = APIRouter(prefix="/devices")

KINDS: Final = (("network", "an address takes a connection"), ("serial", "a serial port opens"))


@dataclass
class Checked:
    """What a form says of who checks a remote, as it was typed."""

    proxy: Annotated[str, Form(max_length=64)] = ""
    kind: Annotated[str, Form(max_length=20)] = "network"
    address: Annotated[str, Form(max_length=400)] = ""
    every_s: Annotated[str, Form(max_length=20)] = "30"


CheckedForm = Annotated[Checked, Depends()]


@router.post("/{device_id}/proxy")
def assign(
    request: Request,
    device_id: UUID,
    current: AdminAgent,
    visitor: CurrentVisitor,
    session: Db,
    now: Now,
    checked: CheckedForm,
) -> Response:
    """Let another satellite check it and report for it."""
    device = devices.find(session, current.agent_id, device_id)
    try:
        with session.begin_nested():
            let_check(session, current.agent_id, device_id, checked, by=visitor.label)
    except HubError as error:
        if error.field is None:
            raise
        session.refresh(device)
        form = {"proxy_typed": asdict(checked), "proxy_errors": {error.field: error.message}}
        return device_page.page(request, device_id, current, session, now, status_code=422, proxy=form)
    path = local_url(request, f"/devices/{device_id}")
    return redirect(request, path, message="Saved. It is unknown until the first report.")


@router.post("/{device_id}/proxy/end")
def end(request: Request, device_id: UUID, current: AdminAgent, visitor: CurrentVisitor, session: Db) -> Response:
    """Let nobody check it any more."""
    device = devices.find(session, current.agent_id, device_id)
    proxying.end(session, device, by=visitor.label)
    return redirect(request, local_url(request, f"/devices/{device_id}"), message="It is checked no more.")


def let_check(session: Session, agent_id: UUID, device_id: UUID, checked: Checked, *, by: str) -> None:
    """The same from the texts of a form; raises what `proxying.assign` does, and `Invalid` for what is no number."""
    try:
        proxy_id = UUID(checked.proxy)
    except ValueError:
        raise Invalid("choose the satellite that is near it", field="proxy") from None
    try:
        seconds = float(checked.every_s)
    except ValueError:
        raise Invalid("is 5 to 3600 seconds", field="every_s") from None
    device = devices.find(session, agent_id, device_id)
    proxying.assign(
        session,
        device,
        devices.find(session, agent_id, proxy_id),
        kind=checked.kind,
        address=checked.address,
        every_s=seconds,
        by=by,
    )


def choices(session: Session, agent_id: UUID, device_id: UUID | None = None) -> list[DeviceView]:
    """Who can check it: the satellites that speak for themselves."""
    return [
        one
        for one in device_views.overview(session, agent_id)
        if one.revoked_at is None and one.proxy is None and not one.needs_enrolment and one.device_id != device_id
    ]


def facts(session: Session, view: DeviceView, form: dict[str, Any], *, can_change: bool) -> dict[str, Any]:
    """What the section's template needs."""
    now = view.proxy or {}
    typed = {
        "proxy": str(now.get("device_id", "")),
        "kind": now.get("kind") or view.metadata.get("connection_type") or "network",
        "address": now.get("address") or view.metadata.get("address") or "",
        "every_s": f"{now.get('every_s', proxying.EVERY_S):g}",
    }
    return {
        "checked": proxied.of_proxy(session, view.device_id),
        "proxy_choices": choices(session, view.agent_id, view.device_id) if can_change else [],
        "proxy_kinds": KINDS,
        "proxy_typed": typed,
        "proxy_errors": {},
    } | form
