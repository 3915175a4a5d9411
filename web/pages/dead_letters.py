"""Dead letters for admins: the list, one with its payload, trying again, discarding one or all that match."""

import json
from typing import Annotated, Any, Final

from fastapi import APIRouter, Form, Path, Query, Request, Response
from sqlmodel import Session

from hub import dead_letters
from hub.dead_letters import Filter, View
from hub.errors import HubError, Invalid
from hub.inbox import retrying
from web.dependencies import AdminAgent, AgentContext, CurrentVisitor, Db, Now, WebSettings
from web.pages import payload
from web.templating import local_url, redirect, render

router = APIRouter(prefix="/dead-letters")

PER_PAGE: Final = 50
SHOWN_BYTES: Final = 4_096

Words = Annotated[str, Query(max_length=200)]
Number = Annotated[int, Path(ge=1, le=2**63 - 1)]
Count = Annotated[str, Form(max_length=20)]


@router.get("")
def overview(
    request: Request,
    current: AdminAgent,
    session: Db,
    words: Words = "",
    direction: Annotated[str, Query(max_length=10)] = "",
    before: Annotated[int, Query(ge=0, le=2**63 - 1)] = 0,
) -> Response:
    """A page of them, the newest first."""
    return _list(request, current, session, words, direction, before=before)


@router.post("/discard")
def discard_all(
    request: Request,
    current: AdminAgent,
    visitor: CurrentVisitor,
    session: Db,
    words: Annotated[str, Form(max_length=200)] = "",
    direction: Annotated[str, Form(max_length=10)] = "",
    up_to: Annotated[int, Form(ge=0, le=2**63 - 1)] = 0,
    typed: Count = "",
) -> Response:
    """Discard all that match, when their number was typed."""
    view = _view(session, current)
    try:
        with session.begin_nested():
            if not typed.strip().isascii() or not typed.strip().isdigit():
                raise Invalid("type how many there are", field="count")
            gone = dead_letters.discard_matching(
                session,
                view,
                Filter(words, dead_letters.check_direction(direction)),
                up_to=up_to,
                count=int(typed),
                by=visitor.label,
            )
    except HubError as error:
        if error.field != "count":
            raise
        return _list(request, current, session, words, direction, typed=typed, error=error.message)
    return redirect(request, local_url(request, "/dead-letters"), message=f"{gone:,} discarded.")


@router.get("/{dead_letter_id}")
def show(request: Request, dead_letter_id: Number, current: AdminAgent, session: Db, settings: WebSettings) -> Response:
    """One of them, with what it carries."""
    letter = dead_letters.get(session, _view(session, current), dead_letter_id)
    can_retry = retrying.can_retry(letter, settings.root)
    return render(request, "dead_letter.html", letter=letter, can_retry=can_retry, **_content(letter.payload))


@router.post("/{dead_letter_id}/retry")
def retry(
    request: Request,
    dead_letter_id: Number,
    current: AdminAgent,
    visitor: CurrentVisitor,
    session: Db,
    settings: WebSettings,
    now: Now,
) -> Response:
    """Try it again, and say what came of it."""
    view = _view(session, current)
    letter, error = retrying.retry(session, view, dead_letter_id, settings.root, now, by=visitor.label)
    if error is not None:
        address = local_url(request, f"/dead-letters/{dead_letter_id}")
        return redirect(request, address, message="It failed again; the error stands here.", level="error")
    message = "It is stored." if letter.direction == "in" else "It is on its way to the broker."
    return redirect(request, local_url(request, "/dead-letters"), message=message)


@router.post("/{dead_letter_id}/discard")
def discard(
    request: Request, dead_letter_id: Number, current: AdminAgent, visitor: CurrentVisitor, session: Db
) -> Response:
    """Discard it for good."""
    dead_letters.discard(session, _view(session, current), dead_letter_id, by=visitor.label)
    return redirect(request, local_url(request, "/dead-letters"), message="Discarded.")


def _view(session: Session, current: AgentContext) -> View:
    return dead_letters.view_of(session, current.agent_id, current.role)


def _list(
    request: Request,
    current: AgentContext,
    session: Session,
    words: str,
    direction: str,
    *,
    before: int = 0,
    typed: str = "",
    error: str = "",
) -> Response:
    matching = Filter(words, dead_letters.check_direction(direction))
    view = _view(session, current)
    found = dead_letters.page(session, view, matching, before=before or None, limit=PER_PAGE)
    query = {name: value for name, value in (("words", words), ("direction", direction)) if value}
    return render(
        request,
        "dead_letters.html",
        status_code=422 if error else 200,
        letters=found.items,
        older=found.next,
        total=found.total,
        up_to=found.items[0].dead_letter_id if found.items else 0,
        before=before,
        words=words,
        direction=direction,
        query=query,
        of_hub=view.of_hub,
        typed=typed,
        error=error,
    )


def _content(carried: bytes) -> dict[str, Any]:
    """What it carries: as JSON where it is some, as text where it is that, and always the beginning in hex."""
    beginning = carried[:SHOWN_BYTES]
    try:
        readable = payload.pretty(json.loads(carried))
    except (ValueError, RecursionError):
        text = beginning.decode("utf-8", "replace")
        readable = text if "�" not in text and text.isprintable() else ""
    lines = [
        f"{start:06x}  {beginning[start : start + 16].hex(' ')}" for start in range(0, min(len(beginning), 1_024), 16)
    ]
    return {"readable": readable[: 4 * SHOWN_BYTES], "hex": "\n".join(lines), "size": len(carried)}
