"""What the hub has to tell, what it told, what it refused and what it could not store."""

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ForeignKeyConstraint, SmallInteger, UniqueConstraint
from sqlmodel import Field, SQLModel

from hub.tables.columns import FALSE, JSON, TIMESTAMPTZ, created, default, moment, numbered


class OutboxMessage(SQLModel, table=True):
    """An MQTT message to be published once the transaction that wrote it has committed."""

    __tablename__ = "outbox"
    outbox_id: int | None = numbered()
    topic: str
    payload: bytes
    qos: int = Field(default=1, sa_type=SmallInteger, sa_column_kwargs=default("1"))
    retain: bool = Field(default=False, sa_column_kwargs=FALSE)
    command_id: uuid.UUID | None = Field(default=None, foreign_key="commands.command_id", ondelete="CASCADE")
    created_at: datetime = created()


class RetainedTopic(SQLModel, table=True):
    """A retained message that the broker holds for us."""

    __tablename__ = "retained_topics"
    topic: str = Field(primary_key=True)
    device_id: uuid.UUID | None = Field(default=None, foreign_key="devices.device_id", ondelete="CASCADE")
    payload: bytes
    updated_at: datetime = created()


class FeedRevision(SQLModel, table=True):
    """How many feed messages an agent's pages were told."""

    __tablename__ = "feed_revisions"
    agent_id: uuid.UUID = Field(foreign_key="agents.agent_id", ondelete="CASCADE", primary_key=True)
    rev: int = Field(default=0, sa_type=BigInteger, sa_column_kwargs=default("0"))


class FeedEntry(SQLModel, table=True):
    """One feed message, kept for pages that missed it."""

    __tablename__ = "feed_entries"
    agent_id: uuid.UUID = Field(foreign_key="agents.agent_id", ondelete="CASCADE", primary_key=True)
    rev: int = Field(primary_key=True, sa_type=BigInteger)
    feed: str
    message: dict[str, Any] = Field(sa_type=JSON)
    at: datetime = created()


class Denial(SQLModel, table=True):
    """A refusal and how often it happened within one minute."""

    __tablename__ = "denials"
    __table_args__ = (UniqueConstraint("minute", "principal", "action", "topic", "reason"),)
    denial_id: int | None = numbered()
    minute: datetime = Field(sa_type=TIMESTAMPTZ)
    principal: str
    agent_id: uuid.UUID | None = Field(default=None, foreign_key="agents.agent_id", ondelete="CASCADE")
    device_id: uuid.UUID | None = Field(default=None, foreign_key="devices.device_id", ondelete="CASCADE")
    action: str
    topic: str
    reason: str
    count: int = Field(default=1, sa_type=BigInteger, sa_column_kwargs=default("1"))
    last_at: datetime = Field(sa_type=TIMESTAMPTZ)
    integration_id: uuid.UUID | None = Field(
        default=None, foreign_key="integrations.integration_id", ondelete="CASCADE"
    )


class Quarantine(SQLModel, table=True):
    """A device whose messages are set aside for now, and why."""

    __tablename__ = "quarantines"
    __table_args__ = (
        ForeignKeyConstraint(["device_id", "agent_id"], ["devices.device_id", "devices.agent_id"], ondelete="CASCADE"),
    )
    device_id: uuid.UUID = Field(primary_key=True)
    agent_id: uuid.UUID
    reason: str
    detail: str
    since: datetime = created()
    until: datetime = Field(sa_type=TIMESTAMPTZ)
    set_aside: int = Field(default=0, sa_type=BigInteger, sa_column_kwargs=default("0"))
    last_topic: str = Field(default="", sa_column_kwargs=default("''"))
    last_at: datetime | None = moment()


class DeadLetter(SQLModel, table=True):
    """A message that could not be stored (`in`) or that no broker took (`out`), with its error."""

    __tablename__ = "dead_letters"
    dead_letter_id: int | None = numbered()
    topic: str
    payload: bytes
    error: str
    received_at: datetime = Field(sa_type=TIMESTAMPTZ)
    parked_at: datetime = created()
    agent_id: uuid.UUID | None = Field(default=None, foreign_key="agents.agent_id", ondelete="CASCADE")
    device_id: uuid.UUID | None = Field(default=None, foreign_key="devices.device_id", ondelete="SET NULL")
    direction: str = Field(default="in", sa_column_kwargs=default("'in'"))
    retain: bool = Field(default=False, sa_column_kwargs=FALSE)
    tries: int = Field(default=1, sa_column_kwargs=default("1"))
    tried_at: datetime | None = moment()


class IdempotencyKey(SQLModel, table=True):
    """A request that was answered, so that it is answered the same when it comes again."""

    __tablename__ = "idempotency_keys"
    principal: str = Field(primary_key=True)
    key: str = Field(primary_key=True)
    request_hash: str
    status: int = Field(sa_type=SmallInteger)
    body: Any = Field(sa_type=JSON, nullable=False)
    created_at: datetime = created()
