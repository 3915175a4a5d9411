"""What people may do over HTTP: a closed vocabulary of permissions, and the role that each one takes.

Devices have scopes of their own (`hub.access.scopes`). A person's role gives permissions; a personal token narrows them
to those it names. Names are `noun:verb`; a token may also hold `noun:*` and `*`, which mean: whatever the role gives.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from hub.errors import Invalid

# Lowest first; `blocked` is no role.
_ORDER: Final = ("guest", "member", "admin", "owner")


@dataclass(frozen=True, slots=True)
class Permission:
    """One permission and the lowest role that has it."""

    name: str
    about: str
    role: str


PERMISSIONS: Final[dict[str, Permission]] = {
    permission.name: permission
    for permission in (
        Permission("devices:read", "see devices, their presence and their commands", "guest"),
        Permission("config:read", "see how devices are to be set and how they are", "member"),
        Permission("devices:write", "add, change, rotate, revoke and delete devices", "admin"),
        Permission("enrolments:read", "see devices that ask to join", "member"),
        Permission("commands:send", "tell devices what to do", "admin"),
        Permission("events:read", "read events", "guest"),
        Permission("events:write", "report events", "member"),
        Permission("telemetry:read", "read samples", "member"),
        Permission("memories:read", "read memories", "member"),
        Permission("actions:read", "read actions and tools", "member"),
        Permission("actions:propose", "propose actions", "member"),
        Permission("actions:approve", "decide on actions, as far as the role may by their risk", "member"),
        Permission("automations:write", "write automations, and switch them", "admin"),
        Permission("policies:write", "say what is approved without asking", "admin"),
        Permission("tools:write", "say who decides, which hosts may be asked, and how people are notified", "admin"),
        Permission("spaces:read", "see spaces", "guest"),
        Permission("spaces:write", "add, change and delete spaces, and switch their privacy", "admin"),
        Permission("members:read", "see who belongs to the agent", "member"),
        Permission("members:write", "invite, change and remove members", "admin"),
        Permission("agents:read", "see the agent", "guest"),
        Permission("agents:write", "change the agent; the owner also disables and deletes it", "admin"),
        Permission("access:read", "see roles, grants, integrations and refusals", "member"),
        Permission("access:write", "change roles, grants and integrations", "admin"),
        Permission("dead_letters:read", "see messages that could not be stored or sent, and why", "admin"),
        Permission("dead_letters:write", "try them again, or discard them", "admin"),
        Permission("audit:read", "read and verify the audit", "member"),
    )
}
NOUNS: Final = frozenset(name.partition(":")[0] for name in PERMISSIONS)


def of_role(role: str) -> frozenset[str]:
    """All that a role gives; nothing for what is no role."""
    if role not in _ORDER:
        return frozenset()
    rank = _ORDER.index(role)
    return frozenset(one.name for one in PERMISSIONS.values() if _ORDER.index(one.role) <= rank)


def check(given: Iterable[object]) -> list[str]:
    """The permissions in order, each once; raises `Invalid` naming the first that is not in the vocabulary."""
    checked: dict[str, None] = {}
    for one in given:
        known = isinstance(one, str) and (one == "*" or one in PERMISSIONS or (one[-2:] == ":*" and one[:-2] in NOUNS))
        if not known:
            names = ", ".join([*PERMISSIONS, *(f"{noun}:*" for noun in sorted(NOUNS)), "*"])
            raise Invalid(f"there is no permission {str(one)[:80]!r}; there are {names}", field="scopes")
        checked[str(one)] = None
    if not checked:
        raise Invalid("name at least one", field="scopes")
    return list(checked)


def narrowed(role: str, given: Iterable[str] | None) -> frozenset[str]:
    """What is left of a role's permissions when a token names `given`; None means no token, so all of them."""
    all_of_it = of_role(role)
    if given is None:
        return all_of_it
    names = set(given)
    if "*" in names:
        return all_of_it
    return frozenset(one for one in all_of_it if one in names or f"{one.partition(':')[0]}:*" in names)
