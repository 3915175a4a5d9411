"""`http_request`: ask a host outside that the agent's admins have named."""

import json
import uuid
from collections.abc import Mapping
from typing import Any, Final

from sqlmodel import Session

from hub import outside, outside_hosts
from hub.errors import Invalid
from hub.tools.registry import tool
from hub.tools.tool import Context, Done, Need, ToolError

SCOPE: Final = "http:request"
WITHIN_S: Final = 20.0
SHOWN_MAX: Final = 16_384
_READS: Final = frozenset({"GET", "HEAD"})


def _weigh(session: Session, agent_id: uuid.UUID, args: Mapping[str, Any]) -> Need:
    method = args.get("method", "GET")
    # Where it leads is judged when it is done: a name may mean something else by then.
    outside_hosts.check(session, agent_id, outside.parse(args["url"], field="args.url"), method, "args.url")
    outside.check_headers(args.get("headers", {}), "args.headers")
    if len(args.get("body", "").encode()) > outside.BODY_MAX:
        raise Invalid(f"is at most {outside.BODY_MAX:,} bytes", field="args.body")
    return Need("medium" if method in _READS else "high", (SCOPE,))


@tool(
    "http_request",
    about="Ask a web service outside, at a host that the agent's admins have named.",
    schema={
        "type": "object",
        "properties": {
            "url": {"type": "string", "title": "Address", "minLength": 8, "maxLength": outside.URL_MAX},
            "method": {"type": "string", "title": "Method", "enum": list(outside.METHODS), "default": "GET"},
            "headers": {
                "type": "object",
                "title": "Headers",
                "additionalProperties": {"type": "string", "maxLength": 1000},
                "maxProperties": 20,
            },
            "body": {"type": "string", "title": "Body", "maxLength": outside.BODY_MAX},
        },
        "required": ["url"],
        "additionalProperties": False,
    },
    risk="high",
    scopes=(SCOPE,),
    timeout_s=WITHIN_S + 5,
    weigh=_weigh,
    hints={"headers": '{"accept": "application/json"}'},
)
def run(context: Context, args: Mapping[str, Any]) -> Done:
    """One request, at most 20 s. An answer of any status is an answer: it is kept, and nothing is followed."""
    method = args.get("method", "GET")
    target = outside.parse(args["url"], context.settings.private_hosts, "args.url")
    with context.database.transaction() as session:
        outside_hosts.check(session, context.agent_id, target, method, "args.url")
    try:
        answer = outside.request(
            target,
            method,
            headers=outside.check_headers(args.get("headers", {}), "args.headers"),
            body=args.get("body", "").encode(),
            within_s=WITHIN_S,
        )
    except outside.Unreachable as error:
        # To have asked for something twice changes nothing; whether anything else was done, nobody knows.
        raise ToolError(str(error), is_certain=method in _READS or not error.was_sent) from None
    return Done(
        {
            "status": answer.status,
            "content_type": answer.headers.get("content-type", ""),
            "location": answer.headers.get("location", "")[: outside.URL_MAX],
            "body": readable(answer.body),
            "truncated": answer.is_cut or len(answer.body) > SHOWN_MAX,
        }
    )


def readable(body: bytes) -> Any:
    """What is kept of a body: JSON as such, when all of it is there; otherwise its beginning as text."""
    if len(body) <= SHOWN_MAX:
        try:
            return json.loads(body)
        except (ValueError, RecursionError):
            pass
    return body[:SHOWN_MAX].decode("utf-8", "replace").replace("\0", "\N{REPLACEMENT CHARACTER}")
