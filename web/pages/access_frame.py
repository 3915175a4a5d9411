"""What the pages of access share: tabs, who may change things, and addresses that keep to the agent."""

from typing import Annotated, Any, Final
from urllib.parse import urlencode

from fastapi import Query, Request, Response
from sqlmodel import Session

from hub import audit, feed
from hub.access.templates import open_filters
from hub.settings import Settings
from hub.tables import AuditEntry
from web.dependencies import AgentContext
from web.templating import render

TABS: Final = (
    ("Who", "/access"),
    ("Topics", "/access/topics"),
    ("Roles", "/access/roles"),
    ("Try it", "/access/try"),
    ("Denials", "/access/denials"),
    ("Sessions", "/access/sessions"),
    ("History", "/access/history"),
)
EntryId = Annotated[int, Query(ge=0, le=2**62)]
_MAY_CHANGE: Final = frozenset({"owner", "admin"})


def show(
    request: Request,
    name: str,
    current: AgentContext,
    session: Session,
    *,
    tab: str = "",
    status_code: int = 200,
    **context: Any,
) -> Response:
    """A page below `templates/access/`; `tab` is the path of its tab. What a page does not give is nothing."""
    given: dict[str, Any] = {
        "rev": feed.revision(session, current.agent_id),
        "undo": None,
        "preview": None,
        "sure": "",
        "blocked": False,
    }
    if name == "confirm.html":
        given |= {"carried": {}, "problem": "", "wants_reason": False, "reason": "", "stays": False}
        given |= {"dangerous": True, "allowed": True}
    return render(
        request,
        f"access/{name}",
        status_code=status_code,
        **(given | context),
        tabs=TABS,
        tab=tab,
        can_change=may_change(current),
    )


def may_change(current: AgentContext) -> bool:
    """Whether the visitor edits here or only looks."""
    return current.role in _MAY_CHANGE


def just_saved(session: Session, current: AgentContext, entry_id: int, action: str) -> AuditEntry | None:
    """The change that an address names, for its undo to be offered: only while it is the newest of its subject.

    Anybody can make an address; a change that is older, another kind or another agent's is not offered.
    """
    found = audit.entries(session, current.agent_id, before_id=entry_id + 1, limit=1) if entry_id else []
    if not found or found[0].entry_id != entry_id or not found[0].action.startswith(action):
        return None
    newest = audit.entries(session, current.agent_id, subject_id=found[0].subject_id, limit=1)
    return newest[0] if newest and newest[0].entry_id == entry_id else None


def address(current: AgentContext, path: str, **query: Any) -> str:
    """A local address that keeps to the agent, whatever another tab looks at; empty values are left out."""
    given = {name: value for name, value in query.items() if value not in {None, ""}}
    if len(current.choices) > 1:
        given["agent"] = current.agent_id
    return f"{path}?{urlencode(given)}" if given else path


def open_topics(settings: Settings) -> tuple[str, ...]:
    """The filters outside the root that may be granted."""
    return open_filters(settings.open_topics)
