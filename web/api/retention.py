"""`/api/agents/…/retention`: for how many days an agent keeps what it gathers."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from hub import retention
from hub.retention import DAYS_MAX, PRESENCE_DAYS_MAX, TELEMETRY_DAYS_MIN, RetentionView
from web.api.agents import mine
from web.api.caller import CurrentPerson
from web.dependencies import Db

router = APIRouter(prefix="/api/agents", tags=["agents"])

Days = Annotated[int, Field(ge=1, le=DAYS_MAX)]
PresenceDays = Annotated[int, Field(ge=1, le=PRESENCE_DAYS_MAX)]
TelemetryDays = Annotated[int, Field(ge=TELEMETRY_DAYS_MIN, le=DAYS_MAX)]


class RetentionBody(BaseModel):
    """Days for which things are kept; the audit is kept for good."""

    events_days: int
    telemetry_days: int = Field(description="the hub's own bounds hold as well")
    commands_days: int = Field(description="after their end")
    actions_days: int = Field(description="after their end")
    denials_days: int
    dead_letters_days: int
    presence_days: int
    revision: int = Field(description="0 while the defaults hold; rises with every change")


class RetentionChange(BaseModel):
    """What to change; what is left out stays. What is older goes within minutes, for good."""

    model_config = ConfigDict(extra="forbid")

    events_days: Days | None = None
    telemetry_days: TelemetryDays | None = None
    commands_days: Days | None = None
    actions_days: Days | None = None
    denials_days: Days | None = None
    dead_letters_days: Days | None = None
    presence_days: PresenceDays | None = None
    revision: int | None = Field(None, ge=0, description="refused when it is no longer at this one")


@router.get("/{own_id}/retention")
def show(own_id: UUID, caller: CurrentPerson, session: Db) -> RetentionBody:
    """For how long the agent keeps things."""
    mine(session, caller, own_id, "admin")
    return _body(retention.view(session, own_id))


@router.patch("/{own_id}/retention")
def change(own_id: UUID, asked: RetentionChange, caller: CurrentPerson, session: Db) -> RetentionBody:
    """Keep things for so long from now on."""
    mine(session, caller, own_id, "admin")
    days = {name: getattr(asked, name) for name in retention.NAMES if getattr(asked, name) is not None}
    revision = retention.view(session, own_id).revision if asked.revision is None else asked.revision
    return _body(retention.change(session, own_id, days, revision=revision, by=caller.label))


def _body(view: RetentionView) -> RetentionBody:
    return RetentionBody(**{name: getattr(view.kept, name) for name in retention.NAMES}, revision=view.revision)
