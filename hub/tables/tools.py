"""What tools are allowed, and what they keep."""

import uuid
from datetime import datetime

from sqlalchemy import ARRAY, Column, Text, UniqueConstraint
from sqlmodel import Field, SQLModel

from hub.tables.actions import of_action
from hub.tables.columns import created, default, moment, new_uuid_key


class OutsideHost(SQLModel, table=True):
    """A host that an agent's `http_request` may ask, and how."""

    __tablename__ = "outside_hosts"
    agent_id: uuid.UUID = Field(foreign_key="agents.agent_id", ondelete="CASCADE", primary_key=True)
    host: str = Field(primary_key=True)
    methods: list[str] = Field(sa_column=Column(ARRAY(Text), nullable=False))
    added_by: str
    added_at: datetime = created()


class NotifyChannel(SQLModel, table=True):
    """A webhook by which an agent notifies; its address and its token are sealed."""

    __tablename__ = "notify_channels"
    __table_args__ = (UniqueConstraint("agent_id", "name"),)
    channel_id: uuid.UUID = new_uuid_key()
    agent_id: uuid.UUID = Field(foreign_key="agents.agent_id", ondelete="CASCADE")
    name: str
    host: str
    sealed: bytes
    added_by: str
    added_at: datetime = created()


class Schedule(SQLModel, table=True):
    """When what was approved is done, once or again and again."""

    __tablename__ = "schedules"
    __table_args__ = (of_action(), UniqueConstraint("action_id"))
    schedule_id: uuid.UUID = new_uuid_key()
    agent_id: uuid.UUID
    action_id: uuid.UUID
    cron: str | None = None
    zone: str = Field(default="UTC", sa_column_kwargs=default("'UTC'"))
    next_at: datetime | None = moment()
    left_over: int | None = None
    stopped_at: datetime | None = moment()
    stopped_by: str | None = None
    created_at: datetime = created()
