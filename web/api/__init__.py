"""HTTP for machines: `/v1` for devices and people, `/api` for people; described by OpenAPI at /api/openapi.json."""

from fastapi import APIRouter

from web.api import (
    actions,
    agents,
    audit,
    batches,
    commands,
    config,
    description,
    devices,
    enrol,
    enrolments,
    events,
    heartbeat,
    me,
    members,
    memories,
    presence,
    spaces,
    telemetry,
    tokens,
)
from web.api.problems import PROBLEMS

router = APIRouter(responses=PROBLEMS)
for part in (
    me,
    enrol,
    events,
    memories,
    actions,
    heartbeat,
    telemetry,
    agents,
    spaces,
    devices,
    presence,
    commands,
    config,
    batches,
    enrolments,
    members,
    tokens,
    audit,
    description,
):
    router.include_router(part.router)
