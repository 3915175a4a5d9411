"""What an agent knows: people, events, memories."""

import uuid
from datetime import datetime
from typing import Any

from pgvector.sqlalchemy import Vector
from sqlalchemy import BigInteger, Column, UniqueConstraint
from sqlmodel import Field, SQLModel

from hub.tables.columns import (
    EMPTY_ARRAY,
    EMPTY_OBJECT,
    JSON,
    created,
    default,
    moment,
    new_uuid_key,
    numbered,
)


class Person(SQLModel, table=True):
    """Somebody the agent knows; not necessarily one who signs in."""

    __tablename__ = "people"
    person_id: uuid.UUID = new_uuid_key()
    agent_id: uuid.UUID = Field(foreign_key="agents.agent_id", ondelete="CASCADE")
    display_name: str
    aliases: list[str] = Field(default_factory=list, sa_type=JSON, sa_column_kwargs=EMPTY_ARRAY)
    created_at: datetime = created()


class ConsentGrant(SQLModel, table=True):
    """What a person allows the agent to do with them."""

    __tablename__ = "consent_grants"
    consent_id: uuid.UUID = new_uuid_key()
    agent_id: uuid.UUID = Field(foreign_key="agents.agent_id", ondelete="CASCADE")
    person_id: uuid.UUID = Field(foreign_key="people.person_id", ondelete="CASCADE")
    consent_type: str
    scope: dict[str, Any] = Field(default_factory=dict, sa_type=JSON, sa_column_kwargs=EMPTY_OBJECT)
    granted_at: datetime = created()
    expires_at: datetime | None = moment()
    revoked_at: datetime | None = moment()


class Presence(SQLModel, table=True):
    """Who or what is in a space, as far as the agent believes."""

    __tablename__ = "presence"
    presence_id: uuid.UUID = new_uuid_key()
    agent_id: uuid.UUID = Field(foreign_key="agents.agent_id", ondelete="CASCADE")
    space_id: uuid.UUID = Field(foreign_key="spaces.space_id", ondelete="CASCADE")
    person_id: uuid.UUID | None = Field(default=None, foreign_key="people.person_id", ondelete="CASCADE")
    device_id: uuid.UUID | None = Field(default=None, foreign_key="devices.device_id", ondelete="CASCADE")
    status: str
    confidence: float = Field(default=0.0, sa_column_kwargs=default("0"))
    last_update: datetime = created()


class Event(SQLModel, table=True):
    """Something that happened, as a device or a person told it; stored once however often it is sent."""

    __tablename__ = "events"
    __table_args__ = (UniqueConstraint("device_id", "message_id"),)
    event_id: uuid.UUID = new_uuid_key()
    agent_id: uuid.UUID = Field(foreign_key="agents.agent_id", ondelete="CASCADE")
    space_id: uuid.UUID | None = None  # of a space that may be gone: `retired_spaces` has its name
    device_id: uuid.UUID | None = Field(default=None, foreign_key="devices.device_id", ondelete="SET NULL")
    person_id: uuid.UUID | None = Field(default=None, foreign_key="people.person_id", ondelete="SET NULL")
    type: str
    payload: dict[str, Any] = Field(default_factory=dict, sa_type=JSON, sa_column_kwargs=EMPTY_OBJECT)
    created_at: datetime = created()
    event_no: int | None = numbered(key=False)
    message_id: str | None = None
    epoch: int | None = Field(default=None, sa_type=BigInteger)
    seq: int | None = Field(default=None, sa_type=BigInteger)
    happened_at: datetime | None = moment()
    user_id: uuid.UUID | None = Field(default=None, foreign_key="users.user_id", ondelete="SET NULL")


class Memory(SQLModel, table=True):
    """Something worth remembering, with the vector that finds it again."""

    __tablename__ = "memories"
    memory_id: uuid.UUID = new_uuid_key()
    agent_id: uuid.UUID = Field(foreign_key="agents.agent_id", ondelete="CASCADE")
    space_id: uuid.UUID | None = Field(default=None, foreign_key="spaces.space_id", ondelete="SET NULL")
    tier: str
    content: str
    participants: list[Any] = Field(default_factory=list, sa_type=JSON, sa_column_kwargs=EMPTY_ARRAY)
    provenance: dict[str, Any] = Field(default_factory=dict, sa_type=JSON, sa_column_kwargs=EMPTY_OBJECT)
    retention: dict[str, Any] = Field(default_factory=dict, sa_type=JSON, sa_column_kwargs=EMPTY_OBJECT)
    embedding: Any = Field(default=None, sa_column=Column(Vector(1536), nullable=True))
    created_at: datetime = created()


class AuditState(SQLModel, table=True):
    """The newest hash of an agent's audit chain."""

    __tablename__ = "audit_state"
    agent_id: uuid.UUID = Field(foreign_key="agents.agent_id", ondelete="CASCADE", primary_key=True)
    last_hash: str | None = None
    updated_at: datetime = created()
