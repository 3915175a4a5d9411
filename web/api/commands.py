"""`/api/devices/{id}/commands` and `/api/commands`: telling devices what to do, and how that fared."""

from datetime import datetime
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Depends, Query
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from hub import command_ends, commands, devices
from hub.commands import CommandView, Status
from web.api.access import Access, needs_person
from web.api.once import Once
from web.dependencies import Db, Now

router = APIRouter(tags=["commands"])

Reader = Annotated[Access, Depends(needs_person("devices:read"))]
Sender = Annotated[Access, Depends(needs_person("commands:send"))]
VerbName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,63}$", examples=["ping"])]
Deadline = Annotated[float, Field(ge=5, le=86_400, description="seconds in which it must be done", examples=[60])]
PAGE: Final = 50


class NewCommand(BaseModel):
    """What a device is to do."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"verb": "blink", "args": {"times": 3}, "ttl_s": 60}]}
    )

    verb: VerbName = Field(description="one that the device named in its hello, or ping, config or run_action")
    args: dict[str, Any] = Field({}, description="checked by what the device says of them, at most 32 KiB")
    ttl_s: Deadline = 60


class StepBody(BaseModel):
    """A state that a command reached, when, and who says so."""

    status: Status
    witness: str
    at: datetime


class CommandBody(BaseModel):
    """A command and how it fares."""

    command_id: UUID
    device_id: UUID
    handle: str
    verb: str
    args: dict[str, Any]
    status: Status
    created_at: datetime
    sent_at: datetime | None
    finished_at: datetime | None
    expires_at: datetime
    requested_by: str
    code: str
    message: str
    progress: float | None
    result: Any = None
    rtt_ms: float | None = Field(description="from the publishing to the last reply")
    batch_id: UUID | None
    steps: list[StepBody]


class CommandList(BaseModel):
    """Commands, newest first; `next` is the `before` of the following page, null at the end."""

    items: list[CommandBody]
    next: UUID | None


@router.get("/api/devices/{device_id}/commands")
def ledger(
    device_id: UUID,
    access: Reader,
    session: Db,
    before: Annotated[UUID | None, Query(description="`next` of an earlier page")] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = PAGE,
) -> CommandList:
    """A page of what a device was asked; kept for 90 days after its end."""
    device = devices.find(session, access.agent_id, device_id)
    found = commands.for_device(session, device.device_id, limit + 1, before=before)
    items = [body(one) for one in found[:limit]]
    return CommandList(items=items, next=items[-1].command_id if len(found) > limit else None)


@router.post("/api/devices/{device_id}/commands", status_code=201, response_model=CommandBody)
def send(device_id: UUID, new: NewCommand, access: Sender, session: Db, now: Now, once: Once) -> JSONResponse:
    """Queue a command: sent at once while the device is there, else when it returns, until its deadline."""

    def queue() -> CommandBody:
        device = devices.find(session, access.agent_id, device_id)
        command = commands.request(session, device, new.verb, new.args, by=access.label, ttl_s=new.ttl_s, now=now)
        session.flush()
        return body(commands.get(session, access.agent_id, command.command_id))

    devices.find(session, access.agent_id, device_id)
    return once(queue)


@router.get("/api/commands/{command_id}")
def show(command_id: UUID, access: Reader, session: Db) -> CommandBody:
    """One command with all its steps."""
    return body(commands.get(session, access.agent_id, command_id))


@router.post("/api/commands/{command_id}/cancel")
def cancel(command_id: UUID, access: Sender, session: Db, now: Now) -> CommandBody:
    """Take back a command that waits. Once it was sent, a device whose verbs hold `cancel` is told to end it, and it
    answers `failed` with the code `cancelled`; 409 for any other, and for a command that is over.
    """
    command_ends.cancel(session, access.agent_id, command_id, by=access.label, now=now)
    return body(commands.get(session, access.agent_id, command_id))


def body(view: CommandView) -> CommandBody:
    """A command as it is told."""
    facts = {name: getattr(view, name) for name in CommandBody.model_fields if name != "steps"}
    return CommandBody(**facts, steps=[StepBody(**step) for step in view.steps])
