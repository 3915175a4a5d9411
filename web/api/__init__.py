"""HTTP for machines: `/v1` for devices and people, `/api` for people; described by OpenAPI at /api/openapi.json."""

from fastapi import APIRouter

from web.api import actions, audit, description, devices, events, heartbeat, me, memories, tokens
from web.api.problems import PROBLEMS

router = APIRouter(responses=PROBLEMS)
for part in (me, events, memories, actions, heartbeat, devices, tokens, audit, description):
    router.include_router(part.router)
