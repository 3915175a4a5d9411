"""`GET /v1/memories`: pages of what the agent remembers."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from hub.operations import memories
from hub.operations.memories import MemoriesBody, MemoriesQuestion
from web.api.access import Access, needs
from web.dependencies import Db

router = APIRouter(tags=["memories"])


@router.get("/v1/memories")
def page(
    question: Annotated[MemoriesQuestion, Query()],
    access: Annotated[Access, Depends(needs("memories:read"))],
    session: Db,
) -> MemoriesBody:
    """A page of memories, newest first; those of spaces in privacy mode are left out."""
    return memories.answer(session, access.agent_id, question)
