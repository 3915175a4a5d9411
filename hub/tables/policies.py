"""What may be approved without asking anybody."""

import uuid
from datetime import datetime
from typing import Any

from sqlmodel import Field, SQLModel

from hub.tables.columns import EMPTY_ARRAY, FALSE, JSON, created, default, new_uuid_key, of_device


class Policy(SQLModel, table=True):
    """A rule by which actions are approved at once."""

    __tablename__ = "policies"
    __table_args__ = (of_device(),)
    policy_id: uuid.UUID = new_uuid_key()
    agent_id: uuid.UUID = Field(foreign_key="agents.agent_id", ondelete="CASCADE")
    name: str
    enabled: bool = Field(default=False, sa_column_kwargs=FALSE)
    revision: int = Field(default=1, sa_column_kwargs=default("1"))
    tool: str
    scopes: list[Any] = Field(sa_type=JSON, nullable=False)
    device_id: uuid.UUID | None = None
    tag: str | None = None
    conditions: list[Any] = Field(default_factory=list, sa_type=JSON, sa_column_kwargs=EMPTY_ARRAY)
    other_args: bool = Field(default=False, sa_column_kwargs=FALSE)
    time_window: Any = Field(default=None, sa_type=JSON, nullable=True)
    rate_count: int | None = None
    rate_s: float | None = None
    risk_max: str = Field(default="low", sa_column_kwargs=default("'low'"))
    proposers: list[Any] = Field(default_factory=list, sa_type=JSON, sa_column_kwargs=EMPTY_ARRAY)
    created_by: str
    created_at: datetime = created()
    updated_at: datetime = created()
