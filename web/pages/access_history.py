"""Every change of access as people read it: who did what, and what it was before and after."""

from typing import Annotated, Final

from fastapi import APIRouter, Query, Request, Response

from hub import audit
from web.dependencies import Db, MemberAgent
from web.pages.access_frame import show
from web.pages.change_words import in_words

router = APIRouter(prefix="/access/history")

PER_PAGE: Final = 50


@router.get("")
def history(
    request: Request, current: MemberAgent, session: Db, before: Annotated[int, Query(ge=0, le=2**63 - 1)] = 0
) -> Response:
    """One page of changes, the newest first."""
    found = audit.entries(session, current.agent_id, before_id=before or None, limit=PER_PAGE + 1)
    shown = found[:PER_PAGE]
    return show(
        request,
        "history.html",
        current,
        session,
        tab="/access/history",
        entries=[in_words(entry) for entry in shown],
        before=before,
        older=shown[-1].entry_id if len(found) > PER_PAGE else None,
    )
