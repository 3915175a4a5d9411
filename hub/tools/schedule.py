"""`schedule`: have an action done later, or again and again. Who approves the schedule approves what it does."""

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from sqlmodel import Session

from hub import schedules
from hub.errors import Invalid
from hub.tools import registry
from hub.tools.registry import tool
from hub.tools.tool import Context, Done, Need

SCOPE: Final = "actions:schedule"


def _weigh(session: Session, agent_id: uuid.UUID, args: Mapping[str, Any]) -> Need:
    if args["tool"] == schedules.TOOL:
        raise Invalid("a schedule schedules no schedule", field="args.tool")
    if ("at" in args) == ("cron" in args):
        raise Invalid("say either when (at) or how often (cron)", field="args.at")
    if "at" in args:
        _at(args)
    else:
        schedules.check_cron(args["cron"], "args.cron")
    schedules.zone_of(args.get("zone", "UTC"), "args.zone")
    try:
        inner = registry.find(args["tool"]).check(session, agent_id, args.get("args", {}))
    except Invalid as error:
        # What is wrong inside is named from outside: args.args.<path>, args.tool.
        raise Invalid(error.message, field=f"args.{error.field}" if error.field else "args") from None
    return Need(inner.risk, (*inner.scopes, SCOPE), inner.device_id)


def _at(args: Mapping[str, Any]) -> datetime:
    try:
        at = datetime.fromisoformat(args["at"])
    except ValueError:
        raise Invalid("is a time as in 2026-11-25T18:30:00+01:00", field="args.at") from None
    if at.tzinfo is None:
        at = at.replace(tzinfo=schedules.zone_of(args.get("zone", "UTC"), "args.zone"))
    at = at.astimezone(UTC)
    if at > datetime.now(UTC) + schedules.LATEST:
        raise Invalid("is within a year", field="args.at")
    return at


@tool(
    "schedule",
    about="Do another action later, or again and again: approved once, with all that it will do.",
    schema={
        "type": "object",
        "properties": {
            "tool": {"type": "string", "title": "Tool", "description": "What is to be done.", "maxLength": 63},
            "args": {"type": "object", "title": "Arguments", "description": "What that tool takes."},
            "at": {"type": "string", "title": "Once, at", "description": "2026-11-25T18:30:00+01:00", "maxLength": 40},
            "cron": {
                "type": "string",
                "title": "Or again and again",
                "description": "Minute, hour, day, month, weekday: 30 7 * * 1-5.",
                "maxLength": schedules.CRON_MAX,
            },
            "zone": {"type": "string", "title": "Time zone", "default": "UTC", "maxLength": 60},
            "times": {"type": "integer", "title": "At most so often", "minimum": 1, "maximum": 100_000},
        },
        "required": ["tool", "args"],
        "additionalProperties": False,
    },
    risk="high",
    scopes=(SCOPE,),
    is_repeatable=True,
    weigh=_weigh,
)
def run(context: Context, args: Mapping[str, Any]) -> Done:
    """Kept once for an action; what comes of it are actions of their own."""
    now = datetime.now(UTC)
    with context.database.transaction() as session:
        first = schedules.start(
            session,
            context.agent_id,
            context.action_id,
            at=_at(args) if "at" in args else None,
            cron=schedules.check_cron(args["cron"], "args.cron") if "cron" in args else None,
            zone=args.get("zone", "UTC"),
            times=args.get("times"),
            now=now,
        )
    return Done({"first_at": first.isoformat(timespec="seconds")})
