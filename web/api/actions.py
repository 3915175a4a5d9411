"""`GET /v1/actions`: pages of what the agent wants to do and what became of it."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query

from hub.operations import actions
from hub.operations.actions import ActionsBody, ActionsQuestion
from web.api.access import Access, needs
from web.dependencies import Db

router = APIRouter(tags=["actions"])


@router.get("/v1/actions")
def page(
    question: Annotated[ActionsQuestion, Query()],
    access: Annotated[Access, Depends(needs("actions:read"))],
    session: Db,
) -> ActionsBody:
    """A page of actions, newest first."""
    return actions.answer(session, access.agent_id, question)
