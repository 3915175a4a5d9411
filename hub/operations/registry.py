"""The operations that a device may ask for on `request/<op>`, each with its scope; HTTP has the same."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlmodel import Session

from hub.access.callers import Caller
from hub.operations import actions, events, memories, propose
from hub.operations.questions import Body, Question

Reads = Callable[[Session, uuid.UUID, Any], Body]
# With the caller, the time, and the request's id.
Acts = Callable[[Session, Caller, uuid.UUID, Any, datetime, str], Body]


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation: what it takes, what it needs, and what answers it: by reading alone, or by doing something."""

    question: type[Question]
    scope: str
    reads: Reads | None = None
    acts: Acts | None = None

    def answer(
        self, session: Session, caller: Caller, agent_id: uuid.UUID, question: Question, now: datetime, request_id: str
    ) -> Body:
        """The answer; raises what the domain raises."""
        if self.acts is not None:
            return self.acts(session, caller, agent_id, question, now, request_id)
        if self.reads is None:
            raise TypeError("an operation reads or acts")
        return self.reads(session, agent_id, question)


OPERATIONS: Final[dict[str, Operation]] = {
    "events": Operation(events.EventsQuestion, "events:read", events.answer),
    "actions": Operation(actions.ActionsQuestion, "actions:read", actions.answer),
    "memories": Operation(memories.MemoriesQuestion, "memories:read", memories.answer),
    "propose": Operation(propose.ProposeQuestion, "actions:propose", acts=propose.answer),
}
