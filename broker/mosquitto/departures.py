"""Who is to be sent off because a subscription of theirs was taken away: many at once, when nothing is more urgent.

Nothing is delivered on such a subscription any more; sending its holder off has it find out, and ask again.
"""

import time
from collections.abc import Callable
from typing import Final

import structlog

from broker.mosquitto import plugin
from broker.mosquitto.control import Control
from broker.mosquitto.differences import kick, send_off
from broker.mosquitto.document import SENT_OFF

log = structlog.get_logger(__name__)

LATE_S: Final = 0.5
# So many names stay well below what one message to the plugin may hold.
_AT_ONCE: Final = 1_000


class Departures:
    """The names that wait; those by which nobody is connected are left out."""

    def __init__(self, is_away: Callable[[str], bool]) -> None:
        self._is_away = is_away
        self._names: set[str] = set()
        self._since = 0.0

    @property
    def are_due(self) -> bool:
        return bool(self._names)

    @property
    def are_late(self) -> bool:
        return bool(self._names) and time.monotonic() - self._since > LATE_S

    def add(self, username: str) -> None:
        if not self._names:
            self._since = time.monotonic()
        self._names.add(username)

    def carry_out(self, control: Control) -> None:
        """End their connections. Raises `BrokerAway`."""
        names = sorted(name for name in self._names if not self._is_away(name))
        self._names.clear()
        for start in range(0, len(names), _AT_ONCE):
            some = names[start : start + _AT_ONCE]
            # What they were told has left the broker before.
            control.settle()
            if any("error" in answer for answer in control.ask(send_off(SENT_OFF, some))):
                # Somebody removed the group, or one of them is gone meanwhile.
                log.warning("mosquitto.sent_off_singly", count=len(some))
                plugin.have_group(control)
                control.ask([command for name in some for command in kick(name)])
