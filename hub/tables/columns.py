"""Column types and defaults that the tables share."""

import uuid
from typing import Any, Final

from sqlalchemy import BigInteger, Column, DateTime, ForeignKeyConstraint, Identity, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import Field

# `Any`, because SQLModel types `sa_type` as a class although it takes an instance.
TIMESTAMPTZ: Final[Any] = DateTime(timezone=True)
# None means SQL NULL, never the JSON value null.
JSON: Final[Any] = JSONB(none_as_null=True)

NOW: Final[Any] = {"server_default": text("now()")}
FALSE: Final[Any] = {"server_default": text("false")}
EMPTY_OBJECT: Final[Any] = {"server_default": text("'{}'::jsonb")}
EMPTY_ARRAY: Final[Any] = {"server_default": text("'[]'::jsonb")}


def default(value: str) -> Any:
    """Column arguments for a default that the database gives, as an SQL expression."""
    return {"server_default": text(value)}


def new_uuid_key() -> Any:
    """A uuid primary key that the row knows before it is stored."""
    return Field(default_factory=uuid.uuid4, primary_key=True, sa_column_kwargs=default("gen_random_uuid()"))


def numbered(*, key: bool = True) -> Any:
    """A bigint that the database counts up; None until the row is stored."""
    return Field(
        default=None, sa_column=Column(BigInteger, Identity(always=True), primary_key=key, unique=None if key else True)
    )


def created() -> Any:
    """The database's time of the insert; None until the row is stored."""
    return Field(default=None, sa_type=TIMESTAMPTZ, sa_column_kwargs=NOW)


def moment() -> Any:
    """A point in time that may be unknown or not have come."""
    return Field(default=None, sa_type=TIMESTAMPTZ)


def of_device() -> ForeignKeyConstraint:
    """The row's device is its agent's."""
    return ForeignKeyConstraint(
        ["device_id", "agent_id"], ["devices.device_id", "devices.agent_id"], ondelete="CASCADE"
    )


def of_batch(ondelete: str = "CASCADE") -> ForeignKeyConstraint:
    """The row's batch, if it has one, is its agent's."""
    return ForeignKeyConstraint(
        ["batch_id", "agent_id"], ["command_batches.batch_id", "command_batches.agent_id"], ondelete=ondelete
    )
