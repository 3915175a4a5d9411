"""Devices spoken to together, and how each is to be set."""

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, UniqueConstraint
from sqlmodel import Field, SQLModel

from hub.tables.columns import EMPTY_OBJECT, JSON, TIMESTAMPTZ, created, default, moment, of_batch, of_device


class DeviceTag(SQLModel, table=True):
    """A word that a device shares with others."""

    __tablename__ = "device_tags"
    __table_args__ = (of_device(),)
    device_id: uuid.UUID = Field(primary_key=True)
    agent_id: uuid.UUID
    tag: str = Field(primary_key=True)


class CommandBatch(SQLModel, table=True):
    """One wish for all devices with a tag: a command, or values to be merged or replaced."""

    __tablename__ = "command_batches"
    __table_args__ = (UniqueConstraint("batch_id", "agent_id"),)
    batch_id: uuid.UUID = Field(
        default_factory=uuid.uuid4, primary_key=True, sa_column_kwargs=default("gen_random_uuid()")
    )
    agent_id: uuid.UUID = Field(foreign_key="agents.agent_id", ondelete="CASCADE")
    kind: str
    tag: str
    verb: str | None = None
    args: dict[str, Any] = Field(default_factory=dict, sa_type=JSON, sa_column_kwargs=EMPTY_OBJECT)
    requested_by: str
    created_at: datetime = created()
    expires_at: datetime | None = moment()


class BatchSkip(SQLModel, table=True):
    """A device that had the tag and was left out."""

    __tablename__ = "batch_skips"
    __table_args__ = (of_batch(), of_device())
    batch_id: uuid.UUID = Field(primary_key=True)
    agent_id: uuid.UUID
    device_id: uuid.UUID = Field(primary_key=True)
    reason: str


class DeviceConfig(SQLModel, table=True):
    """Desired and reported values of a device."""

    __tablename__ = "device_config"
    __table_args__ = (of_device(),)
    device_id: uuid.UUID = Field(primary_key=True)
    agent_id: uuid.UUID
    desired: dict[str, Any] = Field(default_factory=dict, sa_type=JSON, sa_column_kwargs=EMPTY_OBJECT)
    desired_rev: int = Field(default=0, sa_type=BigInteger, sa_column_kwargs=default("0"))
    set_by: str | None = None
    set_at: datetime | None = moment()
    reported: dict[str, Any] = Field(default_factory=dict, sa_type=JSON, sa_column_kwargs=EMPTY_OBJECT)
    reported_rev: int | None = Field(default=None, sa_type=BigInteger)
    reported_at: datetime | None = moment()
    ok: bool | None = None
    error: str = Field(default="", sa_column_kwargs=default("''"))
    refused: dict[str, Any] = Field(default_factory=dict, sa_type=JSON, sa_column_kwargs=EMPTY_OBJECT)


class DeviceConfigRevision(SQLModel, table=True):
    """Values that were wanted of a device, by whom and when."""

    __tablename__ = "device_config_history"
    __table_args__ = (of_device(), of_batch("SET NULL (batch_id)"))
    device_id: uuid.UUID = Field(foreign_key="device_config.device_id", ondelete="CASCADE", primary_key=True)
    agent_id: uuid.UUID
    rev: int = Field(primary_key=True, sa_type=BigInteger)
    desired: dict[str, Any] = Field(sa_type=JSON)
    set_by: str
    set_at: datetime = Field(sa_type=TIMESTAMPTZ)
    batch_id: uuid.UUID | None = None
