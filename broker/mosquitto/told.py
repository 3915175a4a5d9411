"""What somebody is told on its `denied` topic: what was refused and why, at a bounded rate."""

import time
from typing import Final, Literal

from hub.access.principals import Principal
from hub_protocol.catalogue import encode
from hub_protocol.messages import Denied

Refused = Literal["connect", "publish", "subscribe"]

_MAX_TEXT: Final = 1_000
# As the embedded broker: once a second for each topic, and so many names' topics are remembered.
AGAIN_AFTER_S: Final = 1.0
_MOST_KEPT: Final = 10_000
# Mosquitto refuses whoever is suspended as it refuses a wrong token, which a device takes for final: so it is told when
# to knock again.
SUSPENDED_RETRY_S: Final = 300.0


def denied(
    principal: Principal, action: Refused, topic: str, reason: str, *, retry_after_s: float | None = None
) -> list[tuple[str, bytes]]:
    """The message, as (topic, payload); none for principals that have no such topic."""
    where = principal.denied_topic
    said = Denied(action, topic[:_MAX_TEXT], reason[:_MAX_TEXT], retry_after_s=retry_after_s)
    return [(where, encode(said))] if where else []


class Pace:
    """Whether it is time to tell somebody the same thing again."""

    def __init__(self) -> None:
        self._last: dict[tuple[str, str], float] = {}

    def is_due(self, username: str, topic: str) -> bool:
        now = time.monotonic()
        key = (username, topic)
        if now - self._last.get(key, -AGAIN_AFTER_S) < AGAIN_AFTER_S:
            return False
        if len(self._last) >= _MOST_KEPT:
            self._last.clear()
        self._last[key] = now
        return True
