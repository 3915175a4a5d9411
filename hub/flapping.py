"""Flapping as a pure function: a device that loses its connection again and again, told from one that lost it once.

Each loss adds one, and weighs half as much ten minutes later. From `BEGINS_AT` on the device flaps; it has to be quiet
until less than `ENDS_BELOW` is left, so that the word does not flap itself.
"""

import math
from dataclasses import dataclass
from datetime import datetime
from typing import Final

HALF_LIFE_S: Final = 600.0
# Reached by four losses within about a minute and a half, or by one every four and a half minutes while that goes on.
BEGINS_AT: Final = 3.6
# From 3.6 down to 1 it takes 18 minutes without a loss.
ENDS_BELOW: Final = 1.0


@dataclass(frozen=True, slots=True)
class Unrest:
    """How many losses weigh on a device, as it was at `at`, and whether it counts as flapping."""

    weight: float = 0.0
    at: datetime | None = None
    flapping: bool = False

    def weight_at(self, now: datetime) -> float:
        """What is left of it; a clock that went back makes nothing heavier."""
        if self.at is None:
            return 0.0
        return self.weight * math.exp2(-max(0.0, (now - self.at).total_seconds()) / HALF_LIFE_S)


def lose(unrest: Unrest, at: datetime) -> Unrest:
    """The unrest after one more loss of the connection."""
    weight = unrest.weight_at(at) + 1.0
    # Of messages out of order the newest time counts, so that what is older does not decay again.
    latest = at if unrest.at is None else max(at, unrest.at)
    return Unrest(weight, latest, unrest.flapping or weight >= BEGINS_AT)


def calm(unrest: Unrest, now: datetime) -> Unrest:
    """The unrest in silence: it ends when it has been quiet for long enough, and else is as it was."""
    if not unrest.flapping or unrest.weight_at(now) >= ENDS_BELOW:
        return unrest
    return Unrest(unrest.weight_at(now), now, flapping=False)
