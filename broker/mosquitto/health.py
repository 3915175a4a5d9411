"""How the adapter does: what it found amiss and mended, and what only people can mend."""

from dataclasses import dataclass, field
from typing import Any, Final

import structlog

from broker.mosquitto.differences import Mend

log = structlog.get_logger(__name__)

NAMES_SHOWN: Final = 20
_ERRORS_SHOWN: Final = 5
_LACKS: Final = "give it a new token, or import what `marvain broker render` writes"
_FOREIGN: Final = "the broker has a client of that name that is not Marvain's; remove or rename it"


@dataclass(slots=True)
class Health:
    """What is said of this broker in the database."""

    drift_found: int = 0
    last_drift: list[str] = field(default_factory=list)
    needs_token: set[str] = field(default_factory=set)
    foreign: set[str] = field(default_factory=set)
    open_defaults: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def as_detail(self, accounts: int) -> dict[str, Any]:
        """Plain values; of long lists the beginning."""
        return {
            "accounts": accounts,
            "drift_found": self.drift_found,
            "last_drift": self.last_drift[:NAMES_SHOWN],
            "needs_token": sorted(self.needs_token)[:NAMES_SHOWN],
            "needs_token_count": len(self.needs_token),
            "foreign": sorted(self.foreign)[:NAMES_SHOWN],
            "open_defaults": self.open_defaults,
            "errors": self.errors,
        }

    def note(self, username: str, mend: Mend) -> None:
        """Whether this name needs somebody's hand; logged when that is new."""
        for is_so, names, event, to_do in (
            (mend.lacks, self.needs_token, "mosquitto.needs_token", _LACKS),
            (mend.is_foreign, self.foreign, "mosquitto.foreign_name", _FOREIGN),
        ):
            if not is_so:
                names.discard(username)
            elif username not in names:
                names.add(username)
                log.warning(event, username=username, to_do=to_do)

    def drifted(self, names: list[str]) -> None:
        """The plugin was not as it was left."""
        self.drift_found += len(names)
        self.last_drift = names
        log.warning("mosquitto.drift_mended", count=len(names), names=names[:NAMES_SHOWN])

    def refused(self, command: str, error: str) -> None:
        """The plugin did not do as it was told."""
        self.errors = [*self.errors[1 - _ERRORS_SHOWN :], f"{command}: {error}"]
        log.warning("mosquitto.command_refused", command=command, error=error)
