"""Rules that people wrote, what they know of devices, and what happened that concerns them."""

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKeyConstraint, UniqueConstraint
from sqlmodel import Field, SQLModel

from hub.tables.columns import (
    EMPTY_ARRAY,
    EMPTY_OBJECT,
    FALSE,
    JSON,
    TIMESTAMPTZ,
    created,
    default,
    moment,
    new_uuid_key,
    numbered,
    of_device,
)


def of_automation() -> ForeignKeyConstraint:
    """The row's automation is its agent's."""
    return ForeignKeyConstraint(
        ["automation_id", "agent_id"], ["automations.automation_id", "automations.agent_id"], ondelete="CASCADE"
    )


class Automation(SQLModel, table=True):
    """When something happens, an action is proposed."""

    __tablename__ = "automations"
    __table_args__ = (UniqueConstraint("automation_id", "agent_id"), of_device())
    automation_id: uuid.UUID = new_uuid_key()
    agent_id: uuid.UUID = Field(foreign_key="agents.agent_id", ondelete="CASCADE")
    name: str
    enabled: bool = Field(default=False, sa_column_kwargs=FALSE)
    revision: int = Field(default=1, sa_column_kwargs=default("1"))
    kind: str
    event_type: str | None = None
    device_id: uuid.UUID | None = None
    tag: str | None = None
    space_id: uuid.UUID | None = Field(default=None, foreign_key="spaces.space_id", ondelete="CASCADE")
    stream: str | None = None
    trigger: dict[str, Any] = Field(sa_type=JSON, nullable=False)
    conditions: list[Any] = Field(default_factory=list, sa_type=JSON, sa_column_kwargs=EMPTY_ARRAY)
    tool: str
    args: dict[str, Any] = Field(default_factory=dict, sa_type=JSON, sa_column_kwargs=EMPTY_OBJECT)
    why: str = Field(default="", sa_column_kwargs=default("''"))
    cooldown_s: float = Field(default=0.0, sa_column_kwargs=default("0"))
    next_at: datetime | None = moment()
    last_fired_at: datetime | None = moment()
    last_error: str | None = None
    last_error_at: datetime | None = moment()
    created_by: str
    created_at: datetime = created()
    updated_at: datetime = created()


class AutomationState(SQLModel, table=True):
    """What an automation knows of one device."""

    __tablename__ = "automation_states"
    __table_args__ = (of_automation(), of_device())
    automation_id: uuid.UUID = Field(primary_key=True)
    agent_id: uuid.UUID
    device_id: uuid.UUID = Field(primary_key=True)
    is_on: bool = Field(default=False, sa_column_kwargs=FALSE)
    due_at: datetime | None = moment()
    facts: dict[str, Any] = Field(default_factory=dict, sa_type=JSON, sa_column_kwargs=EMPTY_OBJECT)


class AutomationFact(SQLModel, table=True):
    """Something that happened, until its automation has looked at it."""

    __tablename__ = "automation_queue"
    __table_args__ = (of_automation(),)
    queue_no: int | None = numbered()
    automation_id: uuid.UUID
    agent_id: uuid.UUID
    device_id: uuid.UUID | None = None
    event_id: uuid.UUID | None = None
    facts: dict[str, Any] = Field(sa_type=JSON, nullable=False)
    at: datetime = Field(sa_type=TIMESTAMPTZ)
