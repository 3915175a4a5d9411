"""`publish_mqtt`: say something to an integration of the agent, below its own `out/` and nowhere else."""

import uuid
from collections.abc import Mapping
from typing import Any, Final

from sqlmodel import Session

from hub import outbox
from hub.errors import Invalid
from hub.tools.registry import tool
from hub.tools.send_message import integration_of
from hub.tools.tool import Context, Done, Need
from hub_protocol.errors import BadName
from hub_protocol.topics import check_level

SCOPE: Final = "mqtt:publish"
LEVELS_MAX: Final = 8
PAYLOAD_MAX: Final = 65_536


def _weigh(session: Session, agent_id: uuid.UUID, args: Mapping[str, Any]) -> Need:
    _topic(session, agent_id, args)
    return Need("medium", (SCOPE,))


def _topic(session: Session, agent_id: uuid.UUID, args: Mapping[str, Any]) -> str:
    """`out/<integration>/…` below the root; raises `NotFound` and `Invalid`."""
    known = integration_of(session, agent_id, args["integration"], "args.integration")
    levels = args["topic"].split("/")
    if len(levels) > LEVELS_MAX:
        raise Invalid(f"has at most {LEVELS_MAX} levels", field="args.topic")
    try:
        below = [check_level(level) for level in levels]
    except BadName as error:
        raise Invalid(f"each level is {error.rule}", field="args.topic") from None
    if len(args.get("payload", "").encode()) > PAYLOAD_MAX:
        raise Invalid(f"is at most {PAYLOAD_MAX:,} bytes", field="args.payload")
    return "/".join(["out", known, *below])


@tool(
    "publish_mqtt",
    about="Publish a message to an integration, below its own topic out/<integration>/.",
    schema={
        "type": "object",
        "properties": {
            "integration": {"type": "string", "title": "Integration", "description": "Its handle.", "maxLength": 59},
            "topic": {
                "type": "string",
                "title": "Topic",
                "description": "Below out/<integration>/, as in lights/hall.",
                "minLength": 1,
                "maxLength": 400,
            },
            "payload": {"type": "string", "title": "Payload", "maxLength": PAYLOAD_MAX},
            "qos": {"type": "integer", "title": "QoS", "enum": [0, 1], "default": 1},
        },
        "required": ["integration", "topic"],
        "additionalProperties": False,
    },
    risk="medium",
    scopes=(SCOPE,),
    weigh=_weigh,
)
def run(context: Context, args: Mapping[str, Any]) -> Done:
    """Published once the transaction has committed, at least once; never retained."""
    with context.database.transaction() as session:
        topic = _topic(session, context.agent_id, args)
        outbox.say(session, topic, args.get("payload", "").encode(), qos=args.get("qos", 1))
    return Done({"topic": topic})
