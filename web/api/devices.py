"""`/api/devices`: the agent's devices, for people and their scripts."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from hub import device_views, devices, identity, quarantines
from hub.device_views import DeviceView
from hub.devices import NAME_MAX, OVERLAP_MAX_S, REASON_MAX
from web.api.access import Access, needs_person
from web.api.once import Once
from web.dependencies import Db, WebSettings

router = APIRouter(prefix="/api/devices", tags=["devices"])

Reader = Annotated[Access, Depends(needs_person("devices:read"))]
Writer = Annotated[Access, Depends(needs_person("devices:write"))]
DeviceName = Annotated[str, Field(min_length=1, max_length=NAME_MAX, examples=["Front door"])]
Scopes = Annotated[list[Annotated[str, Field(max_length=80)]], Field(max_length=50, examples=[["events:write"]])]
TypedName = Annotated[str, Query(max_length=400, description="the device's name, to show that it is meant")]
SpaceRef = Annotated[str, Field(max_length=120, description="a space's id or name", examples=["Hall"])]


class QuarantineBody(BaseModel):
    """Why what a device says is set aside for now."""

    reason: Literal["flood", "garbage"]
    detail: str = Field(description="the limit that it broke")
    since: datetime
    until: datetime = Field(description="when it is let go, if it is calm until then")
    set_aside: int = Field(description="messages since then that were not taken")
    last_topic: str = Field(description="of the last of them, below the root", examples=["d/front-door/event/bell"])
    last_at: datetime | None


class DeviceBody(BaseModel):
    """A device and how its connection stands."""

    device_id: UUID
    handle: str = Field(examples=["front-door"])
    name: str = Field(examples=["Front door"])
    space_id: UUID | None
    space: str | None = Field(examples=["Hall"])
    scopes: list[str]
    created_at: datetime
    revision: int = Field(description="rises with every change; a change says which one it was made from")
    revoked_at: datetime | None
    revoked_by: str | None
    revoked_reason: str | None
    needs_enrolment: bool
    token_created_at: datetime | None
    presence: Literal["online", "suspect", "offline", "sleeping", "unknown"]
    flapping: bool = Field(description="it lost its connection again and again lately")
    source: Literal["mqtt", "http", "proxy"] = Field(description="how it was heard last")
    why: str = Field(examples=["connected"])
    since: datetime | None
    last_heard_at: datetime | None
    heartbeat_s: float
    bound_s: float = Field(description="the verdict can be wrong for so many seconds at worst")
    epoch: int
    tags: list[str] = Field(examples=[["lamps"]])
    quarantine: QuarantineBody | None = Field(description="set while it is quarantined")
    hello: dict[str, Any] = Field(description="what it said of itself: software, verbs, capabilities")


class DeviceList(BaseModel):
    """All devices of the agent by name; those revoked come last."""

    items: list[DeviceBody]


class NewDevice(BaseModel):
    """A device to be registered."""

    model_config = ConfigDict(extra="forbid")

    name: DeviceName
    handle: Annotated[str, Field(max_length=63, pattern=r"^[a-z0-9][a-z0-9-]*$", examples=["front-door"])] | None = None
    space: SpaceRef | None = None
    scopes: Scopes = Field(default_factory=lambda: list(devices.DEFAULT_SCOPES))


class DeviceChange(BaseModel):
    """What to change; what is left out stays."""

    model_config = ConfigDict(extra="forbid")

    name: DeviceName | None = None
    space: SpaceRef | None = Field(None, description="a space's id or name; empty: no space")
    scopes: Scopes | None = None
    revision: int | None = Field(None, ge=1, description="refused when it is no longer at this one")


class Rotation(BaseModel):
    """How a token is replaced."""

    model_config = ConfigDict(extra="forbid")

    overlap_s: Annotated[int, Field(ge=0, le=OVERLAP_MAX_S)] = Field(
        0, description="seconds for which the old token is good beside the new one; 0: worthless at once"
    )


class Revocation(BaseModel):
    """Why a device is shut out."""

    model_config = ConfigDict(extra="forbid")

    reason: Annotated[str, Field(max_length=REASON_MAX, examples=["lost on the train"])] = ""


class DeviceWithToken(BaseModel):
    """A device with its token, shown this once; null when the answer is a repeated one."""

    device: DeviceBody
    token: str | None = Field(examples=["mv1.front-door.…"])
    mqtt_host: str
    mqtt_port: int


@router.get("")
def overview(access: Reader, session: Db) -> DeviceList:
    """All devices."""
    return DeviceList(items=[body(one) for one in device_views.overview(session, access.agent_id)])


@router.post("", status_code=201, response_model=DeviceWithToken)
def create(new: NewDevice, access: Writer, session: Db, settings: WebSettings, once: Once) -> JSONResponse:
    """Register a device; its token is in the answer and nowhere else."""

    def add() -> DeviceWithToken:
        space = identity.find_space(session, access.agent_id, new.space) if new.space else None
        added = devices.add(
            session,
            access.agent_id,
            new.name,
            scopes=new.scopes,
            by=access.label,
            space_id=space.space_id if space else None,
            handle=new.handle,
        )
        return _with_token(session, access, settings, added.device.device_id, added.token)

    return once(add, secrets=("token",))


@router.get("/{device_id}")
def show(device_id: UUID, access: Reader, session: Db) -> DeviceBody:
    """One device."""
    return body(device_views.view(session, access.agent_id, device_id))


@router.patch("/{device_id}")
def change(device_id: UUID, asked: DeviceChange, access: Writer, session: Db) -> DeviceBody:
    """Change a device."""
    device = devices.find(session, access.agent_id, device_id)
    if asked.name is not None or asked.space is not None:
        space_id = device.space_id
        if asked.space is not None:
            space_id = identity.find_space(session, access.agent_id, asked.space).space_id if asked.space else None
        name = device.name if asked.name is None else asked.name
        devices.change(session, device, name=name, space_id=space_id, revision=asked.revision, by=access.label)
    if asked.scopes is not None:
        devices.set_scopes(session, device, asked.scopes, by=access.label)
    session.flush()
    return body(device_views.view(session, access.agent_id, device_id))


@router.post("/{device_id}/rotate-token", status_code=201, response_model=DeviceWithToken)
def rotate(
    device_id: UUID, access: Writer, session: Db, settings: WebSettings, once: Once, asked: Rotation | None = None
) -> JSONResponse:
    """Replace the device's token; the new one is in the answer and nowhere else."""

    def replace() -> DeviceWithToken:
        device = devices.find(session, access.agent_id, device_id)
        overlap_s = asked.overlap_s if asked else 0
        token = devices.rotate(session, device, by=access.label, overlap_s=overlap_s)
        return _with_token(session, access, settings, device_id, token)

    return once(replace, secrets=("token",))


@router.post("/{device_id}/revoke")
def revoke(device_id: UUID, access: Writer, session: Db, asked: Revocation | None = None) -> DeviceBody:
    """Shut the device out for good; it is told why."""
    device = devices.find(session, access.agent_id, device_id)
    devices.revoke(session, device, by=access.label, reason=asked.reason if asked else "")
    session.flush()
    return body(device_views.view(session, access.agent_id, device_id))


@router.post("/{device_id}/let-go")
def let_go(device_id: UUID, access: Writer, session: Db) -> DeviceBody:
    """Let it out of quarantine before its time; when it goes on as before, it is back at once."""
    quarantines.let_go(session, devices.find(session, access.agent_id, device_id), by=access.label)
    return body(device_views.view(session, access.agent_id, device_id))


@router.delete("/{device_id}", status_code=204)
def delete(device_id: UUID, name: TypedName, access: Writer, session: Db) -> Response:
    """Remove the device from everything but what it reported; its handle names nobody else afterwards."""
    device = devices.find(session, access.agent_id, device_id)
    devices.delete(session, device, name, by=access.label)
    return Response(status_code=204)


def body(view: DeviceView) -> DeviceBody:
    """A device as it is told."""
    return DeviceBody(
        **{name: getattr(view, name) for name in DeviceBody.model_fields if name != "space"}, space=view.space_name
    )


def _with_token(session: Db, access: Access, settings: WebSettings, device_id: UUID, token: str) -> DeviceWithToken:
    session.flush()
    return DeviceWithToken(
        device=body(device_views.view(session, access.agent_id, device_id)),
        token=token,
        mqtt_host=settings.device_mqtt_host,
        mqtt_port=settings.device_mqtt_port,
    )
