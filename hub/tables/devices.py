"""Devices: who they are, how they prove it, what is known of their connection, what they were told to do."""

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, Column, ForeignKeyConstraint, SmallInteger, UniqueConstraint
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
    of_batch,
    of_device,
)


class Device(SQLModel, table=True):
    """A satellite; its handle is its name on the wire."""

    __tablename__ = "devices"
    __table_args__ = (UniqueConstraint("device_id", "agent_id"),)
    device_id: uuid.UUID = new_uuid_key()
    agent_id: uuid.UUID = Field(foreign_key="agents.agent_id", ondelete="CASCADE")
    name: str
    capabilities: dict[str, Any] = Field(default_factory=dict, sa_type=JSON, sa_column_kwargs=EMPTY_OBJECT)
    scopes: list[str] = Field(default_factory=list, sa_type=JSON, sa_column_kwargs=EMPTY_ARRAY)
    revoked_at: datetime | None = moment()
    created_at: datetime = created()
    metadata_: dict[str, Any] = Field(
        default_factory=dict, sa_column=Column("metadata", JSON, nullable=False, **EMPTY_OBJECT)
    )
    handle: str = Field(unique=True)
    space_id: uuid.UUID | None = Field(default=None, foreign_key="spaces.space_id", ondelete="SET NULL")
    needs_enrolment: bool = Field(default=False, sa_column_kwargs=FALSE)
    revoked_by: str | None = None
    revoked_reason: str | None = None
    revision: int = Field(default=1, sa_column_kwargs=default("1"))
    deleted_at: datetime | None = moment()
    deleted_by: str | None = None


class RetiredHandle(SQLModel, table=True):
    """A handle of an agent that is gone; it names nobody else."""

    __tablename__ = "retired_handles"
    handle: str = Field(primary_key=True)
    retired_at: datetime = created()


class Credential(SQLModel, table=True):
    """The hash of one MQTT password; a replaced one stays, so that its bearer can be told why it is refused."""

    __tablename__ = "credentials"
    credential_id: uuid.UUID = new_uuid_key()
    username: str
    kind: str
    device_id: uuid.UUID | None = Field(default=None, foreign_key="devices.device_id", ondelete="CASCADE")
    session_id: uuid.UUID | None = Field(default=None, foreign_key="user_sessions.session_id", ondelete="CASCADE")
    hash: str
    created_at: datetime = created()
    expires_at: datetime | None = moment()
    replaced_at: datetime | None = moment()
    integration_id: uuid.UUID | None = Field(
        default=None, foreign_key="integrations.integration_id", ondelete="CASCADE"
    )
    sealed: bytes | None = None
    valid_until: datetime | None = moment()


class DevicePresence(SQLModel, table=True):
    """The evidence of a device's connection and the verdict drawn from it."""

    __tablename__ = "device_presence"
    device_id: uuid.UUID = Field(foreign_key="devices.device_id", ondelete="CASCADE", primary_key=True)
    epoch: int = Field(default=0, sa_type=BigInteger, sa_column_kwargs=default("0"))
    verdict: str = Field(default="offline", sa_column_kwargs=default("'offline'"))
    why: str = Field(default="never connected", sa_column_kwargs=default("'never connected'"))
    since: datetime = created()
    heartbeat_s: float = Field(default=15.0, sa_column_kwargs=default("15"))
    last_heard_at: datetime | None = moment()
    last_hello_at: datetime | None = moment()
    last_heartbeat_at: datetime | None = moment()
    asleep_until: datetime | None = moment()
    probes: int = Field(default=0, sa_type=SmallInteger, sa_column_kwargs=default("0"))
    probed_at: datetime | None = moment()
    source: str = Field(default="mqtt", sa_column_kwargs=default("'mqtt'"))
    hello: dict[str, Any] = Field(default_factory=dict, sa_type=JSON, sa_column_kwargs=EMPTY_OBJECT)
    unrest: float = Field(default=0.0, sa_column_kwargs=default("0"))
    unrest_at: datetime | None = moment()
    flapping: bool = Field(default=False, sa_column_kwargs=FALSE)


class PresenceChange(SQLModel, table=True):
    """A verdict that was drawn; it stood until the device's next one."""

    __tablename__ = "presence_history"
    __table_args__ = (of_device(),)
    change_no: int | None = numbered()
    device_id: uuid.UUID
    agent_id: uuid.UUID
    at: datetime = Field(sa_type=TIMESTAMPTZ)
    verdict: str
    why: str
    epoch: int = Field(sa_type=BigInteger)


class PresenceWatch(SQLModel, table=True):
    """A stretch of time in which the hub heard and judged."""

    __tablename__ = "presence_watches"
    watch_no: int | None = numbered()
    since: datetime = Field(sa_type=TIMESTAMPTZ)
    until: datetime = Field(sa_type=TIMESTAMPTZ)


class ProxiedRemote(SQLModel, table=True):
    """A remote for which another satellite reports, and what that one is to check."""

    __tablename__ = "proxied_remotes"
    __table_args__ = (
        of_device(),
        ForeignKeyConstraint(["proxy_id", "agent_id"], ["devices.device_id", "devices.agent_id"], ondelete="CASCADE"),
    )
    device_id: uuid.UUID = Field(primary_key=True)
    agent_id: uuid.UUID
    proxy_id: uuid.UUID
    kind: str
    address: str
    every_s: float
    assigned_at: datetime = created()
    reported_at: datetime | None = moment()


class Command(SQLModel, table=True):
    """Something a device was asked to do, with its present state."""

    __tablename__ = "commands"
    __table_args__ = (
        of_batch(),
        ForeignKeyConstraint(
            ["action_id", "agent_id"], ["actions.action_id", "actions.agent_id"], ondelete="SET NULL (action_id)"
        ),
    )
    command_id: uuid.UUID = new_uuid_key()
    agent_id: uuid.UUID = Field(foreign_key="agents.agent_id", ondelete="CASCADE")
    device_id: uuid.UUID = Field(foreign_key="devices.device_id", ondelete="CASCADE")
    verb: str
    args: dict[str, Any] = Field(default_factory=dict, sa_type=JSON, sa_column_kwargs=EMPTY_OBJECT)
    status: str = Field(default="queued", sa_column_kwargs=default("'queued'"))
    requested_by: str
    created_at: datetime = created()
    expires_at: datetime = Field(sa_type=TIMESTAMPTZ)
    sent_at: datetime | None = moment()
    finished_at: datetime | None = moment()
    code: str = Field(default="", sa_column_kwargs=default("''"))
    message: str = Field(default="", sa_column_kwargs=default("''"))
    progress: float | None = None
    result: Any = Field(default=None, sa_type=JSON, nullable=True)
    batch_id: uuid.UUID | None = None
    action_id: uuid.UUID | None = None


class CommandStep(SQLModel, table=True):
    """One state that a command reached, when, and who says so."""

    __tablename__ = "command_steps"
    step_no: int | None = numbered()
    command_id: uuid.UUID = Field(foreign_key="commands.command_id", ondelete="CASCADE")
    status: str
    witness: str
    at: datetime = created()
