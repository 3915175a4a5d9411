"""Topic names: what a level, a handle and a root may be, and how a topic is built and taken apart.

All functions here take and return plain strings; they raise `BadName` for anything the protocol does not allow.
"""

import re
from dataclasses import dataclass
from typing import Final

from hub_protocol.errors import BadName

DEFAULT_ROOT: Final = "marvain/v1"

LEVEL_PATTERN: Final = r"[A-Za-z0-9_-]{1,63}"
HANDLE_PATTERN: Final = r"[a-z0-9][a-z0-9-]{0,62}"

_LEVEL = re.compile(LEVEL_PATTERN)
_HANDLE = re.compile(HANDLE_PATTERN)
_LEVEL_RULE: Final = "1 to 63 of A-Z a-z 0-9 _ -"
_HANDLE_RULE: Final = "1 to 63 of a-z 0-9 -, not starting with -"


def check_level(value: str, field: str = "level") -> str:
    """Return `value` if it can stand as one topic level."""
    if not _LEVEL.fullmatch(value):
        raise BadName(field, f"{_LEVEL_RULE}, got {value[:80]!r}")
    return value


def check_handle(value: str) -> str:
    """Return `value` if it can be a device's handle."""
    if not _HANDLE.fullmatch(value):
        raise BadName("handle", f"{_HANDLE_RULE}, got {value[:80]!r}")
    return value


def check_root(value: str) -> str:
    """Return `value` if it can stand before all topics of a hub: one or more levels."""
    for level in value.split("/"):
        check_level(level, "root")
    return value


def handle_from_name(name: str) -> str:
    """Propose a handle for a display name: "Front door, 2" → "front-door-2"; "" when nothing is left."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:63].strip("-")


@dataclass(frozen=True, slots=True)
class Parsed:
    """A topic taken apart: the catalogue's kind, the device's handle ("" when none) and the levels that vary."""

    kind: str
    handle: str
    levels: tuple[str, ...] = ()


class Topics:
    """Builds every topic of one hub; the root is checked once, the varying levels at each call.

    `Topics.below_root()` builds them without the root, as the hub's outbox keeps them.
    """

    __slots__ = ("_prefix",)

    def __init__(self, root: str = DEFAULT_ROOT) -> None:
        self._prefix = check_root(root) + "/"

    @classmethod
    def below_root(cls) -> "Topics":
        """Topics as they stand below any root: `d/porch/state`."""
        topics = cls.__new__(cls)
        topics._prefix = ""  # noqa: SLF001  (its own)
        return topics

    def _device(self, handle: str, *rest: str) -> str:
        return "/".join((f"{self._prefix}d", check_handle(handle), *rest))

    def state(self, handle: str) -> str:
        return self._device(handle, "state")

    def hello(self, handle: str) -> str:
        return self._device(handle, "hello")

    def heartbeat(self, handle: str) -> str:
        return self._device(handle, "heartbeat")

    def remotes(self, handle: str) -> str:
        return self._device(handle, "remotes")

    def event(self, handle: str, event_type: str) -> str:
        return self._device(handle, "event", check_level(event_type, "event type"))

    def telemetry(self, handle: str, stream: str) -> str:
        return self._device(handle, "telemetry", check_level(stream, "stream"))

    def command(self, handle: str, verb: str, command_id: str) -> str:
        return self._device(handle, "cmd", check_level(verb, "verb"), check_level(command_id, "command id"))

    def reply(self, handle: str, command_id: str) -> str:
        return self._device(handle, "reply", check_level(command_id, "command id"))

    def config(self, handle: str) -> str:
        return self._device(handle, "config")

    def config_reply(self, handle: str) -> str:
        return self._device(handle, "config_reply")

    def request(self, handle: str, op: str, request_id: str) -> str:
        return self._device(handle, "request", check_level(op, "operation"), check_level(request_id, "request id"))

    def response(self, handle: str, request_id: str) -> str:
        return self._device(handle, "response", check_level(request_id, "request id"))

    def welcome(self, handle: str) -> str:
        return self._device(handle, "welcome")

    def receipt(self, handle: str) -> str:
        return self._device(handle, "receipt")

    def denied(self, handle: str) -> str:
        return self._device(handle, "denied")

    def presence(self, handle: str) -> str:
        return self._device(handle, "presence")

    def hub_status(self) -> str:
        return f"{self._prefix}hub/status"

    def feed(self, agent_id: str, feed: str) -> str:
        return f"{self._prefix}ui/{check_level(agent_id, 'agent id')}/{check_level(feed, 'feed')}"

    def _below(self, first: str, integration: str, *rest: str) -> str:
        levels = [check_level(level, "level") for level in rest]
        return "/".join((f"{self._prefix}{first}", check_handle(integration), *levels))

    def ext(self, integration: str, handle: str, verb: str) -> str:
        return self._below("ext", integration, check_handle(handle), verb)

    def ext_actions(self, integration: str, what: str, which: str) -> str:
        return self._below("ext", integration, "actions", what, which)

    def out_response(self, integration: str, request_id: str) -> str:
        return self._below("out", integration, "response", request_id)

    def out_actions(self, integration: str) -> str:
        return self._below("out", integration, "actions")

    def command_filter(self, handle: str) -> str:
        """What a satellite subscribes to for its commands."""
        return self._device(handle, "cmd", "+", "+")
