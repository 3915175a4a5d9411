"""The operations that a device may ask for on `request/<op>`, each with its scope; HTTP has the same."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from sqlmodel import Session

from hub.operations import actions, events, memories
from hub.operations.questions import Body, Question


@dataclass(frozen=True, slots=True)
class Operation:
    """One operation: what it takes, what it needs, and what answers it."""

    question: type[Question]
    scope: str
    answer: Callable[[Session, uuid.UUID, Any], Body]


OPERATIONS: Final[dict[str, Operation]] = {
    "events": Operation(events.EventsQuestion, "events:read", events.answer),
    "actions": Operation(actions.ActionsQuestion, "actions:read", actions.answer),
    "memories": Operation(memories.MemoriesQuestion, "memories:read", memories.answer),
}
