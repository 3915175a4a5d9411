"""Claim codes, and the devices that came with one and ask to join."""

import uuid
from datetime import datetime

from sqlalchemy import ForeignKeyConstraint, UniqueConstraint
from sqlmodel import Field, SQLModel

from hub.tables.columns import JSON, TIMESTAMPTZ, created, default, moment, new_uuid_key

_EMPTY = default("''")


class ClaimCode(SQLModel, table=True):
    """The hash of a code that lets one device ask for a token, with what the device shall be."""

    __tablename__ = "claim_codes"
    __table_args__ = (
        UniqueConstraint("claim_id", "agent_id"),
        ForeignKeyConstraint(["device_id", "agent_id"], ["devices.device_id", "devices.agent_id"], ondelete="CASCADE"),
    )
    claim_id: uuid.UUID = new_uuid_key()
    agent_id: uuid.UUID = Field(foreign_key="agents.agent_id", ondelete="CASCADE")
    code_hash: str = Field(unique=True)
    device_id: uuid.UUID | None = None
    name: str | None = None
    handle: str | None = None
    space_id: uuid.UUID | None = Field(default=None, foreign_key="spaces.space_id", ondelete="SET NULL")
    scopes: list[str] = Field(sa_type=JSON)
    needs_approval: bool = Field(default=True, sa_column_kwargs=default("true"))
    created_at: datetime = created()
    created_by: str
    user_id: uuid.UUID | None = Field(default=None, foreign_key="users.user_id", ondelete="CASCADE")
    expires_at: datetime = Field(sa_type=TIMESTAMPTZ)
    used_at: datetime | None = moment()
    withdrawn_at: datetime | None = moment()


class Enrolment(SQLModel, table=True):
    """A device that used a code: what it says of itself, what was decided, and whether it has its token."""

    __tablename__ = "enrolments"
    __table_args__ = (
        ForeignKeyConstraint(
            ["claim_id", "agent_id"], ["claim_codes.claim_id", "claim_codes.agent_id"], ondelete="CASCADE"
        ),
        ForeignKeyConstraint(["device_id", "agent_id"], ["devices.device_id", "devices.agent_id"], ondelete="CASCADE"),
    )
    enrolment_id: uuid.UUID = new_uuid_key()
    agent_id: uuid.UUID = Field(foreign_key="agents.agent_id", ondelete="CASCADE")
    claim_id: uuid.UUID = Field(unique=True)
    device_id: uuid.UUID | None = None
    status: str = Field(default="pending", sa_column_kwargs=default("'pending'"))
    name: str = Field(default="", sa_column_kwargs=_EMPTY)
    hardware: str = Field(default="", sa_column_kwargs=_EMPTY)
    firmware: str = Field(default="", sa_column_kwargs=_EMPTY)
    fingerprint: str = Field(default="", sa_column_kwargs=_EMPTY)
    address: str = Field(default="", sa_column_kwargs=_EMPTY)
    phrase: str
    poll_hash: str
    retry_hash: str | None = None
    asked_at: datetime = created()
    expires_at: datetime = Field(sa_type=TIMESTAMPTZ)
    decided_at: datetime | None = moment()
    decided_by: str | None = None
    reason: str | None = None
    first_collected_at: datetime | None = moment()
    collected_at: datetime | None = moment()
