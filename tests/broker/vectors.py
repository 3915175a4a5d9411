"""One table of cases for every broker: who, what, where, and the verdict.

The people of the table: `porch`, a device with the default scopes, that bears the role Gardener; `mute`, a device
without scopes; `star`, a device with `*`; `attic`, a device of another agent; `revoked`; `ha` and `gone`, an
integration and a revoked one; `page` and `guest`, browsers of a member and of a guest of Home; `hub`. `{root}`,
`{home}` and `{other}` are filled in, the last two with the ids of the agents.
"""

from dataclasses import dataclass
from typing import Final, Literal

Action = Literal["connect", "publish", "retain", "will", "subscribe", "receive"]

# What the role Gardener grants; `porch` and `ha` bear it.
GARDENER: Final = (
    ("publish", "x/{agent}/garden/+"),
    ("subscribe", "x/{agent}/garden/#"),
    ("subscribe", "d/mute/presence"),
    ("subscribe", "d/{handle}/config"),
    ("subscribe", "//$SYS/broker/uptime"),
)

# `eye` sees what gets through outside of the root; the table's other people may do nothing there.
OPEN_TOPICS: Final = ("homeassistant/#", "elsewhere", "porch")
WATCHER: Final = (
    ("subscribe", "//homeassistant/#"),
    ("subscribe", "//elsewhere"),
    ("subscribe", "//porch"),
    ("subscribe", "//$SYS/broker/uptime"),
)


@dataclass(frozen=True)
class Case:
    """`topic` is a filter for `subscribe`, and for `connect` what is wrong with it ("" when nothing is)."""

    who: str
    action: Action
    topic: str
    allowed: bool
    # EMQX's rules cannot say all that a grant says; then they say less.
    emqx_rules_say_less: bool = False

    @property
    def name(self) -> str:
        return f"{self.who} {self.action} {self.topic or 'as it should'} {'may' if self.allowed else 'may not'}"


def _may(who: str, action: Action, *topics: str) -> list[Case]:
    return [Case(who, action, topic, True) for topic in topics]


def _may_not(who: str, action: Action, *topics: str) -> list[Case]:
    return [Case(who, action, topic, False) for topic in topics]


CASES: Final[tuple[Case, ...]] = (
    # --- connecting
    *_may("porch", "connect", ""),
    *_may("mute", "connect", ""),
    *_may("ha", "connect", ""),
    *_may("page", "connect", ""),
    *_may("hub", "connect", ""),
    *_may_not("porch", "connect", "another client id", "an empty client id", "a wrong password", "no password"),
    *_may_not("porch", "connect", "the token of mute", "no username"),
    *_may_not("ha", "connect", "another client id", "a wrong password"),
    *_may_not("page", "connect", "another client id"),
    *_may_not("revoked", "connect", ""),
    *_may_not("gone", "connect", ""),
    *_may_not("nobody", "connect", ""),
    # --- a device on its own topics
    *_may("porch", "publish", "{root}/d/porch/hello", "{root}/d/porch/heartbeat", "{root}/d/porch/state"),
    *_may("porch", "publish", "{root}/d/porch/event/door", "{root}/d/porch/reply/1"),
    # An empty level is a level; what it means is the hub's business.
    *_may("porch", "publish", "{root}/d/porch/event/"),
    *_may("porch", "retain", "{root}/d/porch/state"),
    *_may("porch", "will", "{root}/d/porch/state"),
    *_may_not("porch", "publish", "{root}/d/porch", "{root}/d/porch/event", "{root}/d/porch/event/door/2"),
    *_may_not("porch", "publish", "{root}/d/porch//event/door", "{root}/d/porch/other"),
    *_may_not("porch", "publish", "{root}/d/porch/cmd/ping/1", "{root}/d/porch/welcome", "{root}/d/porch/presence"),
    *_may_not("porch", "publish", "{root}/d/porch/denied", "{root}/d/porch/receipt", "{root}/d/PORCH/hello"),
    *_may_not("porch", "retain", "{root}/d/porch/presence", "{root}/d/mute/state"),
    *_may("porch", "subscribe", "{root}/d/porch/cmd/#", "{root}/d/porch/cmd/+/+", "{root}/d/porch/cmd/ping/1"),
    *_may("porch", "subscribe", "{root}/d/porch/cmd", "{root}/d/porch/welcome", "{root}/d/porch/denied"),
    *_may_not("porch", "subscribe", "{root}/d/porch/#", "{root}/d/porch/+", "{root}/d/+/cmd/#", "{root}/d/porch/hello"),
    *_may_not("porch", "subscribe", "#", "+/#", "{root}/#", "{root}/+/porch/cmd/#"),
    *_may("porch", "subscribe", "$share/crew/{root}/d/porch/cmd/#"),
    *_may_not("porch", "subscribe", "$share/crew/{root}/d/porch/#", "$share/crew/#"),
    *_may("porch", "receive", "{root}/d/porch/cmd/ping/1", "{root}/d/porch/welcome"),
    *_may_not("porch", "receive", "{root}/d/mute/cmd/ping/1", "{root}/d/porch/hello"),
    # --- another's topics
    *_may_not("porch", "publish", "{root}/d/mute/hello", "{root}/d/attic/event/door", "{root}/hub/status", "porch"),
    *_may_not("porch", "publish", "{root}/ui/{home}/events", "$SYS/broker/uptime", "homeassistant/light/x/config"),
    *_may_not("porch", "will", "{root}/d/mute/state", "{root}/hub/status", "{root}/ui/{home}/presence"),
    *_may_not("porch", "subscribe", "{root}/d/mute/cmd/#", "{root}/d/attic/presence", "{root}/ui/{home}/#"),
    *_may_not("porch", "subscribe", "{root}/hub/status", "$SYS/#", "$SYS/broker/version", "homeassistant/#"),
    # --- scopes
    *_may_not("mute", "publish", "{root}/d/mute/hello", "{root}/d/mute/event/door"),
    *_may("mute", "subscribe", "{root}/d/mute/welcome", "{root}/d/mute/denied", "{root}/d/mute/receipt"),
    *_may_not("mute", "subscribe", "{root}/d/mute/cmd/#"),
    *_may_not("mute", "will", "{root}/d/mute/state"),
    *_may("star", "publish", "{root}/d/star/telemetry/t", "{root}/d/star/event/door"),
    *_may_not("star", "publish", "{root}/d/star/telemetry", "{root}/d/porch/telemetry/t"),
    # --- roles
    *_may("porch", "publish", "{root}/x/{home}/garden/rose"),
    *_may("porch", "retain", "{root}/x/{home}/garden/tulip"),
    *_may("porch", "will", "{root}/x/{home}/garden/last"),
    *_may_not(
        "porch", "publish", "{root}/x/{home}/garden", "{root}/x/{home}/garden/rose/red", "{root}/x/{other}/garden/rose"
    ),
    *_may("porch", "subscribe", "{root}/x/{home}/garden/#", "{root}/x/{home}/garden/+", "{root}/x/{home}/garden/a/b"),
    *_may("porch", "subscribe", "{root}/d/mute/presence", "{root}/d/porch/config", "$SYS/broker/uptime"),
    *_may_not("porch", "subscribe", "{root}/x/{home}/#", "{root}/x/+/garden/#", "{root}/x/{other}/garden/#"),
    *_may("porch", "receive", "{root}/x/{home}/garden/rose", "{root}/d/mute/presence"),
    *_may_not("porch", "receive", "{root}/x/{home}/cellar", "{root}/d/star/presence"),
    *_may_not("mute", "publish", "{root}/x/{home}/garden/rose"),
    *_may_not("mute", "subscribe", "{root}/x/{home}/garden/#"),
    # --- integrations
    *_may("ha", "publish", "{root}/ext/ha/porch/ping", "{root}/x/{home}/garden/rose"),
    *_may("ha", "subscribe", "{root}/out/ha/#", "{root}/out/ha/denied", "{root}/hub/status", "{root}/d/mute/presence"),
    *_may_not(
        "ha", "publish", "{root}/d/porch/cmd/ping/1", "{root}/d/porch/hello", "{root}/out/ha/x", "{root}/ext/gone/x"
    ),
    *_may_not("ha", "subscribe", "{root}/ext/ha/#", "{root}/out/+/x", "{root}/d/porch/#", "{root}/ui/{home}/#"),
    # --- asking for actions: a device by its scope, an integration below its own topics
    *_may("star", "publish", "{root}/d/star/request/propose/7", "{root}/d/star/request/actions/7"),
    *_may_not("star", "publish", "{root}/d/star/request/propose", "{root}/d/star/request/approve/7"),
    *_may_not(
        "star", "publish", "{root}/d/porch/request/propose/7", "{root}/ext/ha/actions/propose/7", "{root}/ext/star/x/y"
    ),
    *_may_not("mute", "publish", "{root}/d/mute/request/propose/7", "{root}/ext/ha/actions/propose/7"),
    *_may("star", "subscribe", "{root}/d/star/response/+"),
    *_may_not("star", "subscribe", "{root}/d/porch/response/+", "{root}/out/ha/actions", "{root}/out/ha/#"),
    *_may("ha", "publish", "{root}/ext/ha/actions/propose/7", "{root}/ext/ha/actions/7/approve"),
    *_may_not(
        "ha",
        "publish",
        "{root}/ext/gone/actions/propose/7",
        "{root}/out/ha/actions",
        "{root}/d/porch/request/propose/7",
    ),
    *_may("ha", "receive", "{root}/out/ha/actions", "{root}/out/ha/response/7"),
    *_may_not("ha", "receive", "{root}/out/gone/actions", "{root}/ui/{home}/actions"),
    *_may_not("page", "subscribe", "{root}/out/ha/actions"),
    *_may("page", "receive", "{root}/ui/{home}/actions"),
    *_may_not("guest", "receive", "{root}/ui/{home}/actions"),
    # --- browsers
    *_may(
        "page", "subscribe", "{root}/ui/{home}/+", "{root}/ui/{home}/#", "{root}/ui/{home}/events", "{root}/hub/status"
    ),
    *_may_not(
        "page", "subscribe", "{root}/ui/{other}/+", "{root}/ui/+/events", "{root}/ui/#", "{root}/d/porch/presence"
    ),
    *_may_not("page", "publish", "{root}/ui/{home}/events", "{root}/d/porch/cmd/ping/1", "{root}/hub/status"),
    *_may_not("page", "will", "{root}/hub/status"),
    *_may("page", "receive", "{root}/ui/{home}/devices"),
    *_may_not("page", "receive", "{root}/ui/{other}/devices"),
    *_may("guest", "connect", ""),
    *_may("guest", "subscribe", "{root}/ui/{home}/events", "{root}/ui/{home}/presence", "{root}/hub/status"),
    *_may_not("guest", "subscribe", "{root}/ui/{home}/#", "{root}/ui/{home}/+", "{root}/ui/{home}/denials"),
    *_may_not("guest", "subscribe", "{root}/ui/{home}/actions"),
    *_may_not(
        "guest", "subscribe", "{root}/ui/{home}/telemetry", "{root}/ui/{other}/events", "{root}/d/porch/presence"
    ),
    *_may_not("guest", "publish", "{root}/ui/{home}/events", "{root}/d/porch/cmd/ping/1"),
    *_may("guest", "receive", "{root}/ui/{home}/devices"),
    *_may_not("guest", "receive", "{root}/ui/{home}/denials", "{root}/ui/{other}/devices"),
    # --- the hub
    *_may("hub", "publish", "{root}/d/porch/welcome", "{root}/ui/{home}/events", "{root}/hub/status"),
    *_may("hub", "retain", "{root}/d/porch/presence"),
    *_may("hub", "subscribe", "{root}/d/+/event/+", "{root}/#", "$SYS/#"),
    *_may_not("hub", "publish", "elsewhere", "$SYS/broker/uptime"),
    *_may_not("hub", "subscribe", "#", "elsewhere/#"),
)
