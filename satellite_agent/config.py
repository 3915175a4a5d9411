"""The values by which this satellite is set: checked whole, applied whole, kept with their revision, and reported."""

import contextlib
import logging
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from hub_protocol.messages import CONFIG_MAX_BYTES, Config, ConfigReply
from satellite_agent.database import read_about, write_about
from satellite_agent.settings import LOG_LEVELS, TELEMETRY_S
from satellite_agent.verbs.table import Table

log = logging.getLogger(__name__)

_KEPT_AS: Final = "config"


class Applied(msgspec.Struct):
    """What is in force, as it is kept on disk. `reply` is what the hub has not confirmed yet; None: nothing is owed."""

    rev: int = 0
    values: dict[str, Any] = {}
    reply: ConfigReply | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of values that somebody asked for; with `refused`, nothing was changed."""

    reported: dict[str, Any]
    refused: dict[str, str] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        return not self.refused


class Settable:
    """The satellite's own keys are `heartbeat_s`, `log_level`, `telemetry_s` and `verbs`; others are kept and reported.

    `verbs` lists those of the opened verbs that are on: it takes away and gives back, and opens nothing. `changed` is
    called when values other than before are in force. What cannot be kept on a full disk is in force all the same,
    until the next start.
    """

    def __init__(
        self,
        db: sqlite3.Connection,
        heartbeat_s: float,
        changed: Callable[[], None],
        *,
        verbs: Table | None = None,
        telemetry_s: float = TELEMETRY_S,
    ) -> None:
        self._db = db
        self._default_heartbeat_s = heartbeat_s
        self._default_telemetry_s = telemetry_s
        self._verbs = verbs or Table(())
        self._default_log_level = logging.getLogger("satellite_agent").level
        self._changed = changed
        self._applied = self._read()
        self._take_effect()

    @property
    def rev(self) -> int:
        """The revision that was applied last; 0: none."""
        return self._applied.rev

    @property
    def heartbeat_s(self) -> float:
        return float(self._applied.values.get("heartbeat_s", self._default_heartbeat_s))

    @property
    def telemetry_s(self) -> float:
        """Seconds between two measurements of a source that names no time of its own."""
        return float(self._applied.values.get("telemetry_s", self._default_telemetry_s))

    @property
    def owed(self) -> ConfigReply | None:
        """The answer that the hub has not confirmed."""
        return self._applied.reply

    @property
    def values(self) -> dict[str, Any]:
        """All values in force, defaults included."""
        return {
            "heartbeat_s": self._default_heartbeat_s,
            "log_level": logging.getLevelName(self._default_log_level or logging.INFO).lower(),
            "telemetry_s": self._default_telemetry_s,
            "verbs": self._verbs.opened,
        } | self._applied.values

    def receive(self, config: Config) -> None:
        """Apply what the hub wants and owe it an answer; the revision that is in force already is only answered."""
        if config.rev == self._applied.rev:
            if self._applied.reply is None:
                return
            verdict = Verdict(self.values)
        else:
            verdict = self.apply(config.values, rev=config.rev)
        error = "; ".join(f"{key} {why}" for key, why in verdict.refused.items())
        if verdict.ok:
            log.info("config %d is applied", config.rev)
        else:
            log.warning("config %d is refused: %.300s", config.rev, error)
        self._applied.reply = ConfigReply(
            epoch=1,
            rev=config.rev,
            ok=verdict.ok,
            error=error[:500],
            refused={key: why[:500] for key, why in verdict.refused.items()},
            reported=verdict.reported,
        )
        self._keep()

    def change(self, values: Mapping[str, Any]) -> Verdict:
        """Put these over what is in force, under the same revision; a null sets its key back."""
        wanted = {key: value for key, value in (self._applied.values | dict(values)).items() if value is not None}
        return self.apply(wanted, rev=self._applied.rev)

    def apply(self, values: Mapping[str, Any], *, rev: int) -> Verdict:
        """Let exactly these values be in force, or refuse all of them for one that is wrong."""
        refused = _faults(values) | self._faults_of_verbs(values.get("verbs", []))
        if refused:
            return Verdict(self.values, refused)
        before, self._applied.values = self._applied.values, dict(values)
        self._applied.rev = rev
        self._take_effect()
        self._keep()
        if before != self._applied.values:
            self._changed()
        return Verdict(self.values)

    def confirmed(self, rev: int) -> None:
        """The hub has stored the answer to this revision."""
        if self._applied.reply is not None and self._applied.reply.rev == rev:
            self._applied.reply = None
            self._keep()

    def _take_effect(self) -> None:
        level = self._applied.values.get("log_level")
        logging.getLogger("satellite_agent").setLevel(level.upper() if level else self._default_log_level)
        # What was kept may name a verb that the config file has closed since; that opens nothing.
        self._verbs.narrow(self._applied.values.get("verbs"))

    def _faults_of_verbs(self, names: Any) -> dict[str, str]:
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            return {"verbs": "is a list of names of verbs"}
        closed = sorted({name for name in names if not self._verbs.knows(name)})
        if not closed:
            return {}
        able = ", ".join(self._verbs.opened) or "none"
        return {"verbs": f"cannot open {', '.join(closed)[:200]}: only the config file on the device can ({able})"}

    def _read(self) -> Applied:
        text = read_about(self._db, _KEPT_AS)
        if text is None:
            return Applied()
        try:
            kept = msgspec.json.decode(text, type=Applied)
        except msgspec.MsgspecError as error:  # written by another version: what the hub retains brings it back
            log.warning("the config that was kept is not understood: %s", error)
            return Applied()
        return Applied() if _faults(kept.values) else kept

    def _keep(self) -> None:
        with contextlib.suppress(sqlite3.Error):
            write_about(self._db, _KEPT_AS, msgspec.json.encode(self._applied).decode())


def _faults(values: Mapping[str, Any]) -> dict[str, str]:
    """What is wrong with these values, by key, whatever the satellite can do."""
    found: dict[str, str] = {}
    for key, value in values.items():
        if key in ("heartbeat_s", "telemetry_s") and (
            isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value <= 86_400
        ):
            found[key] = "is a number of seconds from 1 to 86400"
        elif key == "log_level" and (not isinstance(value, str) or value not in LOG_LEVELS):
            found[key] = f"is one of {', '.join(LOG_LEVELS)}"
    size = len(msgspec.json.encode(dict(values)))
    if size > CONFIG_MAX_BYTES:
        found[max(values, key=lambda key: len(msgspec.json.encode(values[key])))] = f"is too large: {size} bytes in all"
    return found
