"""What came from the earlier system and is kept: for the rollback, and to answer where a row comes from."""

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import UniqueConstraint
from sqlmodel import Field, SQLModel

from hub.tables.columns import EMPTY_ARRAY, JSON, created, default, moment, new_uuid_key, numbered


class AgentToken(SQLModel, table=True):
    """A token with which one agent may call another."""

    __tablename__ = "agent_tokens"
    token_id: uuid.UUID = new_uuid_key()
    issuer_agent_id: uuid.UUID = Field(foreign_key="agents.agent_id", ondelete="CASCADE")
    target_agent_id: uuid.UUID | None = Field(default=None, foreign_key="agents.agent_id", ondelete="CASCADE")
    name: str = Field(default="agent-token", sa_column_kwargs=default("'agent-token'"))
    token_hash: str = Field(unique=True)
    scopes: list[str] = Field(default_factory=list, sa_type=JSON, sa_column_kwargs=EMPTY_ARRAY)
    allowed_spaces: list[str] | None = Field(default=None, sa_type=JSON)
    expires_at: datetime | None = moment()
    revoked_at: datetime | None = moment()
    last_used_at: datetime | None = moment()
    created_at: datetime = created()
    created_by_user_id: uuid.UUID | None = Field(default=None, foreign_key="users.user_id", ondelete="SET NULL")


class MigrationNote(SQLModel, table=True):
    """Something a migration changed in, or found odd about, a row of the earlier system."""

    __tablename__ = "migration_notes"
    note_id: int | None = numbered()
    migration: str
    subject: str
    note: str
    created_at: datetime = created()


class LegacyMembership(SQLModel, table=True):
    """A membership as the earlier system kept it; never read to decide anything."""

    __tablename__ = "legacy_memberships"
    __table_args__ = (UniqueConstraint("user_id", "agent_id"),)
    membership_id: uuid.UUID = new_uuid_key()
    user_id: uuid.UUID
    agent_id: uuid.UUID
    role: str | None = Field(default="member", sa_column_kwargs=default("'member'"))
    relationship_label: str | None = None
    created_at: datetime | None = created()


class LegacyMembershipChange(SQLModel, table=True):
    """What the copying of memberships did to one row of agent_memberships; no role_before: it made the row."""

    __tablename__ = "legacy_membership_changes"
    agent_id: uuid.UUID = Field(foreign_key="agents.agent_id", ondelete="CASCADE", primary_key=True)
    user_id: uuid.UUID = Field(foreign_key="users.user_id", ondelete="CASCADE", primary_key=True)
    role_before: str | None = None
    role_after: str


class LegacyRemote(SQLModel, table=True):
    """A remote as the earlier system kept it; it is a device now."""

    __tablename__ = "legacy_remotes"
    remote_id: uuid.UUID = new_uuid_key()
    agent_id: uuid.UUID = Field(foreign_key="agents.agent_id", ondelete="CASCADE")
    name: str | None = None
    address: str | None = None
    connection_type: str | None = Field(default="network", sa_column_kwargs=default("'network'"))
    capabilities: Any = Field(default=None, sa_type=JSON, nullable=True)
    status: str | None = Field(default="offline", sa_column_kwargs=default("'offline'"))
    last_ping: datetime | None = moment()
    last_seen: datetime | None = moment()
    created_at: datetime | None = created()


class RemoteDeviceMap(SQLModel, table=True):
    """Which device a remote became."""

    __tablename__ = "remote_device_map"
    remote_id: uuid.UUID = Field(primary_key=True)
    device_id: uuid.UUID = Field(foreign_key="devices.device_id", ondelete="CASCADE", unique=True)


class LegacyDeviceToken(SQLModel, table=True):
    """The hash of a device's token from before MQTT, which nothing accepts, and its name from before handles."""

    __tablename__ = "legacy_device_tokens"
    device_id: uuid.UUID = Field(foreign_key="devices.device_id", ondelete="CASCADE", primary_key=True)
    token_hash: str
    name: str | None = None


class LegacyActionStatus(SQLModel, table=True):
    """The status that an action had before only known ones were allowed."""

    __tablename__ = "legacy_action_statuses"
    action_id: uuid.UUID = Field(foreign_key="actions.action_id", ondelete="CASCADE", primary_key=True)
    status_before: str
    status_after: str


class LegacyUnfinishedAction(SQLModel, table=True):
    """How an action stood that was over, or in the middle, before steps went forward only."""

    __tablename__ = "legacy_unfinished_actions"
    action_id: uuid.UUID = Field(foreign_key="actions.action_id", ondelete="CASCADE", primary_key=True)
    status: str
    approved_at: datetime | None = moment()
    completed_at: datetime | None = moment()
