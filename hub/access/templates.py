"""What an agent's admins may grant: filters with placeholders that can never reach another agent or play the hub.

A template stands below the root; `//` before it means a filter outside. Placeholders are whole levels: `{handle}` is
the bearer's, `{agent}` the id of the agent whose role it is.
"""

import uuid
from collections.abc import Collection
from typing import Final

from hub.access.grants import HANDLE, Action, covers, overlap, split_share, valid_filter
from hub.errors import Invalid
from hub_protocol.catalogue import CATALOGUE
from hub_protocol.topics import DEFAULT_ROOT

AGENT: Final = "{agent}"
OUTSIDE: Final = "//"
# Filled in, a template must still fit into a topic and into the indexes of what the broker reports.
MAX_BYTES: Final = 512

_SENT_BY_DEVICES: Final = tuple(
    "/".join("+" if level.startswith("{") and level != HANDLE else level for level in entry.template.split("/"))
    for entry in CATALOGUE
    if entry.direction == "device to hub"
)
_ALLOWED: Final[dict[Action, tuple[str, ...]]] = {
    "publish": (
        *dict.fromkeys((*_SENT_BY_DEVICES, "d/{handle}/telemetry/#", "d/{handle}/request/#")),
        "ext/{handle}/#",
        "x/{agent}/#",
    ),
    "subscribe": ("d/{handle}/#", "ui/{agent}/#", "hub/status", "out/{handle}/#", "x/{agent}/#"),
}
# The broker's own figures. Not all of $SYS: some brokers tell there what other agents' clients do (Mosquitto's log,
# EMQX's events).
_FIGURES: Final = (
    "$SYS/broker/+",
    *(
        f"$SYS/broker/{one}/#"
        for one in ("clients", "messages", "bytes", "publish", "subscriptions", "retained messages", "store", "load")
    ),
)
# Below these the placeholder names one kind of bearer alone: an integration may have a device's handle.
_OF_DEVICES: Final = "d/{handle}"
_OF_INTEGRATIONS: Final = ("ext/{handle}", "out/{handle}")


def open_filters(setting: str) -> tuple[str, ...]:
    """The filters of `settings.open_topics`; what is no filter, or reaches the broker's own topics, is left out."""
    given = (one.strip() for one in setting.split(","))
    return tuple(dict.fromkeys(one for one in given if valid_filter(one) and not one.startswith("$")))


def allowed_forms(action: Action, open_topics: tuple[str, ...] = ()) -> tuple[str, ...]:
    """The widest templates of this action, for hints: everything that one of them covers may be granted."""
    others = ("d/<a device of this agent>/#",) if action == "subscribe" else ()
    outside = (f"{OUTSIDE}{_FIGURES[0]}", f"{OUTSIDE}$SYS/broker/<figures>/#") if action == "subscribe" else ()
    return (*_ALLOWED[action], *others, *outside, *(f"{OUTSIDE}{one}" for one in open_topics))


def check(
    action: str,
    template: str,
    *,
    agent_id: uuid.UUID,
    devices: Collection[str],
    open_topics: tuple[str, ...],
    root: str = DEFAULT_ROOT,
) -> str:
    """The template as it is stored; raises `Invalid` (field "action" or "filter") when it must not be granted.

    `devices` are the handles of the agent's devices, `open_topics` the filters outside the root that the hub's owner
    opened. The agent's own id becomes `{agent}`.
    """
    if action not in {"publish", "subscribe"}:
        raise Invalid("is publish or subscribe", field="action")
    template = "/".join(AGENT if level == str(agent_id) else level for level in template.strip().split("/"))
    if template.startswith(OUTSIDE):
        why = _form_trouble(template[len(OUTSIDE) :]) or _outside_trouble(action, template, open_topics, root)
    else:
        why = _form_trouble(template) or _below_trouble(action, template, devices)
    if why:
        raise Invalid(why, field="filter")
    return template


def is_grantable(action: str, template: str, devices: Collection[str]) -> bool:
    """Whether a stored template may still be given. What lies outside the root was judged when it was written."""
    if template.startswith(OUTSIDE):
        below = template[len(OUTSIDE) :]
        is_open = not below.startswith("$") or (action == "subscribe" and _is_figure(below))
        return is_open and not _form_trouble(below)
    return action in _ALLOWED and not _form_trouble(template) and not _below_trouble(action, template, devices)


def of_topic(topic: str, handle: str, kind: str, root: str) -> str:
    """The template that gives this bearer exactly this whole topic or filter, shared or not.

    Raises `Invalid` for braces: they would come to mean more than the topic that was asked for.
    """
    if "{" in topic or "}" in topic:
        raise Invalid("holds braces, and a topic that does cannot be granted", field="filter")
    try:
        _, topic = split_share(topic)
    except ValueError:
        raise Invalid("is not a topic filter", field="filter") from None
    if not topic.startswith(f"{root}/"):
        return f"{OUTSIDE}{topic}"
    levels = topic.removeprefix(f"{root}/").split("/")
    if len(levels) > 1 and levels[1] == handle and levels[0] in ({"d"} if kind == "device" else {"ext", "out"}):
        levels[1] = HANDLE
    return "/".join(levels)


def handles_in(template: str) -> tuple[str, ...]:
    """The device named by a template: (handle,) for `d/porch/…`, else ()."""
    levels = template.split("/")
    named = len(levels) > 1 and levels[0] == "d" and levels[1] not in {HANDLE, "+", "#"}
    return (levels[1],) if named else ()


def suits(template: str, kind: str) -> bool:
    """Whether a bearer of this kind gets anything from the template: `d/{handle}` means devices, `ext/{handle}` not."""
    if template == _OF_DEVICES or template.startswith(f"{_OF_DEVICES}/"):
        return kind == "device"
    if any(template == one or template.startswith(f"{one}/") for one in _OF_INTEGRATIONS):
        return kind == "integration"
    return True


def fill(template: str, handle: str, agent_id: uuid.UUID, root: str) -> str:
    """The filter as it is granted to one bearer; raises ValueError when one from outside reaches below the root."""
    filled = "/".join(
        handle if level == HANDLE else str(agent_id) if level == AGENT else level for level in template.split("/")
    )
    if not template.startswith(OUTSIDE):
        return f"{root}/{filled}"
    filled = filled[len(OUTSIDE) :]
    if overlap(filled, f"{root}/#"):
        raise ValueError(f"reaches below the root: {filled[:80]!r}")
    return filled


def _is_figure(below: str) -> bool:
    return any(covers(one, below) for one in _FIGURES)


def _form_trouble(below: str) -> str:
    if not below:
        return "is required"
    if not below.isprintable() or not valid_filter(below):
        return "is not a topic filter: + stands for a whole level, # for the whole rest, and no character is invisible"
    if len(below.encode()) > MAX_BYTES:
        return f"is at most {MAX_BYTES} bytes long"
    if any(("{" in level or "}" in level) and level not in {HANDLE, AGENT} for level in below.split("/")):
        return "has the placeholders {handle} and {agent}, each a whole level, and no other braces"
    return ""


def _outside_trouble(action: str, template: str, open_topics: tuple[str, ...], root: str) -> str:
    below = template[len(OUTSIDE) :]
    if below.startswith("$"):
        if action == "subscribe" and _is_figure(below):
            return ""
        figures = ", ".join(f"{OUTSIDE}{one}" for one in _FIGURES)
        return f"nothing that begins with $ can be granted but the broker's figures, to subscribe to: {figures}"
    if overlap(below, f"{root}/#"):
        return f"reaches below the hub's root {root}; write what lies there without the slashes before it"
    if not any(covers(one, below) for one in open_topics):
        known = ", ".join(f"{OUTSIDE}{one}" for one in open_topics) or "none"
        return f"outside the root only what the hub's owner opened can be granted (MARVAIN_OPEN_TOPICS): {known}"
    return ""


def _below_trouble(action: str, template: str, devices: Collection[str]) -> str:
    doing: Action = "publish" if action == "publish" else "subscribe"
    if any(covers(one, template) for one in _ALLOWED[doing]):
        return ""
    named = handles_in(template)
    if named and doing == "publish":
        return "a device is spoken for by itself alone: write {handle} for the bearer, as in d/{handle}/event/+"
    if named:
        return (
            "" if named[0] in devices else f"there is no device {named[0]!r} in this agent; only its own can be heard"
        )
    if doing == "subscribe" and template.partition("/")[0] in {"d", "ui", "out", "x", "+", "#"}:
        return "would reach other agents: name a device (d/porch/#) or use a placeholder (d/{handle}/#, x/{agent}/#)"
    return f"cannot be granted; to {doing} there are: {', '.join(allowed_forms(doing))}"
