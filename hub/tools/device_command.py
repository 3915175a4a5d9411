"""`device_command`: tell a device to do one of the things that it can, and wait for its answer."""

import uuid
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from sqlalchemy import text
from sqlmodel import Session

from hub import commands, verbs
from hub.audit.actors import Actor
from hub.errors import Conflict, NotFound
from hub.tables import Device
from hub.tools.registry import tool
from hub.tools.tool import Context, Need, Waiting

SCOPE: Final = "devices:command"
TTL_S: Final = 30.0


def device_of(session: Session, agent_id: uuid.UUID, handle: str, field: str = "args.device") -> Device:
    """The agent's device with this handle; `NotFound` also for another agent's, `Conflict` for one that is revoked."""
    row = session.execute(
        text("SELECT device_id FROM devices WHERE handle = :handle AND agent_id = :agent AND deleted_at IS NULL"),
        {"handle": handle, "agent": agent_id},
    ).scalar_one_or_none()
    if row is None:
        raise NotFound(f"the agent has no device {handle[:63]!r}", field=field)
    device = session.get_one(Device, row)
    if device.revoked_at is not None:
        raise Conflict(f"{device.handle} is revoked and takes no commands")
    return device


def _weigh(session: Session, agent_id: uuid.UUID, args: Mapping[str, Any]) -> Need:
    device = device_of(session, agent_id, args["device"])
    hello = session.execute(
        text("SELECT hello FROM device_presence WHERE device_id = :id AND last_hello_at IS NOT NULL"),
        {"id": device.device_id},
    ).scalar_one_or_none()
    verb = verbs.choose(hello, args["verb"], device.handle)
    verb.check(args.get("args", {}))
    # What a device has never said may be anything.
    risk = verb.risk if verb.is_declared or verb.name == "ping" else "high"
    return Need(risk, (SCOPE,), device.device_id)


@tool(
    "device_command",
    about="Tell a satellite to do one of the things that it can do, and wait for its answer.",
    schema={
        "type": "object",
        "properties": {
            "device": {"type": "string", "title": "Satellite", "description": "Its handle.", "maxLength": 63},
            "verb": {"type": "string", "title": "What to do", "description": "One of its verbs.", "maxLength": 63},
            "args": {"type": "object", "title": "Arguments", "description": "What that verb takes."},
            "ttl_s": {
                "type": "number",
                "title": "Seconds it may take",
                "description": "It waits so long for a satellite that is away.",
                "minimum": 1,
                "maximum": commands.TTL_MAX_S,
                "default": TTL_S,
            },
        },
        "required": ["device", "verb"],
        "additionalProperties": False,
    },
    risk="high",
    scopes=(SCOPE,),
    weigh=_weigh,
)
def run(context: Context, args: Mapping[str, Any]) -> Waiting:
    """Queue the command; the device's answer, or its silence, settles the action."""
    with context.database.transaction() as session:
        device = device_of(session, context.agent_id, args["device"])
        command = commands.request(
            session,
            device,
            args["verb"],
            args.get("args", {}),
            by=Actor(context.approved_by or "the hub", "system"),
            ttl_s=float(args.get("ttl_s", TTL_S)),
            action_id=context.action_id,
        )
        return Waiting(command.expires_at + timedelta(seconds=2))
