"""`create_memory`: have the agent remember something."""

import uuid
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from sqlalchemy import text
from sqlmodel import Session

from hub import spaces
from hub.errors import Conflict
from hub.tools.registry import tool
from hub.tools.tool import Context, Done, Need

SCOPE: Final = "memories:write"
TIERS: Final = ("episodic", "semantic", "procedural", "preference")


def _weigh(_session: Session, _agent_id: uuid.UUID, _args: Mapping[str, Any]) -> Need:
    return Need("low", (SCOPE,))


@tool(
    "create_memory",
    about="Have the agent remember something, with a note of what caused it.",
    schema={
        "type": "object",
        "properties": {
            "content": {"type": "string", "title": "What to remember", "minLength": 1, "maxLength": 8000},
            "tier": {
                "type": "string",
                "title": "Kind",
                "description": "What happened, what is so, how something is done, or what somebody likes.",
                "enum": list(TIERS),
                "default": "semantic",
            },
            "participants": {
                "type": "array",
                "title": "Who it is about",
                "items": {"type": "string", "maxLength": 120},
                "maxItems": 50,
            },
        },
        "required": ["content"],
        "additionalProperties": False,
    },
    risk="low",
    scopes=(SCOPE,),
    is_repeatable=True,
    weigh=_weigh,
)
def run(context: Context, args: Mapping[str, Any]) -> Done:
    """Stored once for an action, however often it is tried; nothing is remembered of a private space."""
    memory_id = uuid.uuid5(context.action_id, "memory")
    with context.database.transaction() as session:
        if spaces.private_among(session, [context.space_id]):
            raise Conflict(spaces.PRIVATE, field="space")
        session.execute(
            text(
                "INSERT INTO memories (memory_id, agent_id, space_id, tier, content, participants, provenance) "
                "VALUES (:id, :agent, :space, :tier, :content, CAST(:participants AS jsonb), "
                "CAST(:provenance AS jsonb)) ON CONFLICT DO NOTHING"
            ),
            {
                "id": memory_id,
                "agent": context.agent_id,
                "space": context.space_id,
                "tier": args.get("tier", "semantic"),
                "content": args["content"],
                "participants": msgspec.json.encode(args.get("participants", [])).decode(),
                "provenance": msgspec.json.encode(
                    {"action_id": str(context.action_id), "by": context.approved_by}
                ).decode(),
            },
        )
    return Done({"memory_id": str(memory_id)})
