"""The permission statement of a handler: `Annotated[Access, Depends(needs("devices:write"))]` in its signature."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated
from uuid import UUID

from fastapi import Query

from hub.access.callers import Caller
from web.api.caller import CurrentCaller, CurrentPerson

AgentChoice = Annotated[UUID | None, Query(description="which agent; needed by people who belong to several")]


@dataclass(frozen=True, slots=True)
class Access:
    """A caller who may do what was asked for, and the agent it may do it with."""

    caller: Caller
    agent_id: UUID

    @property
    def label(self) -> str:
        """The caller's name in ledgers (`by=`)."""
        return self.caller.label


def needs(scope: str) -> Callable[..., Access]:
    """Let through devices with this scope and people with this permission."""

    def check(caller: CurrentCaller, agent: AgentChoice = None) -> Access:
        return Access(caller, caller.permit(scope, agent))

    check.scope = scope  # type: ignore[attr-defined]  # for the documentation, which lists what each route needs
    return check


def needs_person(scope: str) -> Callable[..., Access]:
    """Let through people with this permission alone; devices are told that it is not for them."""

    def check(caller: CurrentPerson, agent: AgentChoice = None) -> Access:
        return Access(caller, caller.permit(scope, agent))

    check.scope = scope  # type: ignore[attr-defined]
    return check
