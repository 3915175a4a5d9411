"""`send_message`: an event first, which is kept whoever listens; then whoever it is for is told.

People see it live among the events. A satellite is told by its verb `notify` or `say`, an integration below `out/`.
"""

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from sqlalchemy import text
from sqlmodel import Session

from hub import commands, events, outbox, spaces, verbs
from hub.audit.actors import Actor
from hub.errors import Conflict, HubError, NotFound
from hub.tables import Device
from hub.tools.device_command import device_of
from hub.tools.registry import tool
from hub.tools.tool import Context, Done, Need

SCOPE: Final = "messages:send"
EVENT: Final = "message"
# The verbs by which a satellite shows or speaks a text, the quieter first; and what they take.
_VERBS: Final = ("notify", "say")
_TEXT_MAX: Final = 1_000
_TOLD_WITHIN_S: Final = 600.0


def _weigh(session: Session, agent_id: uuid.UUID, args: Mapping[str, Any]) -> Need:
    for handle in args.get("devices", ()):
        device_of(session, agent_id, handle, "args.devices")
    for handle in args.get("integrations", ()):
        integration_of(session, agent_id, handle, "args.integrations")
    return Need("low", (SCOPE,))


def integration_of(session: Session, agent_id: uuid.UUID, handle: str, field: str) -> str:
    """The handle of an integration of this agent; `NotFound` for any other."""
    known = session.execute(
        text("SELECT handle FROM integrations WHERE handle = :handle AND agent_id = :agent AND revoked_at IS NULL"),
        {"handle": handle, "agent": agent_id},
    ).scalar_one_or_none()
    if known is None:
        raise NotFound(f"the agent has no integration {handle[:63]!r}", field=field)
    return str(known)


@tool(
    "send_message",
    about="Say something: to people who look at a page, and to the satellites and integrations that are named.",
    schema={
        "type": "object",
        "properties": {
            "text": {"type": "string", "title": "Message", "minLength": 1, "maxLength": 4000},
            "title": {"type": "string", "title": "Title", "maxLength": 120},
            "devices": {
                "type": "array",
                "title": "Satellites",
                "description": "Handles; each shows or says it, if it can.",
                "items": {"type": "string", "maxLength": 63},
                "maxItems": 100,
                "uniqueItems": True,
            },
            "integrations": {
                "type": "array",
                "title": "Integrations",
                "description": "Handles; each is told below `out/`.",
                "items": {"type": "string", "maxLength": 63},
                "maxItems": 100,
                "uniqueItems": True,
            },
        },
        "required": ["text"],
        "additionalProperties": False,
    },
    risk="low",
    scopes=(SCOPE,),
    weigh=_weigh,
    hints={"devices": '["porch"]', "integrations": '["ha"]'},
)
def run(context: Context, args: Mapping[str, Any]) -> Done:
    """Store it and publish it in one transaction: never does it fail because nobody listens."""
    now = datetime.now(UTC)
    message_id = uuid.uuid5(context.action_id, "message").hex
    with context.database.transaction() as session:
        if spaces.private_among(session, [context.space_id]):
            raise Conflict(spaces.PRIVATE, field="space")
        payload = {"text": args["text"], "title": args.get("title", ""), "action_id": str(context.action_id)}
        payload |= {name: list(args[name]) for name in ("devices", "integrations") if args.get(name)}
        new = events.NewEvent(
            device_id=None,
            agent_id=context.agent_id,
            handle=None,
            space_id=context.space_id,
            message_id=message_id,
            type=EVENT,
            payload=payload,
            epoch=None,
            seq=None,
            happened_at=now,
            received_at=now,
        )
        events.append(session, [new])
        told: dict[str, str] = {}
        for handle in args.get("devices", ()):
            told[handle] = _tell_device(session, context, handle, args)
        for handle in args.get("integrations", ()):
            told[handle] = _tell_integration(session, context, handle, payload | {"id": message_id, "at": now})
    return Done({"message_id": message_id, "told": told})


def _tell_device(session: Session, context: Context, handle: str, args: Mapping[str, Any]) -> str:
    """How it is told, in a word. That it cannot be is no failure: the message is stored."""
    try:
        device = device_of(session, context.agent_id, handle, "args.devices")
        name = _verb_of(session, device)
        if name is None:
            return "it has no verb notify or say"
        given = {"text": args["text"][:_TEXT_MAX]}
        if name == "notify" and args.get("title"):
            given["title"] = args["title"]
        by = Actor(context.approved_by or "the hub", "system")
        with session.begin_nested():
            commands.request(session, device, name, given, by=by, ttl_s=_TOLD_WITHIN_S)
    except HubError as error:
        return error.message
    return f"by {name}"


def _verb_of(session: Session, device: Device) -> str | None:
    hello = session.execute(
        text("SELECT hello FROM device_presence WHERE device_id = :id"), {"id": device.device_id}
    ).scalar_one_or_none()
    known = {verb.name for verb in verbs.of_hello(hello or {}) if verb.is_declared}
    return next((name for name in _VERBS if name in known), None)


def _tell_integration(session: Session, context: Context, handle: str, message: Mapping[str, Any]) -> str:
    try:
        known = integration_of(session, context.agent_id, handle, "args.integrations")
    except NotFound as error:
        return error.message
    outbox.say(session, f"out/{known}/message", msgspec.json.encode(message))
    return f"on out/{known}/message"
