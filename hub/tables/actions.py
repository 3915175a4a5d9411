"""What an agent wants to do, who said yes to it, and what became of it."""

import uuid
from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKeyConstraint, SmallInteger, UniqueConstraint
from sqlmodel import Field, SQLModel

from hub.tables.columns import (
    EMPTY_ARRAY,
    EMPTY_OBJECT,
    JSON,
    TIMESTAMPTZ,
    created,
    default,
    moment,
    new_uuid_key,
    numbered,
)


def of_action() -> ForeignKeyConstraint:
    """The row's action is its agent's."""
    return ForeignKeyConstraint(
        ["action_id", "agent_id"], ["actions.action_id", "actions.agent_id"], ondelete="CASCADE"
    )


class Action(SQLModel, table=True):
    """Something the agent wants to do, and what became of it. `kind` is its tool, `payload` what the tool is given."""

    __tablename__ = "actions"
    __table_args__ = (
        UniqueConstraint("action_id", "agent_id"),
        ForeignKeyConstraint(
            ["device_id", "agent_id"], ["devices.device_id", "devices.agent_id"], ondelete="SET NULL (device_id)"
        ),
    )
    action_id: uuid.UUID = new_uuid_key()
    agent_id: uuid.UUID = Field(foreign_key="agents.agent_id", ondelete="CASCADE")
    space_id: uuid.UUID | None = Field(default=None, foreign_key="spaces.space_id", ondelete="SET NULL")
    kind: str
    payload: dict[str, Any] = Field(default_factory=dict, sa_type=JSON, sa_column_kwargs=EMPTY_OBJECT)
    required_scopes: list[str] = Field(default_factory=list, sa_type=JSON, sa_column_kwargs=EMPTY_ARRAY)
    status: str = Field(default="proposed", sa_column_kwargs=default("'proposed'"))
    created_at: datetime = created()
    updated_at: datetime = created()
    executed_at: datetime | None = moment()
    approved_by: uuid.UUID | None = Field(default=None, foreign_key="users.user_id", ondelete="SET NULL")
    approved_at: datetime | None = moment()
    result: Any = Field(default=None, sa_type=JSON, nullable=True)
    error: str | None = None
    completed_at: datetime | None = moment()
    proposer: str = Field(default="legacy", sa_column_kwargs=default("'legacy'"))
    proposed_by: str = Field(default="an earlier system", sa_column_kwargs=default("'an earlier system'"))
    proposer_kind: str = Field(default="system", sa_column_kwargs=default("'system'"))
    why: str = Field(default="", sa_column_kwargs=default("''"))
    cause_event_id: uuid.UUID | None = None
    device_id: uuid.UUID | None = None
    risk: str = Field(default="high", sa_column_kwargs=default("'high'"))
    expires_at: datetime = Field(
        default=None, sa_type=TIMESTAMPTZ, sa_column_kwargs=default("now() + interval '1 day'")
    )
    digest: str = Field(default="legacy", sa_column_kwargs=default("'legacy'"))
    proposed_digest: str = Field(default="legacy", sa_column_kwargs=default("'legacy'"))
    approved_digest: str | None = None
    approvals_needed: int = Field(default=1, sa_type=SmallInteger, sa_column_kwargs=default("1"))
    decided_by: str | None = None
    decided_kind: str | None = None
    decision_reason: str | None = None
    policy: Any = Field(default=None, sa_type=JSON, nullable=True)
    idempotency_key: str | None = None
    revision: int = Field(default=1, sa_column_kwargs=default("1"))
    attempt: int = Field(default=0, sa_type=SmallInteger, sa_column_kwargs=default("0"))
    run_after: datetime | None = moment()
    lease: uuid.UUID | None = None
    lease_until: datetime | None = moment()


class ActionStep(SQLModel, table=True):
    """One line of an action's timeline."""

    __tablename__ = "action_steps"
    __table_args__ = (of_action(),)
    step_no: int | None = numbered()
    action_id: uuid.UUID
    agent_id: uuid.UUID
    step: str
    witness: str
    note: str = Field(default="", sa_column_kwargs=default("''"))
    detail: Any = Field(default=None, sa_type=JSON, nullable=True)
    at: datetime = created()


class ActionApproval(SQLModel, table=True):
    """One who said yes, and to what."""

    __tablename__ = "action_approvals"
    __table_args__ = (of_action(),)
    action_id: uuid.UUID = Field(primary_key=True)
    agent_id: uuid.UUID
    principal: str = Field(primary_key=True)
    label: str
    digest: str
    reason: str = Field(default="", sa_column_kwargs=default("''"))
    at: datetime = created()


class ApprovalRule(SQLModel, table=True):
    """Who decides on an agent's actions, where it is otherwise than by default."""

    __tablename__ = "approval_rules"
    agent_id: uuid.UUID = Field(foreign_key="agents.agent_id", ondelete="CASCADE", primary_key=True)
    revision: int = Field(default=1, sa_column_kwargs=default("1"))
    low_role: str
    medium_role: str
    high_role: str
    low_approvals: int = Field(sa_type=SmallInteger)
    medium_approvals: int = Field(sa_type=SmallInteger)
    high_approvals: int = Field(sa_type=SmallInteger)
    expires_s: float
