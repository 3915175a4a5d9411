"""What a tool is: its name, what it takes, how risky it is, what it needs, and the work itself."""

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from sqlmodel import Session

from hub import args_schema
from hub.database import Database
from hub.errors import HubError, Invalid
from hub.settings import Settings
from hub.verbs import Risk, check_args


@dataclass(frozen=True, slots=True)
class Context:
    """What a tool is handed: whose action it does, and the means to do it.

    The tool opens its own transactions, short ones; none is open while it talks to the world. `lease` guards what it
    writes about the action; `deadline` is when it is given up.
    """

    database: Database
    settings: Settings
    action_id: uuid.UUID
    agent_id: uuid.UUID
    space_id: uuid.UUID | None
    approved_by: str
    lease: uuid.UUID
    deadline: datetime
    attempt: int


@dataclass(frozen=True, slots=True)
class Done:
    """The work is done; `result` is what is kept of it, plain JSON."""

    result: Any = None


@dataclass(frozen=True, slots=True)
class Waiting:
    """The work goes on elsewhere until then at most; whoever ends it settles the action (`hub.actions.settling`)."""

    until: datetime


class ToolError(HubError):
    """The tool could not do it; the message is for people.

    `is_certain`: nothing was done to the world. `is_final`: to try again would be of no use.
    """

    def __init__(self, message: str, *, is_certain: bool = True, is_final: bool = False) -> None:
        super().__init__(message)
        self.is_certain = is_certain
        self.is_final = is_final


@dataclass(frozen=True, slots=True)
class Need:
    """What these very arguments amount to: how risky, the scopes that a policy must cover, the device it concerns."""

    risk: Risk
    scopes: tuple[str, ...]
    device_id: uuid.UUID | None = None


class Run(Protocol):
    """The work. Called outside of any transaction, in a thread; raises `ToolError` for what went wrong."""

    def __call__(self, context: Context, args: Mapping[str, Any], /) -> Done | Waiting: ...


# Looks at arguments that their schema allows, in a transaction: raises `Invalid` (args.<path>) or `NotFound` for what
# the agent does not have, and says what they need.
Weigh = Callable[[Session, uuid.UUID, Mapping[str, Any]], Need]


@dataclass(frozen=True, slots=True)
class Tool:
    """One tool. `is_repeatable`: twice is as good as once, so it may be tried again. `timeout_s` bounds one try."""

    name: str
    about: str
    schema: Mapping[str, Any]
    risk: Risk
    scopes: tuple[str, ...]
    run: Run
    is_repeatable: bool = False
    timeout_s: float = 30.0
    weigh: Weigh | None = None
    # Shown with a form; what is meant by the fields that a schema cannot say.
    hints: Mapping[str, str] = field(default_factory=dict)

    def check(self, session: Session, agent_id: uuid.UUID, args: Mapping[str, Any]) -> Need:
        """What these arguments need; raises `Invalid` naming the argument, or `NotFound` for what it means."""
        check_args(args)
        for fault in args_schema.faults(self.schema, args):
            raise Invalid(fault.message, field=f"args.{fault.field}" if fault.field else "args")
        return self.weigh(session, agent_id, args) if self.weigh else Need(self.risk, self.scopes)
