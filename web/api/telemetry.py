"""Telemetry over HTTP: devices send samples, people read streams, series and CSV files of them."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import Response, StreamingResponse
from pydantic import AwareDatetime, BaseModel, Field

from hub import devices, reporting
from hub.database import Database
from hub.errors import Invalid
from hub.telemetry import export, streams
from hub.telemetry.series import POINTS_MAX, check_span, series
from hub.telemetry.streams import StreamView
from hub.telemetry.tiers import MINUTES, RAW, TIERS, Tier
from hub_protocol import messages
from hub_protocol.catalogue import decode
from hub_protocol.errors import Malformed
from hub_protocol.topics import LEVEL_PATTERN
from web.api.access import Access, needs, needs_person
from web.api.caller import CurrentDevice
from web.dependencies import Db, Now

router = APIRouter(tags=["telemetry"])

LATELY: Final = timedelta(hours=24)
StreamName = Annotated[str, Path(pattern=rf"^{LEVEL_PATTERN}$", examples=["temperature"])]
Reader = Annotated[Access, Depends(needs_person("telemetry:read"))]
Since = Annotated[AwareDatetime | None, Query(description="from then on; 24 hours before `until` when left out")]
Until = Annotated[AwareDatetime | None, Query(description="until before then; now when left out")]

_SAMPLE: Final = {
    "type": "object",
    "required": ["at", "value"],
    "properties": {"at": {"type": "string", "format": "date-time"}, "value": {"type": "number"}},
}
_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "description": "A number measured now, a sample with its time, or a list of such samples; as over MQTT.",
        "content": {
            "application/json": {
                "schema": {
                    "oneOf": [
                        {"type": "number", "minimum": -1e300, "maximum": 1e300},
                        _SAMPLE,
                        {"type": "array", "items": _SAMPLE, "minItems": 1, "maxItems": messages.SAMPLES_MAX},
                    ]
                },
                "example": {"at": "2026-01-02T03:04:05Z", "value": 21.5},
            }
        },
    }
}


class StreamBody(BaseModel):
    """A stream with its newest sample."""

    name: str = Field(examples=["temperature"])
    created_at: datetime
    last_at: datetime
    last_value: float = Field(examples=[21.5])


class StreamList(BaseModel):
    """All streams of a device, by name."""

    items: list[StreamBody]


class PointBody(BaseModel):
    """All samples of one stretch of time."""

    at: datetime = Field(description="when the stretch begins; of raw samples, when its last one was measured")
    min: float
    max: float
    mean: float
    count: int
    last: float


class SeriesBody(BaseModel):
    """A stream over time. Stretches without samples are left out."""

    stream: str
    since: datetime
    until: datetime
    source: Literal["raw", "minutes", "hours"] = Field(description="what the points were made from")
    bucket_s: float = Field(description="how long the stretch of a point is")
    points: list[PointBody]


class Taken(BaseModel):
    """What came of samples that were sent."""

    stream: str
    samples: int = Field(description="how many came; those that are stored already are not stored again")


async def _message(request: Request) -> messages.Telemetry:
    try:
        message: messages.Telemetry = decode("telemetry", await request.body())
    except Malformed as error:
        raise Invalid(error.rule, field=error.field or "body") from None
    return message


@router.post("/v1/telemetry/{stream}", openapi_extra=_BODY)
def report(
    stream: StreamName,
    device: CurrentDevice,
    _: Annotated[Access, Depends(needs("telemetry:write"))],
    message: Annotated[messages.Telemetry, Depends(_message)],
    session: Db,
    now: Now,
) -> Taken:
    """Send samples of a stream; they are also a sign of life. What is sent twice with its time is stored once."""
    return Taken(stream=stream, samples=reporting.telemetry(session, device, now, stream=stream, message=message))


@router.get("/api/devices/{device_id}/telemetry")
def overview(device_id: UUID, access: Reader, session: Db) -> StreamList:
    """The streams of a device with their newest values."""
    devices.find(session, access.agent_id, device_id)
    return StreamList(items=[_body(one) for one in streams.of_device(session, access.agent_id, device_id)])


@router.get(
    "/api/devices/{device_id}/telemetry/{stream}.csv",
    response_class=Response,
    responses={200: {"content": {"text/csv": {}}, "description": "CSV (RFC 4180), times in UTC"}},
)
def download(
    request: Request,
    device_id: UUID,
    stream: StreamName,
    access: Reader,
    session: Db,
    now: Now,
    since: Since = None,
    until: Until = None,
    source: Annotated[
        Literal["raw", "minutes", "hours"] | None,
        Query(description="raw samples, or what they are condensed to; raw when they are kept for all of the span"),
    ] = None,
) -> StreamingResponse:
    """A stream as a CSV file, of any length."""
    found = streams.find(session, access.agent_id, device_id, stream)
    since, until = _span(since, until, now)
    check_span(since, until)
    if source is None:
        source = "raw" if since >= now - RAW.kept else "minutes" if since >= now - MINUTES.kept else "hours"
    tier = TIERS[source]
    return StreamingResponse(
        _rows(request.app.state.database, found, tier, since, until),
        media_type="text/csv; charset=utf-8; header=present",
        headers={"Content-Disposition": f'attachment; filename="{export.file_name(found, tier)}"'},
    )


@router.get("/api/devices/{device_id}/telemetry/{stream}")
def show(
    device_id: UUID,
    stream: StreamName,
    access: Reader,
    session: Db,
    now: Now,
    since: Since = None,
    until: Until = None,
    points: Annotated[int, Query(ge=2, le=POINTS_MAX, description="at most so many")] = 500,
) -> SeriesBody:
    """A stream over time, from raw samples, minutes or hours, whichever suits the span."""
    found = streams.find(session, access.agent_id, device_id, stream)
    since, until = _span(since, until, now)
    answer = series(session, found, since, until, points, now)
    return SeriesBody(
        stream=found.name,
        since=since,
        until=until,
        source=answer.tier.name,
        bucket_s=answer.bucket.total_seconds(),
        points=[PointBody.model_validate(one, from_attributes=True) for one in answer.points],
    )


@router.delete("/api/devices/{device_id}/telemetry/{stream}", status_code=204)
def forget(
    device_id: UUID, stream: StreamName, access: Annotated[Access, Depends(needs_person("devices:write"))], session: Db
) -> None:
    """Delete a stream with all its samples. It comes back, empty, when the device goes on sending."""
    streams.forget(session, access.agent_id, device_id, stream, by=access.label)


def _span(since: datetime | None, until: datetime | None, now: datetime) -> tuple[datetime, datetime]:
    end = until or now
    try:
        return since or end - LATELY, end
    except OverflowError:
        raise Invalid("is too long ago", field="until") from None


def _rows(database: Database, stream: StreamView, tier: Tier, since: datetime, until: datetime) -> Iterator[str]:
    """The file in pieces, each read in a transaction of its own: a slow reader holds no connection to Postgres."""
    yield export.header(tier)
    while True:
        with database.transaction() as session:
            rows = export.page(session, stream, tier, since, until, limit=export.PAGE)
        if rows:
            yield export.lines(tier, rows)
        if len(rows) < export.PAGE:
            return
        since = rows[-1].at + timedelta(microseconds=1)  # the finest that Postgres keeps


def _body(one: StreamView) -> StreamBody:
    return StreamBody(name=one.name, created_at=one.created_at, last_at=one.last_at, last_value=one.last_value)
