"""What a handler may ask for in its signature: the transaction, who is asking, and the agent that is looked at.

The permission statement of a page is its signature: `CurrentVisitor` (signed in), `CurrentAgent` (any member of the
agent), `MemberAgent`, `AdminAgent`, `OwnerAgent` (at least that role). `MaybeVisitor` and `MaybeAgent` refuse nobody.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

from fastapi import Depends, Request
from sqlmodel import Session

from hub.database import Database
from hub.errors import NotFound, Unauthenticated
from hub.identity import memberships_of, require_role
from hub.settings import Settings
from hub.sign_in import Visitor, resume
from web.security import AGENT_COOKIE, session_cookie_name


def _transaction(request: Request) -> Iterator[Session]:
    database: Database = request.app.state.database
    with database.transaction() as session:
        yield session


# One transaction per request. The scope makes FastAPI end it when the handler has returned and before anything is
# sent: a commit that fails becomes an error answer, and whoever reads the answer can rely on what it says.
Db = Annotated[Session, Depends(_transaction, scope="function")]


def _settings(request: Request) -> Settings:
    settings: Settings = request.app.state.settings
    return settings


WebSettings = Annotated[Settings, Depends(_settings)]


def _now() -> datetime:
    return datetime.now(UTC)


Now = Annotated[datetime, Depends(_now)]


def _maybe_visitor(request: Request, session: Db, settings: WebSettings, now: Now) -> Visitor | None:
    token = request.cookies.get(session_cookie_name(request, settings), "")
    visitor = resume(session, token, now) if token else None
    if visitor is not None:
        request.state.visitor = visitor
        if visitor.renewed:
            request.state.renewed_token = token
    return visitor


MaybeVisitor = Annotated[Visitor | None, Depends(_maybe_visitor)]


def _visitor(visitor: MaybeVisitor) -> Visitor:
    if visitor is None:
        raise Unauthenticated("Sign in to see this.")
    return visitor


CurrentVisitor = Annotated[Visitor, Depends(_visitor)]


@dataclass(frozen=True)
class AgentView:
    """An agent as pages show it; plain values, so that an error page can still use them after a rollback."""

    agent_id: UUID
    name: str
    role: str


@dataclass(frozen=True)
class AgentContext:
    """The agent being looked at, and all that the visitor could look at."""

    agent: AgentView
    choices: tuple[AgentView, ...]

    @property
    def agent_id(self) -> UUID:
        """The agent's id."""
        return self.agent.agent_id

    @property
    def role(self) -> str:
        """The visitor's role there."""
        return self.agent.role


def _maybe_agent(request: Request, visitor: CurrentVisitor, session: Db) -> AgentContext | None:
    """The agent named by the path or the query (404 unless a member), else the one chosen last, else the first."""
    found = memberships_of(session, visitor.user.user_id)
    choices = tuple(AgentView(agent.agent_id, agent.name, role) for agent, role in found)
    by_id = {str(choice.agent_id): choice for choice in choices}
    asked = request.path_params.get("agent_id") or request.query_params.get("agent")
    remembered = request.cookies.get(AGENT_COOKIE, "")
    if asked is not None:
        chosen = by_id.get(str(asked).lower())
        if chosen is None:
            raise NotFound("There is no such agent among yours.", field="agent")
        if request.method == "GET" and str(chosen.agent_id) != remembered:
            request.state.remember_agent = str(chosen.agent_id)
    elif choices:
        chosen = by_id.get(remembered, choices[0])
    else:
        return None
    context = AgentContext(chosen, choices)
    request.state.agent = context
    return context


MaybeAgent = Annotated[AgentContext | None, Depends(_maybe_agent)]


def _agent(current: MaybeAgent) -> AgentContext:
    if current is None:
        raise NotFound("You are not a member of any agent. Ask an owner or admin to add you.", field="agent")
    return current


CurrentAgent = Annotated[AgentContext, Depends(_agent)]


def agent_at_least(role: str) -> Callable[..., AgentContext]:
    """A dependency like `CurrentAgent` that also asks for a role: 403 for members below it."""

    def check(current: CurrentAgent, visitor: CurrentVisitor, session: Db) -> AgentContext:
        require_role(session, visitor.user.user_id, current.agent_id, role)
        return current

    return check


MemberAgent = Annotated[AgentContext, Depends(agent_at_least("member"))]
AdminAgent = Annotated[AgentContext, Depends(agent_at_least("admin"))]
OwnerAgent = Annotated[AgentContext, Depends(agent_at_least("owner"))]
