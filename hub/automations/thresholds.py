"""A threshold with hysteresis: passed once, and not again before the value has been at the other bound."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal


@dataclass(frozen=True, slots=True)
class Threshold:
    """`bound` is passed upwards (above) or downwards (below); `rearm` is where it counts as left."""

    direction: Literal["above", "below"]
    bound: float
    rearm: float

    def passes(self, value: float) -> bool:
        """Whether this value is beyond the bound."""
        return value > self.bound if self.direction == "above" else value < self.bound

    def leaves(self, value: float) -> bool:
        """Whether it is back where the threshold may be passed anew."""
        return value <= self.rearm if self.direction == "above" else value >= self.rearm


def walk(
    threshold: Threshold, samples: Sequence[tuple[datetime, float]], *, is_on: bool
) -> tuple[bool, list[tuple[datetime, float, bool]]]:
    """Go through samples in their order; the state at the end, and each change: when, at which value, on or off."""
    changes = []
    for at, value in samples:
        if not is_on and threshold.passes(value):
            is_on = True
            changes.append((at, value, True))
        elif is_on and threshold.leaves(value):
            is_on = False
            changes.append((at, value, False))
    return is_on, changes
