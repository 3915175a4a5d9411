"""`/api/audit`: the agent's changes, and whether their chain is whole."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Query
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from hub import audit
from hub.audit import Filter
from web.api.access import Access, needs_person
from web.dependencies import Db

router = APIRouter(prefix="/api/audit", tags=["audit"])

Reader = Annotated[Access, Depends(needs_person("audit:read"))]
ActorKind = Literal["person", "device", "integration", "policy", "system"]


class AuditQuestion(BaseModel):
    """Which entries; all filters together."""

    model_config = ConfigDict(extra="forbid")

    before: Annotated[int, Field(ge=1, le=2**63 - 1)] | None = Field(None, description="`next` of the page before")
    actor: Annotated[str, Field(max_length=200)] = Field("", description="a part of the name")
    kind: ActorKind | None = None
    action: Annotated[str, Field(max_length=80)] = Field(
        "", description="`noun.verb`, or `noun.` for all of a noun", examples=["device.revoked"]
    )
    subject: Annotated[str, Field(max_length=200)] = Field("", description="a part of the name")
    subject_id: UUID | None = None
    since: AwareDatetime | None = None
    until: AwareDatetime | None = None
    limit: Annotated[int, Field(ge=1, le=200)] = 50


class EntryBody(BaseModel):
    """One change. `hash` covers all of it and `prev_hash`, the hash of the entry before."""

    entry_id: int
    seq: int | None = Field(description="its place in the agent's chain", examples=[17])
    at: datetime
    actor: str = Field(examples=["ann@example.org"])
    actor_kind: ActorKind
    action: str = Field(examples=["device.revoked"])
    subject: str = Field(examples=["front-door"])
    subject_id: UUID | None
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    prev_hash: str | None
    hash: str | None


class AuditPage(BaseModel):
    """Changes, newest first; `next` is the `before` of the following page, null at the end."""

    items: list[EntryBody]
    next: int | None


class FaultBody(BaseModel):
    """Something that is wrong with the chain."""

    seq: int
    words: str = Field(examples=["it was altered after it was written"])


class Verdict(BaseModel):
    """Whether the chain is whole."""

    whole: bool
    entries: int
    seq: int = Field(description="how long the chain says it is")
    hash: str = Field(description="how it ends")
    faults: list[FaultBody]


@router.get("")
def page(question: Annotated[AuditQuestion, Query()], access: Reader, session: Db) -> AuditPage:
    """A page of changes, newest first."""
    wanted = Filter(**question.model_dump(exclude={"before", "limit"}))
    found = audit.entries(
        session, access.agent_id, before_id=question.before, matching=wanted, limit=question.limit + 1
    )
    items = [
        EntryBody(**{name: getattr(one, name) for name in EntryBody.model_fields}) for one in found[: question.limit]
    ]
    return AuditPage(items=items, next=items[-1].entry_id if len(found) > question.limit else None)


@router.get("/verify")
def verify(access: Reader, session: Db) -> Verdict:
    """Look through the agent's whole chain for what was altered, removed, cut off or slipped in."""
    reports = audit.verify(session, access.agent_id)
    faults = [FaultBody(seq=fault.seq, words=fault.words) for report in reports for fault in report.faults]
    (report,) = reports or (audit.Report(access.agent_id, ""),)
    return Verdict(whole=not faults, entries=report.entries, seq=report.seq, hash=report.hash, faults=faults)
