"""`set_config`: change how a device is to be set; values are merged into what was wanted before."""

import uuid
from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import text
from sqlmodel import Session

from hub import batches, device_config
from hub.audit.actors import Actor
from hub.errors import Invalid
from hub.tools.device_command import device_of
from hub.tools.registry import tool
from hub.tools.tool import Context, Done, Need

SCOPE: Final = "config:write"


def _weigh(session: Session, agent_id: uuid.UUID, args: Mapping[str, Any]) -> Need:
    device = device_of(session, agent_id, args["device"])
    try:
        device_config.check_values(args["values"])
    except Invalid as error:
        raise Invalid(error.message, field=f"args.{error.field}") from None
    return Need("medium", (SCOPE,), device.device_id)


@tool(
    "set_config",
    about="Change how a satellite is to be set. One that is away gets it when it comes back.",
    schema={
        "type": "object",
        "properties": {
            "device": {"type": "string", "title": "Satellite", "description": "Its handle.", "maxLength": 63},
            "values": {
                "type": "object",
                "title": "Values",
                "description": "Keys to change; null takes one away. All others stay.",
                "minProperties": 1,
            },
        },
        "required": ["device", "values"],
        "additionalProperties": False,
    },
    risk="medium",
    scopes=(SCOPE,),
    is_repeatable=True,
    weigh=_weigh,
    hints={"values": '{"heartbeat_s": 30}'},
)
def run(context: Context, args: Mapping[str, Any]) -> Done:
    """Done when it is wanted: the device page says when the device has taken it."""
    with context.database.transaction() as session:
        device = device_of(session, context.agent_id, args["device"])
        session.execute(text("SELECT 1 FROM devices WHERE device_id = :id FOR SHARE"), {"id": device.device_id})
        before = device_config.lock(session, device)
        by = Actor(context.approved_by or "the hub", "system")
        values = batches.merged(before, dict(args["values"]))
        after = device_config.set_desired(session, device, values, by=by, expected_rev=before.desired_rev)
    return Done({"device": device.handle, "rev": after.desired_rev, "state": after.state})
