"""`notify`: tell people by a channel that the agent's admins have set up (a webhook of ntfy, Gotify, a chat, …)."""

import uuid
from collections.abc import Mapping
from typing import Any, Final

import msgspec
from sqlalchemy import text
from sqlmodel import Session

from hub import notify_channels, outside
from hub.errors import NotFound
from hub.sealed import Sealed
from hub.tools.registry import tool
from hub.tools.tool import Context, Done, Need, ToolError

SCOPE: Final = "notify:send"
WITHIN_S: Final = 15.0


def _weigh(session: Session, agent_id: uuid.UUID, args: Mapping[str, Any]) -> Need:
    known = session.execute(
        text("SELECT 1 FROM notify_channels WHERE agent_id = :agent AND name = :name"),
        {"agent": agent_id, "name": args["channel"]},
    ).first()
    if known is None:
        names = ", ".join(one.name for one in notify_channels.listed(session, agent_id)) or "none yet"
        raise NotFound(f"the agent has no channel {args['channel']!r}; it has {names}", field="args.channel")
    return Need("low", (SCOPE,))


@tool(
    "notify",
    about="Notify people by one of the agent's channels: its address gets the title and the message as JSON.",
    schema={
        "type": "object",
        "properties": {
            "channel": {"type": "string", "title": "Channel", "description": "Its name.", "maxLength": 63},
            "message": {"type": "string", "title": "Message", "minLength": 1, "maxLength": 4000},
            "title": {"type": "string", "title": "Title", "maxLength": 120},
        },
        "required": ["channel", "message"],
        "additionalProperties": False,
    },
    risk="low",
    scopes=(SCOPE,),
    timeout_s=WITHIN_S + 5,
    weigh=_weigh,
)
def run(context: Context, args: Mapping[str, Any]) -> Done:
    """Tried once: to be told twice is worse than a line in the log that says that it failed."""
    with context.database.transaction() as session:
        secret = notify_channels.secret_of(
            session, context.agent_id, args["channel"], Sealed(context.settings), "args.channel"
        )
    target = outside.parse(secret.url, context.settings.private_hosts)
    headers = [(b"content-type", b"application/json")]
    if secret.token:
        headers.append((b"authorization", f"Bearer {secret.token}".encode()))
    body = msgspec.json.encode(
        {"title": args.get("title", ""), "message": args["message"], "text": args["message"], "source": "Marvain"}
    )
    try:
        answer = outside.request(target, "POST", headers=headers, body=body, within_s=WITHIN_S)
    except outside.Unreachable as error:
        raise ToolError(_without(str(error), secret), is_certain=not error.was_sent) from None
    if answer.status >= 300:
        raise ToolError(f"{target.host} answered {answer.status}")
    return Done({"channel": args["channel"], "status": answer.status})


def _without(told: str, secret: notify_channels.Secret) -> str:
    """What is shown of an error; the address may be in it."""
    return told.replace(secret.url, "(the address)").replace(secret.token or "\0", "(the token)")
