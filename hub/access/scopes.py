"""The closed vocabulary of scopes, and the topics that each one opens to a device."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from hub.access.grants import HANDLE, Action, Book, Grant
from hub.errors import Invalid
from hub_protocol.topics import check_handle


@dataclass(frozen=True, slots=True)
class Scope:
    """One permission. `topics` are (action, template below the root) pairs; empty for what concerns HTTP alone.

    `is_served` is False while the hub does nothing yet with what the scope allows: it may be given, and is not offered.
    """

    name: str
    about: str
    topics: tuple[tuple[Action, str], ...] = ()
    is_served: bool = True


VOCABULARY: Final[dict[str, Scope]] = {
    scope.name: scope
    for scope in (
        Scope(
            "presence:write",
            "say that it is there: state, hello and heartbeat; and how the remotes are that it checks",
            (
                ("publish", "d/{handle}/state"),
                ("publish", "d/{handle}/hello"),
                ("publish", "d/{handle}/heartbeat"),
                # Of those alone that the hub told it to check.
                ("publish", "d/{handle}/remotes"),
            ),
        ),
        Scope("events:write", "report events", (("publish", "d/{handle}/event/+"),)),
        Scope("events:read", "read the events of its agent", (("publish", "d/{handle}/request/events/+"),)),
        Scope("telemetry:write", "send samples", (("publish", "d/{handle}/telemetry/+"),)),
        Scope(
            "commands:receive",
            "be told what to do and how to be set, and answer",
            (
                ("subscribe", "d/{handle}/cmd/#"),
                ("publish", "d/{handle}/reply/+"),
                # No scope of its own: the devices that there are would not hear of it.
                ("subscribe", "d/{handle}/config"),
                ("publish", "d/{handle}/config_reply"),
            ),
        ),
        Scope("memories:read", "recall the memories of its agent", (("publish", "d/{handle}/request/memories/+"),)),
        Scope("actions:read", "read the actions of its agent", (("publish", "d/{handle}/request/actions/+"),)),
        Scope(
            "actions:propose", "propose actions, for people to decide", (("publish", "d/{handle}/request/propose/+"),)
        ),
    )
}

# What every device may do, whatever its scopes: hear what the hub says to it and about it.
BASE: Final = Scope(
    "every device",
    "hear the answers of the hub",
    (
        ("subscribe", "d/{handle}/welcome"),
        ("subscribe", "d/{handle}/denied"),
        ("subscribe", "d/{handle}/receipt"),
        ("subscribe", "d/{handle}/presence"),
        ("subscribe", "d/{handle}/response/+"),
    ),
)

_OWN: Final = "d/{handle}/"
_OPENED: Final[dict[Action, Book]] = {
    action: Book(
        Grant(action, template.removeprefix(_OWN), scope.name)
        for scope in VOCABULARY.values()
        for of_scope, template in scope.topics
        if of_scope == action
    )
    for action in ("publish", "subscribe")
}

NOUNS: Final = frozenset(name.partition(":")[0] for name in VOCABULARY)


def check_scopes(scopes: Iterable[object]) -> list[str]:
    """The scopes in order, each once; raises `Invalid` naming the first that is not in the vocabulary."""
    checked: dict[str, None] = {}
    for scope in scopes:
        if not isinstance(scope, str) or not _known(scope):
            known = ", ".join([*VOCABULARY, *(f"{noun}:*" for noun in sorted(NOUNS)), "*"])
            raise Invalid(f"there is no scope {str(scope)[:80]!r}; the scopes are {known}", field="scopes")
        checked[scope] = None
    return list(checked)


def expand(scopes: Iterable[str]) -> frozenset[str]:
    """The plain scopes that `scopes` amount to: `noun:*` and `*` are widened, what is unknown gives nothing."""
    plain: set[str] = set()
    for scope in scopes:
        if scope == "*":
            return frozenset(VOCABULARY)
        if scope.endswith(":*"):
            plain.update(name for name in VOCABULARY if name.startswith(scope[:-1]))
        elif scope in VOCABULARY:
            plain.add(scope)
    return frozenset(plain)


def scope_for(action: Action, below: str) -> str:
    """The scope that would open a device's own topic or filter, given below `d/<handle>/`; "" when none does."""
    grant = _OPENED[action].find(below) if below else None
    return grant.source if grant is not None else ""


def device_grants(handle: str, scopes: Iterable[str], root: str) -> tuple[Grant, ...]:
    """All that a device with these scopes may do on the wire; `{handle}` stands for whichever device it will be."""
    if handle != HANDLE:
        check_handle(handle)
    granted = expand(scopes)
    sources = [(BASE, BASE.name)] + [(VOCABULARY[name], f"the scope {name}") for name in VOCABULARY if name in granted]
    return tuple(
        Grant(action, f"{root}/{template.format(handle=handle)}", source)
        for scope, source in sources
        for action, template in scope.topics
    )


def _known(scope: str) -> bool:
    return scope == "*" or scope in VOCABULARY or (scope.endswith(":*") and scope[:-2] in NOUNS)
