"""`POST /v1/devices/heartbeat`: a device that speaks HTTP says that it is there."""

from datetime import datetime
from typing import Annotated, Literal

from fastapi import APIRouter, Depends
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from hub import reporting
from hub_protocol.messages import MAX_SAFE_INTEGER
from web.api.access import Access, needs
from web.api.caller import CurrentDevice
from web.dependencies import Db, Now

router = APIRouter(tags=["devices"])


class Heartbeat(BaseModel):
    """A sign of life; all of it may be left out."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"heartbeat_s": 60}]})

    state: Literal["online", "sleeping", "bye"] = Field(
        "online", description="`bye`: it goes now; `sleeping`: see until"
    )
    until: AwareDatetime | None = Field(None, description="when it wakes; a day from now when it does not say")
    heartbeat_s: Annotated[float, Field(ge=1, le=86_400)] | None = Field(
        None, description="seconds until the next one; the last word on it counts, 15 at first"
    )
    epoch: Annotated[int, Field(ge=1, le=MAX_SAFE_INTEGER)] | None = Field(
        None, description="of a device that keeps one: refused when it has gone back"
    )


class Verdict(BaseModel):
    """The hub's verdict and how late it can be at worst."""

    presence: Literal["online", "suspect", "offline", "sleeping", "unknown"]
    why: str = Field(examples=["heard over HTTP (heartbeat)"])
    since: datetime
    heartbeat_s: float = Field(description="the next one is expected within so many seconds", examples=[60])
    bound_s: float = Field(description="silence is noticed after so many seconds at worst", examples=[139])
    epoch: int
    now: datetime


@router.post("/v1/devices/heartbeat")
def heartbeat(
    device: CurrentDevice,
    _: Annotated[Access, Depends(needs("presence:write"))],
    session: Db,
    now: Now,
    body: Heartbeat | None = None,
) -> Verdict:
    """Say that the device is there, sleeps or goes."""
    said = body or Heartbeat()
    after = reporting.heartbeat(
        session,
        device,
        now,
        state=said.state,
        epoch=said.epoch,
        heartbeat_s=said.heartbeat_s,
        until=said.until,
    )
    return Verdict(
        presence=after.verdict,
        why=after.why,
        since=after.since or now,
        heartbeat_s=after.heartbeat_s,
        bound_s=round(after.bound_s, 1),
        epoch=after.epoch,
        now=now,
    )
