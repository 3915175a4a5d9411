"""Setting a satellite: what is wanted of it, checked while one types, saved over the revision one saw, and undone."""

from uuid import UUID

from fastapi import APIRouter, Request, Response

from hub import device_config, devices
from hub.device_config import StaleRevision
from hub.errors import Invalid
from web.dependencies import AdminAgent, CurrentVisitor, Db, Now
from web.pages import config_form, device_page
from web.pages.typed_form import TypedForm
from web.templating import redirect

router = APIRouter(prefix="/devices/{device_id}/config")


@router.post("")
def save(
    request: Request,
    device_id: UUID,
    current: AdminAgent,
    visitor: CurrentVisitor,
    session: Db,
    now: Now,
    form: TypedForm,
) -> Response:
    """Want these values; whoever began with an older revision is shown what somebody else has set meanwhile."""
    device = devices.find(session, current.agent_id, device_id)
    try:
        values = config_form.read_values(form)
        saved = device_config.set_desired(
            session, device, values, by=visitor.label, expected_rev=config_form.revision(form, "expected_rev"), now=now
        )
    except StaleRevision as error:
        errors = {"values": error.message}
        typed = config_form.typed(form, errors, rev=error.current.desired_rev)
        return device_page.page(request, device_id, current, session, now, status_code=409, config={"form": typed})
    except Invalid as error:
        if error.field == "expected_rev":
            raise
        typed = config_form.typed(form, {error.field or "values": error.message})
        return device_page.page(request, device_id, current, session, now, status_code=422, config={"form": typed})
    return redirect(
        request, f"/devices/{device_id}#config", message=f"Revision {saved.desired_rev} goes to {device.name}."
    )


@router.post("/check")
def check(device_id: UUID, current: AdminAgent, session: Db, form: TypedForm) -> dict[str, list[dict[str, str]]]:
    """What is wrong with the values as they are typed now."""
    devices.find(session, current.agent_id, device_id)
    try:
        config_form.read_values(form)
    except Invalid as error:
        return {"problems": [{"field": error.field or "values", "message": error.message}]}
    return {"problems": []}


@router.post("/undo")
def undo(
    request: Request,
    device_id: UUID,
    current: AdminAgent,
    visitor: CurrentVisitor,
    session: Db,
    now: Now,
    form: TypedForm,
) -> Response:
    """Want again what was wanted in an earlier revision, as a new one."""
    device = devices.find(session, current.agent_id, device_id)
    rev, expected_rev = config_form.revision(form, "rev"), config_form.revision(form, "expected_rev")
    earlier = device_config.earlier(session, device_id, rev)
    saved = device_config.set_desired(
        session, device, earlier.desired, by=visitor.label, expected_rev=expected_rev, now=now
    )
    message = f"Revision {saved.desired_rev} wants again what revision {rev} wanted."
    return redirect(request, f"/devices/{device_id}#config", message=message)
