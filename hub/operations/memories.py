"""`memories`: a page of what an agent remembers, newest first."""

import uuid
from datetime import datetime
from typing import Annotated, Any

from pydantic import Field
from sqlalchemy import text
from sqlmodel import Session

from hub import identity
from hub.operations.questions import PAGE_MAX, Body, Question, read_cursor, write_cursor


class MemoriesQuestion(Question):
    """Which memories; all filters together."""

    before: Annotated[str, Field(max_length=80, description="`next` of the page before")] | None = None
    tier: Annotated[str, Field(max_length=63, examples=["semantic"])] | None = None
    space: Annotated[str, Field(max_length=120, description="a space's id or name")] | None = None
    limit: Annotated[int, Field(ge=1, le=PAGE_MAX, description="memories on a page")] = 50


class MemoryBody(Body):
    """One memory."""

    memory_id: uuid.UUID
    tier: str = Field(examples=["semantic"])
    content: str = Field(examples=["Major prefers eggs and coffee for breakfast"])
    participants: list[Any]
    provenance: dict[str, Any]
    space_id: uuid.UUID | None
    created_at: datetime


class MemoriesBody(Body):
    """A page of memories, newest first; `next` is the `before` of the following page, null at the end."""

    items: list[MemoryBody]
    next: str | None


def answer(session: Session, agent_id: uuid.UUID, question: MemoriesQuestion) -> MemoriesBody:
    """The page, without what belongs to a space in privacy mode.

    Raises `NotFound` for a space that the agent does not have, `Invalid` for a cursor.
    """
    space_id = identity.find_space(session, agent_id, question.space).space_id if question.space else None
    at, last = read_cursor(question.before) if question.before else (None, None)
    rows = session.execute(
        text(
            "SELECT m.memory_id, m.tier, m.content, m.participants, m.provenance, m.space_id, m.created_at"
            " FROM memories AS m LEFT JOIN spaces AS s USING (space_id) WHERE m.agent_id = :agent"
            " AND s.privacy_mode IS NOT TRUE AND (CAST(:tier AS text) IS NULL OR m.tier = :tier)"
            " AND (CAST(:space AS uuid) IS NULL OR m.space_id = :space)"
            " AND (CAST(:at AS timestamptz) IS NULL OR (m.created_at, m.memory_id) < (:at, CAST(:last AS uuid)))"
            " ORDER BY m.created_at DESC, m.memory_id DESC LIMIT :limit"
        ),
        {
            "agent": agent_id,
            "tier": question.tier,
            "space": space_id,
            "at": at,
            "last": last,
            "limit": question.limit + 1,
        },
    ).all()
    items = [MemoryBody(**row._mapping) for row in rows[: question.limit]]  # noqa: SLF001  (SQLAlchemy's public name)
    more = len(rows) > question.limit
    return MemoriesBody(items=items, next=write_cursor(items[-1].created_at, items[-1].memory_id) if more else None)
