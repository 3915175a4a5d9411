"""The form that says for how long an agent keeps things: what it shows, and what was typed there."""

from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

from sqlmodel import Session

from hub import retention
from hub.errors import Invalid

LABELS: Final = {
    "events_days": "Events",
    "telemetry_days": "Telemetry",
    "commands_days": "Commands",
    "actions_days": "Actions",
    "denials_days": "Refusals",
    "dead_letters_days": "Dead letters",
    "presence_days": "Presence",
}


@dataclass(frozen=True, slots=True)
class RetentionForm:
    """The form as it is shown: what was typed, and what is wrong with it."""

    typed: dict[str, str]
    revision: int
    errors: dict[str, str] = field(default_factory=dict)


def facts(session: Session, agent_id: UUID, form: RetentionForm | None = None) -> dict[str, Any]:
    """What the section shows; `form` is the one that came back."""
    now = retention.view(session, agent_id)
    if form is None:
        form = RetentionForm({name: str(getattr(now.kept, name)) for name in retention.NAMES}, now.revision)
    return {"form": form, "now": now.kept, "labels": LABELS}


def days(name: str, given: str) -> int:
    """What was typed as a number; raises `Invalid` with the field."""
    if not given.strip().isascii() or not given.strip().isdigit():
        raise Invalid("is a number of days", field=name)
    return int(given)
