"""What was written before the hub had told its time: a device without a clock of its own dates it when it learns."""

import logging
import sqlite3
from datetime import datetime, timedelta
from typing import Final, Literal

from satellite_agent.clock import TOLERANCE, Clock
from satellite_agent.outbox import Outbox
from satellite_agent.samples import Samples

log = logging.getLogger(__name__)

MOST: Final = 10_000


class Undated:
    """Rows of this process by their number, with the ticks at which they were written.

    Dated once, before they are sent: a sample is known by its time, so that two times would be two samples.
    """

    def __init__(self, clock: Clock, outbox: Outbox, samples: Samples) -> None:
        self._clock = clock
        self._outbox = outbox
        self._samples = samples
        self._written: dict[tuple[Literal["event", "sample"], int], tuple[float, datetime]] = {}

    def note(self, kind: Literal["event", "sample"], seq: int, at: datetime) -> None:
        """Remember a row that says `at`, as good as this device's clock; nothing to do once the hub's is known."""
        if not self._clock.is_known and len(self._written) < MOST:
            self._written[kind, seq] = self._clock.ticks(), at

    def date(self) -> None:
        """The hub's time is known now."""
        written, self._written, changed = self._written, {}, 0
        try:
            for (kind, seq), (ticks, said) in written.items():
                at = self._clock.now() - timedelta(seconds=self._clock.ticks() - ticks)
                if abs(at - said) > TOLERANCE:
                    (self._outbox if kind == "event" else self._samples).redate(seq, at)
                    changed += 1
        except sqlite3.Error as error:  # a full disk: they keep the time that they have
            log.warning("what was written before the hub told its time keeps this device's own: %s", error)
        if changed:
            log.info("%d events and samples are dated by the hub's time", changed)
