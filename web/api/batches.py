"""`/api/batches`: one wish for all devices with a tag, and how each of them fares."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Depends
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from hub import batches
from hub.batches import BatchView, Plan, Wish
from hub.errors import Invalid
from web.api.access import Access, needs_person
from web.api.commands import Deadline, VerbName
from web.api.once import Once
from web.dependencies import Db, Now

router = APIRouter(prefix="/api/batches", tags=["batches"])

Reader = Annotated[Access, Depends(needs_person("devices:read"))]
Sender = Annotated[Access, Depends(needs_person("commands:send"))]


class NewBatch(BaseModel):
    """A command for all devices with a tag, or values that are merged into or replace what is wanted of each."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"tag": "lamps", "kind": "command", "verb": "ping", "ttl_s": 60}]},
    )

    tag: Annotated[str, Field(max_length=80, examples=["lamps"])]
    kind: Literal["command", "merge", "replace"] = "command"
    verb: VerbName | None = Field(None, description="for a command")
    args: dict[str, Any] = Field({}, description="the command's arguments, or the values; null takes a merged key away")
    ttl_s: Deadline = 3_600


class DeviceOfBatch(BaseModel):
    """One device and how it fares: a command's status, or waiting, applied, refused, replaced for values."""

    device_id: UUID
    handle: str
    name: str
    status: str
    message: str
    at: datetime | None
    command_id: UUID | None
    progress: float | None
    result: Any = None
    rtt_ms: float | None


class SkipBody(BaseModel):
    """A device that has the tag and is left out."""

    device_id: UUID
    handle: str
    reason: str


class PlanBody(BaseModel):
    """Whom a wish would reach now."""

    targets: list[str] = Field(description="handles")
    skipped: list[SkipBody]


class BatchBody(BaseModel):
    """A batch with every device of it."""

    batch_id: UUID
    kind: Literal["command", "merge", "replace"]
    tag: str
    verb: str | None
    args: dict[str, Any]
    requested_by: str
    created_at: datetime
    expires_at: datetime | None
    counts: dict[str, int]
    devices: list[DeviceOfBatch]
    skipped: list[SkipBody]


@router.post("/preview")
def preview(new: NewBatch, access: Sender, session: Db) -> PlanBody:
    """Whom it would reach, and who is left out and why; nothing is sent."""
    plan = _plan(session, access, new)
    return PlanBody(targets=[device.handle for device in plan.targets], skipped=_skips(plan.skipped))


@router.post("", status_code=201, response_model=BatchBody)
def send(new: NewBatch, access: Sender, session: Db, now: Now, once: Once) -> JSONResponse:
    """Send to all that can take it."""

    def start() -> BatchBody:
        batch = batches.send(session, access.agent_id, _plan(session, access, new), by=access.label, now=now)
        session.flush()
        return _body(batches.view(session, access.agent_id, batch.batch_id))

    return once(start)


@router.get("/{batch_id}")
def show(batch_id: UUID, access: Reader, session: Db) -> BatchBody:
    """How each device fares."""
    return _body(batches.view(session, access.agent_id, batch_id))


@router.post("/{batch_id}/cancel")
def cancel(batch_id: UUID, access: Sender, session: Db, now: Now) -> BatchBody:
    """Take back the commands that still wait; what was sent goes on."""
    batch = batches.find(session, access.agent_id, batch_id)
    batches.cancel(session, batch, by=access.label, now=now)
    return _body(batches.view(session, access.agent_id, batch_id))


def _plan(session: Db, access: Access, new: NewBatch) -> Plan:
    if (new.verb is None) == (new.kind == "command"):
        raise Invalid("is required for a command, and for nothing else", field="verb")
    return batches.plan(session, access.agent_id, Wish(new.kind, new.tag, new.args, new.verb, new.ttl_s))


def _skips(skipped: list[batches.Skip]) -> list[SkipBody]:
    return [
        SkipBody(device_id=skip.device.device_id, handle=skip.device.handle, reason=skip.reason) for skip in skipped
    ]


def _body(view: BatchView) -> BatchBody:
    names = set(BatchBody.model_fields) - {"counts", "devices", "skipped"}
    rows = [DeviceOfBatch(**{name: getattr(row, name) for name in DeviceOfBatch.model_fields}) for row in view.rows]
    facts = {name: getattr(view.batch, name) for name in names}
    return BatchBody(**facts, counts=view.counts, devices=rows, skipped=_skips(view.skipped))
