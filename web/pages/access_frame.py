"""What the pages of access share: tabs, who may change things, and addresses that keep to the agent."""

from typing import Any, Final
from urllib.parse import urlencode

from fastapi import Request, Response
from sqlmodel import Session

from hub import feed
from hub.access.templates import open_filters
from hub.settings import Settings
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
    # Read first by the caller where a page is live; here it only says from when on changes are replayed.
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


def address(current: AgentContext, path: str, **query: Any) -> str:
    """A local address that keeps to the agent, whatever another tab looks at; empty values are left out."""
    given = {name: value for name, value in query.items() if value not in {None, ""}}
    if len(current.choices) > 1:
        given["agent"] = current.agent_id
    return f"{path}?{urlencode(given)}" if given else path


def open_topics(settings: Settings) -> tuple[str, ...]:
    """The filters outside the root that may be granted."""
    return open_filters(settings.open_topics)
