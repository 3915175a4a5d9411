"""HTTP for machines: `/v1` for devices and people, `/api` for people; described by OpenAPI at /api/openapi.json."""

from fastapi import APIRouter

from web.api import (
    actions,
    agents,
    audit,
    automations,
    batches,
    commands,
    config,
    dead_letters,
    description,
    devices,
    enrol,
    enrolments,
    events,
    heartbeat,
    me,
    members,
    memories,
    policies,
    presence,
    retention,
    spaces,
    telemetry,
    tokens,
    tools,
)
from web.api.problems import PROBLEMS

router = APIRouter(responses=PROBLEMS)
for part in (
    me,
    enrol,
    events,
    memories,
    actions,
    tools,
    automations,
    policies,
    heartbeat,
    telemetry,
    agents,
    retention,
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
    dead_letters,
    description,
):
    router.include_router(part.router)
