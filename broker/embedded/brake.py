"""Stops reading from a client that sends faster than it may, or than what it is answered can be stored."""

import asyncio
import time
from collections.abc import Callable

from broker.embedded.pace import Pace


class Brake:
    """Reading stops for as long as what was read costs, and while it is `stalled`: answers wait for the store."""

    __slots__ = ("_loop", "_paid", "_report", "_timer", "_transport", "pace", "stalled")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, transport: asyncio.Transport, report: Callable[[str], None]
    ) -> None:
        """`report` hears to which rule the client is held."""
        self._loop = loop
        self._transport = transport
        self._report = report
        self._timer: asyncio.TimerHandle | None = None
        self._paid = 0
        self.pace: Pace | None = None
        self.stalled = False

    @property
    def holds(self) -> bool:
        """Whether it is we who do not listen."""
        return self._timer is not None or self.stalled

    def pay(self, sent: int, length: int, now: float) -> None:
        """Read no more for as long as this costs: `sent` packets since the beginning, and `length` bytes now."""
        pace = self.pace
        if pace is None:
            return
        wait_s = pace.take(sent - self._paid, length, now)
        self._paid = sent
        if wait_s and self._timer is None:
            pace.held = True
            self._report(pace.rule)
            self._transport.pause_reading()
            self._timer = self._loop.call_later(wait_s, self._read_on)

    def stall(self) -> None:
        """Read no more before `go_on`."""
        if not self.stalled:
            self.stalled = True
            self._transport.pause_reading()

    def go_on(self) -> None:
        self.stalled = False
        self._resume()

    def release(self) -> None:
        """It has ended: hold nobody back, and let go of it; what is still to come is not listened to."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.pace = None
        self.stalled = False
        self._report = _nobody

    def _read_on(self) -> None:
        self._timer = None
        # Behind WebSocket frames more may have come in the meantime.
        self.pay(self._paid, 0, time.monotonic())
        self._resume()

    def _resume(self) -> None:
        if not self.holds and not self._transport.is_closing():
            self._transport.resume_reading()


def _nobody(rule: str) -> None:
    """Hears nothing."""
