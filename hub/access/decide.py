"""The decision: may this principal connect, publish, subscribe, be delivered this; and why, in words for people.

Pure: a principal and strings in, a `Decision` out. Grants only allow; what none of them covers is refused.
"""

from collections.abc import Callable, Iterable
from typing import Final

from hub.access.grants import Action, split_share, valid_filter, valid_topic
from hub.access.principals import Principal
from hub.access.scopes import VOCABULARY, expand, scope_for
from hub.errors import Forbidden

# Return codes of CONNACK (MQTT 3.1.1, table 3.1).
IDENTIFIER_REJECTED: Final = 2
SERVER_UNAVAILABLE: Final = 3
BAD_CREDENTIALS: Final = 4
NOT_AUTHORIZED: Final = 5


class Decision:
    """A verdict with its reason. `code` is the CONNACK return code when a connection is refused, else 0.

    A reason may be given as what puts it into words: most are read by nobody.
    """

    __slots__ = ("_reason", "allowed", "code")

    def __init__(self, allowed: bool, reason: str | Callable[[], str], code: int = 0) -> None:  # noqa: FBT001
        self.allowed: Final = allowed
        self.code: Final = code
        self._reason = reason

    def __bool__(self) -> bool:
        return self.allowed

    def __repr__(self) -> str:
        return f"Decision({self.allowed}, {self.reason!r}, {self.code})"

    @property
    def reason(self) -> str:
        """Why, in words for people."""
        if not isinstance(self._reason, str):
            self._reason = self._reason()
        return self._reason


def connect(principal: Principal, client_id: str, will_topic: str | None = None) -> Decision:
    """Whether an authenticated principal may open a session with this client id and, if given, this Will."""
    if client_id != principal.username:
        given = f"it is {_short(client_id)}" if client_id else "it is empty"
        return Decision(
            False, f"the client id must be the same as the username {principal.username}; {given}", IDENTIFIER_REJECTED
        )
    if will_topic is None:
        return Decision(True, f"{principal.username} proved who it is")
    will = publish(principal, will_topic)
    if not will:
        return Decision(False, f"its Will is not allowed: {will.reason}", NOT_AUTHORIZED)
    return Decision(True, lambda: f"{principal.username} proved who it is; its Will is {will.reason}")


def publish(principal: Principal, topic: str) -> Decision:
    """Whether the principal may publish to `topic`."""
    if not valid_topic(topic):
        return Decision(False, f"{_short(topic)} is not a topic that can be published to")
    return _decide(principal, "publish", topic)


def subscribe(principal: Principal, topic_filter: str) -> Decision:
    """Whether the principal may subscribe to `topic_filter`: one grant must cover everything that it can match.

    For `$share/<group>/<filter>` that is the filter in it: sharing opens nothing and costs nothing.
    """
    if not valid_filter(topic_filter):
        return Decision(False, f"{_short(topic_filter)} is not a valid topic filter")
    if topic_filter.startswith("$share/"):
        try:
            _, topic_filter = split_share(topic_filter)
        except ValueError:
            return Decision(False, f"{_short(topic_filter)} is not a valid shared subscription")
    return _decide(principal, "subscribe", topic_filter)


def receive(principal: Principal, topic: str) -> Decision:
    """Whether a message on `topic` may be delivered to the principal, whatever it subscribed to earlier."""
    if not valid_topic(topic):
        return Decision(False, f"{_short(topic)} is not a topic")
    return _decide(principal, "subscribe", topic)


def require(scopes: Iterable[str], scope: str) -> None:
    """Raise `Forbidden`, naming what is missing, unless `scopes` include `scope`: the same scopes guard HTTP."""
    if scope not in VOCABULARY:
        raise ValueError(f"no such scope: {scope}")
    if scope not in expand(scopes):
        raise Forbidden(f"this needs the scope {scope}")


def _decide(principal: Principal, action: Action, topic: str) -> Decision:
    if principal.may(action, topic):
        return Decision(True, lambda: _why(principal, action, topic))
    return Decision(False, lambda: _why_not(principal, action, topic))


def _why(principal: Principal, action: Action, topic: str) -> str:
    grant = principal.find(action, topic)
    return f"allowed by {grant.source} ({action} {grant.filter})" if grant else ""


def _why_not(principal: Principal, action: Action, topic: str) -> str:
    doing = "publish to" if action == "publish" else "subscribe to"
    return f"{principal.username} may not {doing} {_short(topic)}: {_lack(principal, action, topic)}"


def _lack(principal: Principal, action: Action, topic: str) -> str:
    """What is missing, for people."""
    if principal.kind == "browser":
        if action == "publish":
            return "a browser publishes nothing"
        return "a browser may only subscribe to the feeds of the agents that its user is a member of"
    if principal.kind == "hub":
        return f"it lies outside {principal.root}/"
    own = f"{principal.root}/d/{principal.username}/"
    scope = scope_for(action, topic[len(own) :]) if principal.kind == "device" and topic.startswith(own) else ""
    if scope:
        return f"it lacks the scope {scope}"
    opposite: Action = "subscribe" if action == "publish" else "publish"
    if principal.may(opposite, topic):
        return f"it may only {opposite} to it"
    if principal.kind == "integration":
        return "no role of this integration grants it"
    if topic.startswith(own):
        return "no scope opens this topic to a device, and no role of it does"
    return f"a device uses only its own topics, below {own}, and those that a role grants it"


def _short(text: str) -> str:
    """A topic as it can stand in a sentence: quoted, cut, and with nothing unprintable."""
    shown = text if len(text) <= 120 else text[:117] + "…"
    return repr(shown) if not shown.isprintable() or not shown or " " in shown else shown
