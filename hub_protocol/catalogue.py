"""The one table of the wire: each kind of message with its topic, direction, QoS, retain flag, type and size limit."""

import re
from dataclasses import dataclass
from typing import Any, Final, Literal

import msgspec

from hub_protocol import messages
from hub_protocol.errors import Malformed
from hub_protocol.topics import DEFAULT_ROOT, Parsed, check_handle, check_level, check_root

Direction = Literal[
    "device to hub",
    "hub to device",
    "hub to browsers",
    "hub to anyone allowed",
    "integration to hub",
    "hub to integration",
]


@dataclass(frozen=True, slots=True)
class Entry:
    """One row: `template` is the topic below the root with `{placeholders}`; `max_bytes` bounds the payload.

    `message` is what the payload decodes to: a type of `messages`, or a union of several.
    """

    kind: str
    template: str
    direction: Direction
    qos: Literal[0, 1]
    retain: bool
    message: Any
    max_bytes: int
    about: str


CATALOGUE: Final[tuple[Entry, ...]] = (
    Entry(
        "state",
        "d/{handle}/state",
        "device to hub",
        1,
        True,
        messages.State,
        512,
        "The device's word on its connection. The same topic carries its Will.",
    ),
    Entry(
        "hello",
        "d/{handle}/hello",
        "device to hub",
        1,
        False,
        messages.Hello,
        32_768,
        "The first message after each connect; the hub answers with `welcome`.",
    ),
    Entry(
        "heartbeat",
        "d/{handle}/heartbeat",
        "device to hub",
        0,
        False,
        messages.Heartbeat,
        512,
        "A sign of life every `heartbeat_s` seconds, with up to 10 % jitter.",
    ),
    Entry(
        "remotes",
        "d/{handle}/remotes",
        "device to hub",
        1,
        False,
        messages.Remotes,
        32_768,
        "How the devices are that it checks for the hub, as its config says under `remotes`.",
    ),
    Entry(
        "event",
        "d/{handle}/event/{type}",
        "device to hub",
        1,
        False,
        messages.Event,
        65_536,
        "Something that happened; stored once by its `id`.",
    ),
    Entry(
        "telemetry",
        "d/{handle}/telemetry/{stream}",
        "device to hub",
        1,
        False,
        messages.Telemetry,
        65_536,
        "Samples of a numeric stream: a bare number, `{at, value}`, or a list of those; QoS 0 will do as well.",
    ),
    Entry(
        "cmd",
        "d/{handle}/cmd/{verb}/{command_id}",
        "hub to device",
        1,
        False,
        messages.Command,
        65_536,
        "A command; the verb `ping` is known to every device.",
    ),
    Entry(
        "reply",
        "d/{handle}/reply/{command_id}",
        "device to hub",
        1,
        False,
        messages.Reply,
        65_536,
        "How a command fares; the `succeeded` reply to `ping` is the pong.",
    ),
    Entry(
        "config",
        "d/{handle}/config",
        "hub to device",
        1,
        True,
        messages.Config,
        9_216,
        "How the device is to be set; retained, so that one that was away gets it on return.",
    ),
    Entry(
        "config_reply",
        "d/{handle}/config_reply",
        "device to hub",
        1,
        False,
        messages.ConfigReply,
        16_384,
        "Whether a `config` was applied, and what is in force.",
    ),
    Entry(
        "request",
        "d/{handle}/request/{op}/{request_id}",
        "device to hub",
        1,
        False,
        messages.Request,
        32_768,
        "A question to the hub; the operations are `events`, `actions`, `memories` and `propose`.",
    ),
    Entry(
        "response",
        "d/{handle}/response/{request_id}",
        "hub to device",
        1,
        False,
        messages.Response,
        229_376,
        "The answer to a request.",
    ),
    Entry(
        "ext",
        "ext/{integration}/{handle}/{verb}",
        "integration to hub",
        1,
        False,
        messages.Asking,
        32_768,
        "An integration asks that a device do something; it becomes a proposed action, and is answered under the verb.",
    ),
    Entry(
        "ext_actions",
        "ext/{integration}/actions/{what}/{which}",
        "integration to hub",
        1,
        False,
        messages.Asking,
        32_768,
        "An integration proposes an action (`propose/{request_id}`) or decides on one (`{action_id}/approve`).",
    ),
    Entry(
        "out_response",
        "out/{integration}/response/{request_id}",
        "hub to integration",
        1,
        False,
        messages.Response,
        229_376,
        "The answer, under the request's id, the action's, or the verb.",
    ),
    Entry(
        "out_actions",
        "out/{integration}/actions",
        "hub to integration",
        1,
        False,
        messages.Pending,
        65_536,
        "How an action stands, for integrations that may decide: with its digest while it waits.",
    ),
    Entry(
        "welcome",
        "d/{handle}/welcome",
        "hub to device",
        1,
        False,
        messages.Welcome,
        4_096,
        "The answer to `hello`: what the hub expects and what the device may do.",
    ),
    Entry(
        "receipt",
        "d/{handle}/receipt",
        "hub to device",
        1,
        False,
        messages.Receipt,
        65_536,
        "These events and replies are committed; the device may forget them.",
    ),
    Entry(
        "denied",
        "d/{handle}/denied",
        "hub to device",
        0,
        False,
        messages.Denied,
        4_096,
        "What the broker or the hub refused, and why.",
    ),
    Entry(
        "presence",
        "d/{handle}/presence",
        "hub to anyone allowed",
        1,
        True,
        messages.Presence,
        4_096,
        "The hub's verdict on the device.",
    ),
    Entry(
        "hub_status",
        "hub/status",
        "hub to anyone allowed",
        1,
        True,
        messages.HubStatus,
        512,
        "Whether the hub is there; its Will says `offline`.",
    ),
    Entry(
        "feed",
        "ui/{agent_id}/{feed}",
        "hub to browsers",
        1,
        False,
        messages.Feed,
        262_144,
        "Changes for open pages: `presence`, `devices`, `events`, `commands`, `actions`, `denials`, `telemetry`.",
    ),
)

BY_KIND: Final = {entry.kind: entry for entry in CATALOGUE}
FEEDS: Final = ("presence", "devices", "events", "commands", "actions", "denials", "telemetry")

_DECODERS: Final = {entry.kind: msgspec.json.Decoder(entry.message) for entry in CATALOGUE}
# An odd number of backslashes before u0000: the escape itself, not a backslash followed by text.
_ESCAPED_NUL: Final = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
_ENCODER: Final = msgspec.json.Encoder()
# The shape of a device topic after its handle: first level → (kind, number of varying levels).
_DEVICE_SHAPES: Final = {
    entry.template.split("/")[2]: (entry.kind, entry.template.count("{") - 1)
    for entry in CATALOGUE
    if entry.template.startswith("d/")
}


def parse_topic(topic: str, root: str = DEFAULT_ROOT) -> Parsed | None:
    """Take a topic apart by the catalogue; None when no row of it has this shape or a level breaks the naming rule."""
    prefix = root + "/"
    if not topic.startswith(prefix):
        return None
    levels = topic[len(prefix) :].split("/")
    try:
        if levels[0] == "d" and len(levels) >= 3:
            kind, varying = _DEVICE_SHAPES.get(levels[2], ("", -1))
            if varying != len(levels) - 3:
                return None
            check_handle(levels[1])
            return Parsed(kind, levels[1], tuple(check_level(level) for level in levels[3:]))
        if levels[0] in ("ext", "out"):
            return _of_integration(levels)
        if levels == ["hub", "status"]:
            return Parsed("hub_status", "")
        if levels[0] == "ui" and len(levels) == 3:
            return Parsed("feed", "", (check_level(levels[1]), check_level(levels[2])))
    except ValueError:
        return None
    return None


def _of_integration(levels: list[str]) -> Parsed | None:
    """What an integration says, or is told; raises ValueError for a level that breaks the naming rule."""
    if levels[0] == "out":
        if len(levels) == 4 and levels[2] == "response":
            return Parsed("out_response", check_handle(levels[1]), (check_level(levels[3]),))
        return Parsed("out_actions", check_handle(levels[1])) if levels[2:] == ["actions"] else None
    if len(levels) == 4:
        return Parsed("ext", check_handle(levels[1]), (check_handle(levels[2]), check_level(levels[3])))
    if len(levels) == 5 and levels[2] == "actions":
        return Parsed("ext_actions", check_handle(levels[1]), tuple(check_level(one) for one in levels[2:]))
    return None


def subscription(kind: str, root: str = DEFAULT_ROOT) -> str:
    """The filter that matches every topic of one kind: `state` → `marvain/v1/d/+/state`."""
    levels = BY_KIND[kind].template.split("/")
    return "/".join([check_root(root), *("+" if level.startswith("{") else level for level in levels)])


def decode(kind: str, payload: bytes) -> Any:
    """The payload of a message of `kind` as its type from `messages`; raises `Malformed` with field and rule."""
    entry = BY_KIND[kind]
    if len(payload) > entry.max_bytes:
        raise Malformed("", f"{kind} is at most {entry.max_bytes} bytes, got {len(payload)}")
    if not payload:
        raise Malformed("", f"{kind} is empty; it must be a JSON object")
    # Postgres stores no NUL in text or jsonb, so it is refused here, where the device can still be told.
    if b"\\u0000" in payload and _ESCAPED_NUL.search(payload):
        raise Malformed("", "the character U+0000 is not allowed in any text")
    try:
        return _DECODERS[kind].decode(payload)
    except msgspec.ValidationError as error:
        raise _malformed(str(error)) from None
    except msgspec.DecodeError as error:
        raise Malformed("", f"not valid JSON: {error}") from None
    except UnicodeDecodeError:
        raise Malformed("", "not valid UTF-8") from None
    except RecursionError:
        raise Malformed("", "nested too deeply") from None


def encode(message: msgspec.Struct) -> bytes:
    """A message as compact JSON in UTF-8."""
    return _ENCODER.encode(message)


def _malformed(text: str) -> Malformed:
    # msgspec says "Object missing required field `epoch`", "Expected `int`, got `str` - at `$.epoch`", or of a name in
    # an object "Expected … - at `key` in `$.values`".
    rule, _, where = text.replace(" - at `key` in `$", " - at `$").partition(" - at `$")
    field = where.rstrip("`").lstrip(".")
    missing = "Object missing required field `"
    if rule.startswith(missing):
        name = rule[len(missing) :].rstrip("`")
        return Malformed(f"{field}.{name}" if field else name, "is required")
    return Malformed(field, rule[:1].lower() + rule[1:])
