"""Roles and who bears them, integrations, the audit, and what the broker says of itself."""

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import REAL, BigInteger, Column, Computed, ForeignKeyConstraint, UniqueConstraint, Uuid
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
)

_EMPTY = default("''")
_ZERO = default("0")
_CHAIN = "coalesce(agent_id, '00000000-0000-0000-0000-000000000000'::uuid)"


class Integration(SQLModel, table=True):
    """Home Assistant, Node-RED and the like: a named principal that is no device."""

    __tablename__ = "integrations"
    __table_args__ = (UniqueConstraint("integration_id", "agent_id"),)
    integration_id: uuid.UUID = new_uuid_key()
    agent_id: uuid.UUID = Field(foreign_key="agents.agent_id", ondelete="CASCADE")
    handle: str = Field(unique=True)
    name: str
    created_at: datetime = created()
    created_by: str
    revoked_at: datetime | None = moment()
    revoked_by: str | None = None
    revoked_reason: str | None = None
    scopes: list[str] = Field(default_factory=list, sa_type=JSON, sa_column_kwargs=EMPTY_ARRAY)
    decides_as: str = Field(default="member", sa_column_kwargs=default("'member'"))


class Role(SQLModel, table=True):
    """A named set of grants that an agent's admins edit."""

    __tablename__ = "roles"
    __table_args__ = (UniqueConstraint("role_id", "agent_id"),)
    role_id: uuid.UUID = new_uuid_key()
    agent_id: uuid.UUID = Field(foreign_key="agents.agent_id", ondelete="CASCADE")
    name: str
    about: str = Field(default="", sa_column_kwargs=_EMPTY)
    revision: int = Field(default=1, sa_column_kwargs=default("1"))
    created_at: datetime = created()
    updated_at: datetime = created()


class RoleGrant(SQLModel, table=True):
    """One permission of a role, as a template below the root."""

    __tablename__ = "role_grants"
    role_id: uuid.UUID = Field(foreign_key="roles.role_id", ondelete="CASCADE", primary_key=True)
    action: str = Field(primary_key=True)
    filter: str = Field(primary_key=True)


class RoleAssignment(SQLModel, table=True):
    """Who bears a role: a device, an integration, or every device of the agent."""

    __tablename__ = "role_assignments"
    __table_args__ = (
        ForeignKeyConstraint(["role_id", "agent_id"], ["roles.role_id", "roles.agent_id"], ondelete="CASCADE"),
        ForeignKeyConstraint(["device_id", "agent_id"], ["devices.device_id", "devices.agent_id"], ondelete="CASCADE"),
        ForeignKeyConstraint(
            ["integration_id", "agent_id"],
            ["integrations.integration_id", "integrations.agent_id"],
            ondelete="CASCADE",
        ),
    )
    assignment_id: uuid.UUID = new_uuid_key()
    role_id: uuid.UUID
    agent_id: uuid.UUID
    device_id: uuid.UUID | None = None
    integration_id: uuid.UUID | None = None
    all_devices: bool = Field(default=False, sa_column_kwargs=FALSE)


class AuditEntry(SQLModel, table=True):
    """One change: by whom, of what, and how it was before and after; with its place in its chain."""

    __tablename__ = "audit_entries"
    __table_args__ = (UniqueConstraint("chain", "seq"),)
    entry_id: int | None = numbered()
    agent_id: uuid.UUID | None = None
    at: datetime = created()
    actor: str
    action: str
    subject: str
    subject_id: uuid.UUID | None = None
    before: dict[str, Any] | None = Field(default=None, sa_type=JSON)
    after: dict[str, Any] | None = Field(default=None, sa_type=JSON)
    chain: uuid.UUID | None = Field(default=None, sa_column=Column(Uuid, Computed(_CHAIN, persisted=True)))
    actor_kind: str = Field(default="system", sa_column_kwargs=default("'system'"))
    seq: int | None = Field(default=None, sa_type=BigInteger)
    prev_hash: str | None = None
    hash: str | None = None


class AuditChain(SQLModel, table=True):
    """The head of a chain of the audit: how long it is, and the hash of its last entry."""

    __tablename__ = "audit_chains"
    chain: uuid.UUID = Field(primary_key=True)
    seq: int = Field(default=0, sa_type=BigInteger, sa_column_kwargs=_ZERO)
    hash: str = Field(default="", sa_column_kwargs=_EMPTY)
    updated_at: datetime = created()
    verified_at: datetime | None = moment()
    verified_by: str | None = None
    verified_seq: int | None = Field(default=None, sa_type=BigInteger)
    verified_faults: int | None = None


class BrokerSession(SQLModel, table=True):
    """A session as the broker last reported it; rates are messages per second."""

    __tablename__ = "broker_sessions"
    username: str = Field(primary_key=True)
    connected: bool
    address: str = Field(default="", sa_column_kwargs=_EMPTY)
    transport: str = Field(default="", sa_column_kwargs=_EMPTY)
    connected_at: datetime | None = moment()
    persistent: bool = Field(default=False, sa_column_kwargs=FALSE)
    keep_alive_s: int = Field(default=0, sa_column_kwargs=_ZERO)
    subscriptions: list[Any] = Field(default_factory=list, sa_type=JSON, sa_column_kwargs=EMPTY_ARRAY)
    queued: int = Field(default=0, sa_column_kwargs=_ZERO)
    queued_bytes: int = Field(default=0, sa_type=BigInteger, sa_column_kwargs=_ZERO)
    inflight: int = Field(default=0, sa_column_kwargs=_ZERO)
    dropped: int = Field(default=0, sa_type=BigInteger, sa_column_kwargs=_ZERO)
    received: int = Field(default=0, sa_type=BigInteger, sa_column_kwargs=_ZERO)
    sent: int = Field(default=0, sa_type=BigInteger, sa_column_kwargs=_ZERO)
    received_per_s: float = Field(default=0.0, sa_type=REAL, sa_column_kwargs=_ZERO)
    sent_per_s: float = Field(default=0.0, sa_type=REAL, sa_column_kwargs=_ZERO)
    reported_at: datetime = Field(sa_type=TIMESTAMPTZ)


class BrokerRetained(SQLModel, table=True):
    """A topic with a retained message, and whose it is."""

    __tablename__ = "broker_retained"
    topic: str = Field(primary_key=True)
    username: str
    bytes: int
    at: datetime = Field(sa_type=TIMESTAMPTZ)


class Traffic(SQLModel, table=True):
    """How often one publisher published to one topic within an hour."""

    __tablename__ = "traffic"
    hour: datetime = Field(sa_type=TIMESTAMPTZ, primary_key=True)
    principal: str = Field(primary_key=True)
    topic: str = Field(primary_key=True)
    count: int = Field(sa_type=BigInteger)
    last_at: datetime = Field(sa_type=TIMESTAMPTZ)


class BrokerState(SQLModel, table=True):
    """Which broker runs, and the key for which secrets are sealed where an adapter carries them to it; one row."""

    __tablename__ = "broker_state"
    one: bool = Field(default=True, primary_key=True, sa_column_kwargs=default("true"))
    kind: str
    sealing_key: bytes | None = None
    started_at: datetime = Field(sa_type=TIMESTAMPTZ)
    reported_at: datetime = Field(sa_type=TIMESTAMPTZ)
    detail: dict[str, Any] = Field(default_factory=dict, sa_type=JSON, sa_column_kwargs=EMPTY_OBJECT)
