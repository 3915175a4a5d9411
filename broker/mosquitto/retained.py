"""Which topics hold a retained message at Mosquitto, and whose they are as far as the topic says: for previews."""

import time
from typing import Final

from broker.mosquitto.control import Control
from broker.mosquitto.document import READ
from hub.access.principals import INTEGRATION_PREFIX
from hub.settings import HUB_USERNAME

MOST: Final = 50_000
EVERY_S: Final = 300.0
_FIRST_AFTER_S: Final = 1.0
# However many there are, looking takes a small part of the time.
_REST: Final = 50
# What only the hub publishes below a device's topics.
OF_THE_HUB: Final = frozenset(("cmd", "welcome", "presence", "denied", "receipt"))

Kept = tuple[str, str, int]


def publisher_of(topic: str, root: str) -> str:
    """The username whose topic it is; "" where the topic does not say."""
    part, name, below = (*topic.removeprefix(f"{root}/").split("/", 3), "", "", "")[:3]
    if part == "d":
        return HUB_USERNAME if below in OF_THE_HUB else name
    if part == "ext":
        return f"{INTEGRATION_PREFIX}{name}"
    return "" if part == "x" else HUB_USERNAME


class Inventory:
    """What was found last, and when to look again (`due_at`, of the monotonic clock)."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._written: list[Kept] | None = None
        self.due_at = time.monotonic() + _FIRST_AFTER_S

    def look(self, control: Control) -> list[Kept] | None:
        """(topic, publisher, bytes) of what is retained, in order; None when it is as it was. Raises `BrokerAway`.

        What only passes by meanwhile does not count, and payloads are not kept.
        """
        began = time.monotonic()
        sizes: dict[str, int] = {}
        for part in READ:
            if len(sizes) < MOST:
                sizes |= control.retained([f"{self._root}/{part}/#"])
        self.due_at = time.monotonic() + max(EVERY_S, _REST * (time.monotonic() - began))
        found = [(topic, publisher_of(topic, self._root), sizes[topic]) for topic in sorted(sizes)[:MOST]]
        return None if found == self._written else found

    def written(self, found: list[Kept]) -> None:
        """The database has this now."""
        self._written = found
