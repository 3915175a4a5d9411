"""What a device can be told to do: the verbs that every device has and those of its last hello."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import msgspec

from hub import args_schema
from hub.errors import Invalid
from hub_protocol.errors import BadName
from hub_protocol.messages import CONFIG_KEY_PATTERN
from hub_protocol.topics import LEVEL_PATTERN, check_level

ARGS_MAX_BYTES: Final = 32_768
ARGS_MAX_DEPTH: Final = 32
Risk = Literal["low", "medium", "high"]


@dataclass(frozen=True, slots=True)
class Verb:
    """One thing to tell a device; `is_declared` is False for those that the protocol knows and its hello did not name.

    `trouble` says why nobody can be held to its schema; its arguments are then sent as they are.
    """

    name: str
    risk: Risk = "low"
    schema: Mapping[str, Any] = field(default_factory=dict)
    is_declared: bool = True
    trouble: str = ""

    def check(self, args: Mapping[str, Any]) -> None:
        """Raises `Invalid` naming the argument that its schema does not allow."""
        if self.trouble:
            return
        for fault in args_schema.faults(self.schema, args):
            raise Invalid(fault.message, field=f"args.{fault.field}" if fault.field else "args")


_ALWAYS: Final = (
    Verb("ping", schema={"type": "object", "properties": {}, "additionalProperties": False}, is_declared=False),
    Verb(
        "config",
        "medium",
        {
            "type": "object",
            "required": ["values"],
            "properties": {
                "values": {
                    "type": "object",
                    "description": "Keys to change until the next config; null sets one back.",
                    "propertyNames": {"pattern": f"^(?:{CONFIG_KEY_PATTERN})$"},
                }
            },
            "additionalProperties": False,
        },
        is_declared=False,
    ),
    Verb(
        "run_action",
        "high",
        {
            "type": "object",
            "required": ["name"],
            "properties": {
                "name": {
                    "type": "string",
                    "pattern": f"^(?:{LEVEL_PATTERN})$",
                    "maxLength": 63,
                    "description": "One of the device's own named actions.",
                },
                "args": {"type": "object", "description": "What that action takes."},
            },
            "additionalProperties": False,
        },
        is_declared=False,
    ),
)


def of_hello(hello: Mapping[str, Any]) -> list[Verb]:
    """The verbs of a device by what its last hello said, declared ones first."""
    found: dict[str, Verb] = {}
    for one in hello.get("verbs") or []:
        schema = one.get("args_schema") or {}
        trouble = ""
        try:
            args_schema.check(schema)
        except args_schema.Unusable as error:
            trouble = str(error)
        found.setdefault(one["name"], Verb(one["name"], one.get("risk", "low"), schema, trouble=trouble))
    for verb in _ALWAYS:
        found.setdefault(verb.name, verb)
    return list(found.values())


def choose(hello: Mapping[str, Any] | None, name: str, handle: str) -> Verb:
    """The verb of this name. Raises `Invalid` naming those that the device has, when it has said which.

    One that never said hello (None) may know anything; it answers what it does not know with `rejected`.
    """
    try:
        check_level(name, "verb")
    except BadName as error:
        raise Invalid(error.rule, field="verb") from None
    known = of_hello(hello or {})
    for verb in known:
        if verb.name == name:
            return verb
    if hello is None:
        return Verb(name, is_declared=False)
    raise Invalid(f"{handle} has no verb {name}; it has {', '.join(verb.name for verb in known)}", field="verb")


def check_args(args: Mapping[str, Any]) -> None:
    """Raises `Invalid` for arguments that are too large, too deep or cannot be kept."""
    try:
        encoded = msgspec.json.encode(dict(args))
    except (RecursionError, TypeError, ValueError, msgspec.MsgspecError):
        raise Invalid("cannot be written as JSON", field="args") from None
    if len(encoded) > ARGS_MAX_BYTES:
        raise Invalid(f"are at most {ARGS_MAX_BYTES} bytes", field="args")
    if _depth(args) > ARGS_MAX_DEPTH:
        raise Invalid(f"are nested at most {ARGS_MAX_DEPTH} levels deep", field="args")
    if has_nul(args):
        raise Invalid("hold the character U+0000, which cannot be kept", field="args")


def _depth(value: Any, level: int = 0) -> int:
    if level > ARGS_MAX_DEPTH or not isinstance(value, dict | list):
        return level
    inner = value.values() if isinstance(value, dict) else value
    return max((_depth(one, level + 1) for one in inner), default=level + 1)


def has_nul(value: Any) -> bool:
    if isinstance(value, str):
        return "\0" in value
    if isinstance(value, dict):
        return any("\0" in str(key) or has_nul(one) for key, one in value.items())
    return isinstance(value, list) and any(has_nul(one) for one in value)
