"""`/api/devices/{device_id}/presence`: how a device's connection stands and stood, for people and their scripts."""

from datetime import datetime, timedelta
from typing import Annotated, Final, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Query
from pydantic import AwareDatetime, BaseModel, Field

from hub import device_views, presence_history
from hub.errors import Invalid
from hub.uptime import uptime
from web.api.access import Access, needs_person
from web.dependencies import Db, Now

router = APIRouter(tags=["devices"])

LATELY: Final = timedelta(hours=24)
Reader = Annotated[Access, Depends(needs_person("devices:read"))]
PresenceWord = Literal["online", "suspect", "offline", "sleeping", "unknown"]


class SpanBody(BaseModel):
    """A stretch of time with one verdict."""

    since: datetime
    until: datetime
    presence: PresenceWord
    why: str = Field(examples=["by Will: the connection broke"])


class UptimeBody(BaseModel):
    """How the time divides; what nobody could see counts neither for nor against the device."""

    ratio: float | None = Field(description="the part of the known time that it was there; null: nothing is known")
    up_s: float = Field(description="it was there, or asleep as it had said")
    down_s: float
    unknown_s: float = Field(description="nothing was heard of it yet, the hub was away, or it is suspected only")


class PresenceBody(BaseModel):
    """The verdict of now, and those of before."""

    presence: PresenceWord
    why: str
    since: datetime | None
    flapping: bool = Field(description="it lost its connection again and again lately")
    uptime: UptimeBody
    spans: list[SpanBody] = Field(description="without a gap, oldest first")


@router.get("/api/devices/{device_id}/presence")
def show(
    device_id: UUID,
    access: Reader,
    session: Db,
    now: Now,
    since: Annotated[
        AwareDatetime | None, Query(description="from then on; 24 hours before `until` when left out; 30 days are kept")
    ] = None,
    until: Annotated[AwareDatetime | None, Query(description="until then; now when left out")] = None,
) -> PresenceBody:
    """How the device's connection stands, and how it stood over a span of time."""
    device = device_views.view(session, access.agent_id, device_id)
    until = min(until or now, now)
    try:
        since = since or until - LATELY
    except OverflowError:
        raise Invalid("is out of range", field="until") from None
    if since >= until:
        raise Invalid("must be before `until`, which is now at the latest", field="since")
    since = max(since, now - presence_history.KEPT)
    if since >= until:
        raise Invalid(f"is before all that is kept: {presence_history.KEPT.days} days", field="until")
    spans = presence_history.of_device(session, device_id, since, until)
    found = uptime(spans)
    return PresenceBody(
        presence=device.presence,
        why=device.why,
        since=device.since,
        flapping=device.flapping,
        uptime=UptimeBody(ratio=found.ratio, up_s=found.up_s, down_s=found.down_s, unknown_s=found.unknown_s),
        spans=[SpanBody(since=one.since, until=one.until, presence=one.verdict, why=one.why) for one in spans],
    )
