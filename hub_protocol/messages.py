"""Every payload of the protocol as a type: JSON in UTF-8, unknown fields ignored, missing or bad ones refused.

Times are aware datetimes (RFC 3339 UTC on the wire), durations are seconds, sizes are bytes.
"""

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from hub_protocol.topics import LEVEL_PATTERN

# 2**53 - 1: the largest whole number that JavaScript and every JSON library carry without loss.
MAX_SAFE_INTEGER = 9_007_199_254_740_991
SAMPLES_MAX = 500
# In Python `$` alone lets a line break pass at the end; this form says the same there and in JSON Schema.
_LEVEL = rf"^{LEVEL_PATTERN}$(?!\n)"
CONFIG_KEY_PATTERN = r"[a-z0-9_.]{1,63}"
# The values of one `config`, as JSON; the payload around them is a little larger.
CONFIG_MAX_BYTES = 8_192
# The verb that ends another command, for devices that name it in their hello.
CANCEL = "cancel"

Epoch = Annotated[int, Meta(ge=1, le=MAX_SAFE_INTEGER, description="rises with every connection of the device")]
Count = Annotated[int, Meta(ge=0, le=MAX_SAFE_INTEGER)]
Seconds = Annotated[float, Meta(ge=0, le=31_536_000)]
HeartbeatSeconds = Annotated[float, Meta(ge=1, le=86_400, description="seconds between two heartbeats")]
Name = Annotated[str, Meta(pattern=_LEVEL)]
MessageId = Annotated[str, Meta(pattern=_LEVEL, description="made by the device: UUIDv7 or ULID")]
Line = Annotated[str, Meta(max_length=500)]
ShortText = Annotated[str, Meta(max_length=120)]
Time = Annotated[datetime, Meta(tz=True)]
# Far from where sums of doubles overflow.
Value = Annotated[float, Meta(ge=-1e300, le=1e300, description="a finite number")]
Object = dict[str, Any]
ConfigRevision = Annotated[int, Meta(ge=0, le=MAX_SAFE_INTEGER, description="rises with every change of the values")]
ConfigKey = Annotated[str, Meta(pattern=rf"^{CONFIG_KEY_PATTERN}$(?!\n)")]
ConfigValues = dict[ConfigKey, Any]


class State(msgspec.Struct, omit_defaults=True):
    """The device's own word on its connection; its Will says `lost` with the same epoch."""

    state: Literal["online", "sleeping", "bye", "lost"]
    epoch: Epoch
    until: Time | None = None


class Verb(msgspec.Struct, omit_defaults=True):
    """One thing a device can be told to do."""

    name: Name
    risk: Literal["low", "medium", "high"] = "low"
    args_schema: Object = {}


class Hello(msgspec.Struct, omit_defaults=True):
    """The first message of a connection: who speaks, how, and what it can do."""

    epoch: Epoch
    protocol: Annotated[int, Meta(ge=1, le=1)] = 1
    agent: ShortText = ""
    firmware: ShortText = ""
    capabilities: Object = {}
    verbs: Annotated[list[Verb], Meta(max_length=64)] = []
    config_rev: Annotated[int, Meta(ge=0, le=MAX_SAFE_INTEGER, description="the `config` applied last; 0: none")] = 0
    heartbeat_s: HeartbeatSeconds = 15.0


class Heartbeat(msgspec.Struct, omit_defaults=True):
    """A sign of life."""

    epoch: Epoch
    n: Count = 0
    uptime_s: Seconds = 0.0
    backlog: Count = 0
    metrics: dict[Annotated[str, Meta(max_length=63)], float] = {}


class Check(msgspec.Struct, omit_defaults=True):
    """What a satellite found where it was told to look for another device; without `reachable` it did not look."""

    reachable: bool | None = None
    why: Line = ""


class Remotes(msgspec.Struct):
    """A satellite reports for devices that cannot speak for themselves, by their handles."""

    epoch: Epoch
    remotes: Annotated[dict[Name, Check], Meta(max_length=64)]


class Event(msgspec.Struct, omit_defaults=True):
    """Something that happened at the device; stored once, however often it is sent."""

    id: MessageId
    epoch: Epoch
    payload: Object
    seq: Count = 0
    at: Time | None = None
    space: Annotated[str, Meta(max_length=120)] | None = None


class Sample(msgspec.Struct):
    """One value of a stream and when it was measured; stored once, however often it is sent."""

    at: Time
    value: Value


# A bare number was measured when it arrives. Several samples need times that tell them apart.
Telemetry = Value | Sample | Annotated[list[Sample], Meta(min_length=1, max_length=SAMPLES_MAX)]


class Command(msgspec.Struct):
    """What the hub asks of a device; the verb and the command id stand in the topic."""

    expires_at: Time
    epoch: Annotated[int, Meta(ge=0, le=MAX_SAFE_INTEGER, description="the device's epoch as the hub knows it")] = 0
    args: Object = {}


class Reply(msgspec.Struct, omit_defaults=True):
    """How a command fares; the command id stands in the topic. A pong is the `succeeded` reply to `ping`."""

    status: Literal["accepted", "running", "succeeded", "failed", "rejected"]
    epoch: Epoch
    code: ShortText = ""
    message: Line = ""
    progress: Annotated[float, Meta(ge=0, le=1)] | None = None
    result: Any = None


class Request(msgspec.Struct):
    """What a device asks of the hub; the operation and the request id stand in the topic.

    `body` is what the operation's HTTP twin takes.
    """

    epoch: Epoch
    body: Object = {}


class Problem(msgspec.Struct, omit_defaults=True):
    """Why a request was not answered; `field` names the input that is meant, when one is."""

    code: Literal["invalid", "forbidden", "not_found", "conflict", "throttled", "too_large", "failed"]
    message: str
    field: str | None = None


class Asking(msgspec.Struct):
    """What an integration asks: for an action of a tool or of a device, or for a decision on one (`digest`).

    `key` makes it harmless to ask twice.
    """

    tool: Annotated[str, Meta(max_length=63)] = ""
    args: Object = {}
    why: Annotated[str, Meta(max_length=1_000)] = ""
    space: Annotated[str, Meta(max_length=120)] | None = None
    key: Annotated[str, Meta(min_length=1, max_length=200)] | None = None
    ttl_s: Seconds | None = None
    digest: Annotated[str, Meta(max_length=64, description="of the action that was looked at")] = ""
    reason: Annotated[str, Meta(max_length=1_000)] = ""


class Pending(msgspec.Struct, omit_defaults=True):
    """An action for integrations that may decide on it: what it is, who wants it and why, and what stands for it."""

    action_id: str
    status: str
    tool: str
    args: Object
    risk: str
    proposed_by: str
    why: str
    digest: str
    expires_at: Time
    device: str | None = None


class Response(msgspec.Struct, omit_defaults=True):
    """The answer to a request: with `ok` its `body` is that of the HTTP twin, else `error` says why not."""

    ok: bool
    body: Object | None = None
    error: Problem | None = None


class Welcome(msgspec.Struct):
    """The hub's answer to a hello."""

    epoch: Epoch
    heartbeat_s: HeartbeatSeconds
    scopes: list[str]
    config_rev: Annotated[int, Meta(ge=0, le=MAX_SAFE_INTEGER, description="the `config` that is wanted; 0: none")]
    now: Time


class Config(msgspec.Struct):
    """How the hub wants the device to be set. All values stand here: a key that is missing is back at its default."""

    rev: ConfigRevision
    values: ConfigValues


class ConfigReply(msgspec.Struct, omit_defaults=True):
    """What became of a `config`: applied whole, or refused whole with the keys that are wrong. Latest counts.

    `reported` holds the values in force at the device, defaults included, whatever `ok` says.
    """

    epoch: Epoch
    rev: ConfigRevision
    ok: bool
    error: Line = ""
    refused: dict[ConfigKey, Line] = {}
    reported: ConfigValues = {}


class Receipt(msgspec.Struct):
    """These messages are committed: the device may forget them.

    A reply is named `<command_id>:<status>`, a config_reply `config:<rev>`.
    """

    ids: list[str]


class Denied(msgspec.Struct, omit_defaults=True):
    """What was refused and why.

    `id` is the refused event's, where it could be read. `epoch` is set when the refused message carried one that had
    gone back: it is the device's current one, and the message counts when it is sent again with a higher one.
    `retry_after_s` is set while all that the device says is set aside (it is in quarantine): nothing is refused for
    good, and what has no receipt is to be sent again after that time. With `connect` it says that the device will be
    let in again (its agent is switched off), and how often to try.
    """

    action: Literal["connect", "publish", "subscribe", "message"]
    topic: str
    reason: str
    epoch: Epoch | None = None
    id: str | None = None
    retry_after_s: Seconds | None = None


class Presence(msgspec.Struct, omit_defaults=True):
    """The hub's verdict on a device, with its witness (`why`) and how late it can be at worst (`bound_s`)."""

    presence: Literal["online", "suspect", "offline", "sleeping", "unknown"]
    since: Time
    why: str
    epoch: Annotated[int, Meta(ge=0, le=MAX_SAFE_INTEGER)]
    bound_s: Seconds
    last_heard_at: Time | None = None
    flapping: Annotated[bool, Meta(description="it lost its connection again and again lately")] = False


class HubStatus(msgspec.Struct):
    """Whether the hub is there; `offline` is its Will."""

    status: Literal["online", "offline"]
    at: Time


class Feed(msgspec.Struct, omit_defaults=True):
    """A change told to browsers. `rev` rises by one per agent; `items` holds what changed, of any number."""

    type: str
    agent_id: str
    rev: Count
    at: Time
    items: list[Object] = []
