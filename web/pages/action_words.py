"""Actions in people's words: what one would do, in a sentence; and how its status and its steps are shown."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from hub.actions.records import ActionView

_MOST: Final = 160
TONES: Final = {
    "proposed": "warn",
    "approved": "info",
    "executing": "busy",
    "executed": "good",
    "failed": "bad",
    "rejected": "calm",
    "expired": "calm",
    "cancelled": "calm",
    "unknown": "warn",
}
WORDS: Final = {"proposed": "waits", "executing": "at work", "executed": "done"}
STEPS: Final = {
    "proposed": "Proposed",
    "edited": "Arguments changed",
    "approval": "A yes",
    "approved": "Approved",
    "executing": "Begun",
    "executed": "Done",
    "failed": "Failed",
    "rejected": "Rejected",
    "expired": "Ran out",
    "cancelled": "Taken back",
    "unknown": "Nobody knows",
    "schedule_stopped": "Its schedule was stopped",
}


def sentence(tool: str, args: Mapping[str, Any]) -> str:
    """What the action would do, in a line."""
    found = _known(tool, args)
    line = found if found is not None else f"{tool} {_json(args)}"
    return line if len(line) <= _MOST else f"{line[: _MOST - 1]}…"


def of(action: ActionView) -> str:
    """The sentence of an action."""
    return sentence(action.tool, action.args)


def status(action: ActionView) -> str:
    """Its status in a word or two."""
    return WORDS.get(action.status, action.status)


def step(name: str) -> str:
    """What a line of the timeline says."""
    return STEPS.get(name, name.replace("_", " "))


def pretty(value: Any) -> str:
    """A value for people to read: JSON over several lines."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2).decode()


def _known(tool: str, args: Mapping[str, Any]) -> str | None:
    write = _SENTENCES.get(tool)
    return write(args) if write is not None else None


def _of_message(args: Mapping[str, Any]) -> str:
    to = ", ".join(str(one) for one in [*args.get("devices", ()), *args.get("integrations", ())])
    return f"Say “{args.get('text', '')}”" + (f" to {to}" if to else "")


def _of_command(args: Mapping[str, Any]) -> str:
    more = f" {_json(args['args'])}" if args.get("args") else ""
    return f"Tell {args.get('device')}: {args.get('verb')}{more}"


def _of_schedule(args: Mapping[str, Any]) -> str:
    when = f"At {args['at']}" if "at" in args else f"Again and again ({args.get('cron')})"
    inner = args.get("args")
    return f"{when}: {sentence(str(args.get('tool')), inner if isinstance(inner, dict) else {})}"


_SENTENCES: Final[dict[str, Callable[[Mapping[str, Any]], str]]] = {
    "device_command": _of_command,
    "send_message": _of_message,
    "set_config": lambda args: f"Set {args.get('device')}: {_json(args.get('values'))}",
    "create_memory": lambda args: f"Remember “{args.get('content', '')}”",
    "http_request": lambda args: f"{args.get('method', 'GET')} {args.get('url')}",
    "notify": lambda args: f"Notify {args.get('channel')}: “{args.get('message', '')}”",
    "publish_mqtt": lambda args: f"Publish to out/{args.get('integration')}/{args.get('topic')}",
    "schedule": _of_schedule,
}


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
