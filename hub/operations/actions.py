"""`actions`: a page of what an agent wants to do and what became of it, newest first."""

import uuid
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field
from sqlalchemy import text
from sqlmodel import Session

from hub import identity
from hub.operations.questions import PAGE_MAX, Body, Question, read_cursor, write_cursor

Status = Literal[
    "proposed", "approved", "executing", "executed", "failed", "rejected", "expired", "cancelled", "unknown"
]


class ActionsQuestion(Question):
    """Which actions; all filters together."""

    before: Annotated[str, Field(max_length=80, description="`next` of the page before")] | None = None
    status: Status | None = None
    kind: Annotated[str, Field(max_length=63, examples=["device_command"])] | None = None
    space: Annotated[str, Field(max_length=120, description="a space's id or name")] | None = None
    limit: Annotated[int, Field(ge=1, le=PAGE_MAX, description="actions on a page")] = 50


class ActionBody(Body):
    """One action."""

    action_id: uuid.UUID
    kind: str = Field(examples=["device_command"])
    payload: dict[str, Any]
    required_scopes: list[str]
    status: str = Field(examples=["proposed"])
    space_id: uuid.UUID | None
    created_at: datetime
    updated_at: datetime
    approved_at: datetime | None
    completed_at: datetime | None
    result: Any = None
    error: str | None


class ActionsBody(Body):
    """A page of actions, newest first; `next` is the `before` of the following page, null at the end."""

    items: list[ActionBody]
    next: str | None


def answer(session: Session, agent_id: uuid.UUID, question: ActionsQuestion) -> ActionsBody:
    """The page; raises `NotFound` for a space that the agent does not have, `Invalid` for a cursor."""
    space_id = identity.find_space(session, agent_id, question.space).space_id if question.space else None
    at, last = read_cursor(question.before) if question.before else (None, None)
    rows = session.execute(
        text(
            "SELECT action_id, kind, payload, required_scopes, status, space_id, created_at, updated_at, approved_at,"
            " completed_at, result, error FROM actions WHERE agent_id = :agent"
            " AND (CAST(:status AS text) IS NULL OR status = :status) AND (CAST(:kind AS text) IS NULL OR kind = :kind)"
            " AND (CAST(:space AS uuid) IS NULL OR space_id = :space)"
            " AND (CAST(:at AS timestamptz) IS NULL OR (created_at, action_id) < (:at, CAST(:last AS uuid)))"
            " ORDER BY created_at DESC, action_id DESC LIMIT :limit"
        ),
        {
            "agent": agent_id,
            "status": question.status,
            "kind": question.kind,
            "space": space_id,
            "at": at,
            "last": last,
            "limit": question.limit + 1,
        },
    ).all()
    items = [ActionBody(**row._mapping) for row in rows[: question.limit]]  # noqa: SLF001  (SQLAlchemy's public name)
    more = len(rows) > question.limit
    return ActionsBody(items=items, next=write_cursor(items[-1].created_at, items[-1].action_id) if more else None)
