"""The one table of what an action may become; a trigger in SQL holds every writer to the same."""

from typing import Final, Literal, get_args

Status = Literal[
    "proposed", "approved", "executing", "executed", "failed", "rejected", "expired", "cancelled", "unknown"
]
STATUSES: Final[tuple[Status, ...]] = get_args(Status)

# `executing` goes back to `approved` when a tool that may be repeated is to be tried again. `unknown` is where nobody
# knows whether it was done; a late word of the device still says.
TRANSITIONS: Final[dict[Status, frozenset[Status]]] = {
    "proposed": frozenset({"approved", "rejected", "expired", "cancelled"}),
    "approved": frozenset({"executing", "expired", "cancelled"}),
    "executing": frozenset({"executed", "failed", "unknown", "approved"}),
    "unknown": frozenset({"executed", "failed"}),
    "executed": frozenset(),
    "failed": frozenset(),
    "rejected": frozenset(),
    "expired": frozenset(),
    "cancelled": frozenset(),
}
OPEN: Final[frozenset[Status]] = frozenset({"proposed", "approved", "executing"})


def may_become(before: Status, after: Status) -> bool:
    """Whether the table has this step."""
    return after in TRANSITIONS[before]


def before(after: Status) -> frozenset[Status]:
    """Every status that may become this one: what a guarded update asks for."""
    return frozenset(one for one, following in TRANSITIONS.items() if after in following)
