"""Has Mosquitto give out what it keeps back of its log.

With the debug log it writes a line for each message. To a pipe as its standard output that is cheap, for the C library
gathers 4 KiB before it writes; so the last lines stay where they are until others follow. Some long ones from us do.
"""

import itertools
import threading
from collections.abc import Callable
from typing import Final

# A line of Mosquitto's is cut at 999 bytes: so many of them are more than it gathers.
_LINES: Final = 5
_LONG: Final = "-" * 960
_PREFIX: Final = "marvain.log/"


class Flow:
    """What is published here nobody may publish: it comes to nothing but a line each."""

    def __init__(self, tell: Callable[[str, bytes], None]) -> None:
        self._tell = tell
        self._numbers = itertools.count(1)
        self._seen = 0
        self._condition = threading.Condition()

    def push(self) -> int:
        """Have everything given out that was logged until now; the number that `seen` will come to. From any thread."""
        number = next(self._numbers)
        for _ in range(_LINES):
            self._tell(f"{_PREFIX}{number}/{_LONG}", b"")
        return number

    def seen(self, topic: str) -> None:
        """One of ours was read in the log."""
        number, _, _ = topic.removeprefix(_PREFIX).partition("/")
        if topic.startswith(_PREFIX) and number.isdigit():
            with self._condition:
                self._seen = max(self._seen, int(number))
                self._condition.notify_all()

    def catch_up(self, timeout_s: float) -> bool:
        """Wait until all was read that was logged until now; False when that takes longer."""
        number = self.push()
        with self._condition:
            return self._condition.wait_for(lambda: self._seen >= number, timeout_s)
