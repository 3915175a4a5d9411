"""The audit: every change, by whom, with filters; whether its chain is whole; and all of it as a file."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Any, Final
from uuid import UUID

import msgspec
from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from hub import audit
from hub.audit import KINDS, Filter
from hub.database import Database
from hub.errors import Conflict
from hub.tables import AuditChain
from web.dependencies import AdminAgent, AgentContext, CurrentVisitor, Db, MemberAgent, Now
from web.pages.change_words import action_words, in_words
from web.templating import redirect, render

router = APIRouter(prefix="/audit")

PER_PAGE: Final = 50
# What is looked at while somebody waits; a longer chain is verified on the command line.
MOST_AT_ONCE: Final = 500_000

Word = Annotated[str, Query(max_length=200)]
Day = Annotated[str, Query(max_length=10)]


class Asked(BaseModel):
    """The filters as they stand in the address; a day that is none is said beside its field."""

    actor: Word = ""
    kind: Word = ""
    action: Word = ""
    subject: Word = ""
    since: Day = ""
    until: Day = ""
    of: UUID | None = None


@router.get("")
def overview(
    request: Request,
    current: MemberAgent,
    session: Db,
    wanted_by: Annotated[Asked, Depends()],
    before: Annotated[int, Query(ge=0, le=2**63 - 1)] = 0,
) -> Response:
    """A page of entries, the newest first."""
    asked = wanted_by.model_dump(mode="json")
    errors: dict[str, str] = {}
    first, last = _day(wanted_by.since, "since", errors), _day(wanted_by.until, "until", errors)
    wanted = Filter(
        actor=wanted_by.actor.strip(),
        kind=next((one for one in KINDS if one == wanted_by.kind), None),
        action=wanted_by.action.strip(),
        subject=wanted_by.subject.strip(),
        subject_id=wanted_by.of,
        since=first,
        until=last + timedelta(days=1) if last else None,
    )
    found = audit.entries(session, current.agent_id, before_id=before or None, matching=wanted, limit=PER_PAGE + 1)
    shown = found[:PER_PAGE]
    return render(
        request,
        "audit.html",
        entries=[in_words(entry) for entry in shown],
        older=shown[-1].entry_id if len(found) > PER_PAGE else None,
        before=before,
        asked=asked,
        query={name: value for name, value in asked.items() if value},
        errors=errors,
        kinds=KINDS,
        actions=[(one, action_words(one)) for one in audit.actions(session, current.agent_id)],
        chain=session.get(AuditChain, current.agent_id),
        can_verify=current.role in {"owner", "admin"},
    )


@router.post("/verify")
def verify(request: Request, current: AdminAgent, visitor: CurrentVisitor, session: Db, now: Now) -> Response:
    """Look through the agent's whole chain."""
    head = session.get(AuditChain, current.agent_id)
    if head is not None and head.seq > MOST_AT_ONCE:
        raise Conflict(f"The chain has {head.seq:,} entries; verify it with `marvain audit verify`.")
    reports = audit.verify(session, current.agent_id)
    audit.note(session, reports, by=visitor.label, now=now)
    faults = [fault for report in reports for fault in report.faults]
    if faults:
        message = f"The chain is not whole. Entry {faults[0].seq}: {faults[0].words}."
        return redirect(request, _address(current), message=message, level="error")
    count = sum(report.entries for report in reports)
    return redirect(request, _address(current), message=f"The chain is whole: {count:,} entries.")


@router.get("/export")
def export(request: Request, current: AdminAgent) -> StreamingResponse:
    """The agent's chain as JSON lines, oldest first; `line` is what `hash` is the SHA-256 of."""
    database: Database = request.app.state.database
    name = f"audit-{datetime.now(UTC):%Y-%m-%d}.jsonl"
    return StreamingResponse(
        _lines(database, current),
        media_type="application/jsonl",
        headers={"Content-Disposition": f'attachment; filename="{name}"'},
    )


def _lines(database: Database, current: AgentContext) -> Iterator[bytes]:
    after: int | None = 0
    while after is not None:
        # A transaction for each portion: whoever reads slowly holds no connection meanwhile.
        with database.transaction() as session:
            rows, after = audit.some_lines(session, current.agent_id, after)
        yield b"".join(msgspec.json.encode(_plain(row)) + b"\n" for row in rows)


def _plain(row: Any) -> dict[str, Any]:
    return {"seq": row.seq, "prev_hash": row.prev_hash, "hash": row.hash, "line": row.line}


def _day(given: str, field: str, errors: dict[str, str]) -> datetime | None:
    if not given:
        return None
    try:
        return datetime.combine(date.fromisoformat(given), time(), UTC)
    except ValueError:
        errors[field] = "is a day such as 2026-11-25"
        return None


def _address(current: AgentContext) -> str:
    return "/audit" if len(current.choices) == 1 else f"/audit?agent={current.agent_id}"
