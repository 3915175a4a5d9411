"""`/api/claims` and `/api/enrolments`: codes for new devices, and the devices that came with one; for people."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from hub import claims, device_views, devices, enrolment_decisions, enrolment_records, identity
from hub.access.callers import PersonCaller
from hub.claims import MINUTES, MINUTES_MAX, ClaimDraft, ClaimView
from hub.enrolment_decisions import REASON_MAX, Approval
from hub.enrolment_records import EnrolmentView
from hub.errors import Invalid
from web.api.access import Access, needs_person
from web.api.devices import DeviceBody, DeviceName, Scopes, SpaceRef, body
from web.api.once import Once
from web.dependencies import Db, Now

router = APIRouter(tags=["enrolment"])

Reader = Annotated[Access, Depends(needs_person("enrolments:read"))]
Writer = Annotated[Access, Depends(needs_person("devices:write"))]
Handle = Annotated[str, Field(max_length=63, pattern=r"^[a-z0-9][a-z0-9-]*$", examples=["weather-mast"])]
State = Literal["pending", "approved", "collected", "rejected", "expired"]


class ClaimBody(BaseModel):
    """A claim code, without the code."""

    claim_id: UUID
    state: Literal["open", "used", "withdrawn", "expired"]
    device_id: UUID | None = Field(description="the device that is there already and gets a new token")
    name: str | None = Field(examples=["Weather mast"])
    handle: str | None
    space_id: UUID | None
    space: str | None
    scopes: list[str]
    needs_approval: bool
    created_at: datetime
    created_by: str
    expires_at: datetime


class ClaimList(BaseModel):
    """Open codes, the one that ends first on top."""

    items: list[ClaimBody]


class NewClaim(BaseModel):
    """A code to be made: for a new device with what is known of it, or for one that is there (`device_id`)."""

    model_config = ConfigDict(extra="forbid")

    name: DeviceName | None = None
    handle: Handle | None = None
    space: SpaceRef | None = None
    scopes: Scopes = Field(default_factory=lambda: list(devices.DEFAULT_SCOPES))
    device_id: UUID | None = None
    needs_approval: bool = Field(True, description="false: whoever has the code gets a token at once")
    minutes: Annotated[int, Field(ge=1, le=MINUTES_MAX)] = MINUTES


class ClaimWithCode(BaseModel):
    """A new code, shown this once; null when the answer is a repeated one."""

    claim: ClaimBody
    code: str | None = Field(examples=["K7QF-2M9X-W3TE-0HVB"])
    url: str | None = Field(description="what its picture holds", examples=["https://hub.example.org/enrol#code=…"])


class EnrolmentItem(BaseModel):
    """A device that came with a code. What it says of itself (`said_name` to `fingerprint`) proves nothing."""

    enrolment_id: UUID
    claim_id: UUID
    state: State
    device_id: UUID | None
    is_known: bool = Field(description="the code was for a device that is there already")
    phrase: str = Field(examples=["amber tiger kettle"], description="the device shows the same words")
    said_name: str
    hardware: str
    firmware: str
    fingerprint: str
    address: str
    name: str | None = Field(description="what its code says it shall be called")
    handle: str | None
    space_id: UUID | None
    scopes: list[str]
    asked_at: datetime
    expires_at: datetime
    decided_at: datetime | None
    decided_by: str | None
    reason: str | None
    collected_at: datetime | None


class EnrolmentList(BaseModel):
    """The newest first."""

    items: list[EnrolmentItem]


class ApprovalBody(BaseModel):
    """What the device shall be; what is left out is as its code says, then as itself says."""

    model_config = ConfigDict(extra="forbid")

    name: DeviceName | None = None
    handle: Handle | None = None
    space: SpaceRef | None = None
    scopes: Scopes | None = None


class RejectionBody(BaseModel):
    """Why a device is sent away; it is told."""

    model_config = ConfigDict(extra="forbid")

    reason: Annotated[str, Field(max_length=REASON_MAX, examples=["not one of ours"])] = ""


@router.get("/api/claims")
def claims_overview(access: Writer, session: Db, now: Now) -> ClaimList:
    """Codes that are open."""
    return ClaimList(items=[_claim(one, now) for one in claims.open_ones(session, access.agent_id, now)])


@router.post("/api/claims", status_code=201, response_model=ClaimWithCode)
def create(request: Request, new: NewClaim, access: Writer, session: Db, now: Now, once: Once) -> JSONResponse:
    """Make a claim code; it is in the answer and nowhere else."""

    def make() -> ClaimWithCode:
        if new.device_id is not None and (new.name or new.handle or new.space):
            raise Invalid("a device that is there keeps its name, handle and space", field="device_id")
        draft = ClaimDraft(
            name=new.name,
            handle=new.handle,
            space_id=identity.find_space(session, access.agent_id, new.space).space_id if new.space else None,
            scopes=tuple(new.scopes),
            device_id=new.device_id,
            needs_approval=new.needs_approval,
            minutes=new.minutes,
        )
        user_id = access.caller.user_id if isinstance(access.caller, PersonCaller) else None
        made = claims.create(session, access.agent_id, draft, by=access.label, user_id=user_id, now=now)
        url = f"{request.url.scheme}://{request.url.netloc}/enrol#code={made.code}"
        return ClaimWithCode(claim=_claim(made.claim, now), code=made.code, url=url)

    return once(make, secrets=("code", "url"))


@router.get("/api/claims/{claim_id}")
def claim(claim_id: UUID, access: Writer, session: Db, now: Now) -> ClaimBody:
    """One code, whatever became of it."""
    return _claim(claims.find(session, access.agent_id, claim_id), now)


@router.delete("/api/claims/{claim_id}", status_code=204)
def withdraw(claim_id: UUID, access: Writer, session: Db, now: Now) -> Response:
    """Make an open code worthless."""
    claims.withdraw(session, access.agent_id, claim_id, by=access.label, now=now)
    return Response(status_code=204)


@router.get("/api/enrolments")
def overview(
    access: Reader, session: Db, state: State | None = None, limit: Annotated[int, Query(ge=1, le=200)] = 100
) -> EnrolmentList:
    """Devices that came with a code in the last weeks; `state=pending` for those that wait for a decision."""
    found = enrolment_records.overview(session, access.agent_id, state=state, limit=limit)
    return EnrolmentList(items=[_item(one) for one in found])


@router.get("/api/enrolments/{enrolment_id}")
def show(enrolment_id: UUID, access: Reader, session: Db) -> EnrolmentItem:
    """One of them."""
    return _item(enrolment_records.find(session, access.agent_id, enrolment_id))


@router.post("/api/enrolments/{enrolment_id}/approve")
def approve(enrolment_id: UUID, access: Writer, session: Db, now: Now, asked: ApprovalBody | None = None) -> DeviceBody:
    """Let the device in, after comparing the words; it then fetches its token by itself."""
    wanted = asked or ApprovalBody()
    view = enrolment_records.find(session, access.agent_id, enrolment_id)
    space_id = identity.find_space(session, access.agent_id, wanted.space).space_id if wanted.space else view.space_id
    approval = Approval(wanted.name, wanted.handle, space_id, wanted.scopes)
    device = enrolment_decisions.approve(session, access.agent_id, enrolment_id, approval, by=access.label, now=now)
    session.flush()
    return body(device_views.view(session, access.agent_id, device.device_id))


@router.post("/api/enrolments/{enrolment_id}/reject")
def reject(
    enrolment_id: UUID, access: Writer, session: Db, now: Now, asked: RejectionBody | None = None
) -> EnrolmentItem:
    """Send the device away."""
    reason = asked.reason if asked else ""
    enrolment_decisions.reject(session, access.agent_id, enrolment_id, by=access.label, now=now, reason=reason)
    return _item(enrolment_records.find(session, access.agent_id, enrolment_id))


def _claim(view: ClaimView, now: datetime) -> ClaimBody:
    names = ClaimBody.model_fields.keys() - {"state", "space"}
    return ClaimBody(**{name: getattr(view, name) for name in names}, state=view.state(now), space=view.space_name)


def _item(view: EnrolmentView) -> EnrolmentItem:
    return EnrolmentItem(**{name: getattr(view, name) for name in EnrolmentItem.model_fields})
