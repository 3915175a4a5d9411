"""What `marvain up` shows: one stream of lines from all services, each with the name of its service.

The services log JSON to the supervisor; here it becomes text for people, or stays JSON when MARVAIN_LOG_FORMAT says so.
"""

import json
import logging
import os
import sys
from datetime import UTC, datetime
from typing import Any, TextIO

import structlog

COLOURS = {"postgres": 34, "broker": 36, "hub": 32, "web": 35, "satellite": 33, "marvain": 37}
WIDTH = max(map(len, COLOURS))
_LOUD = {"warning": 33, "error": 31, "critical": 31}
# What devices and strangers sent may be in a line, and must not steer the terminal.
_CONTROL = {code: "?" for code in (*range(32), 127, *range(128, 160)) if code != 9}


class Console:
    """Writes to stderr; `level` is the least that is shown."""

    def __init__(self, *, as_json: bool, level: str = "INFO", stream: TextIO | None = None) -> None:
        self.stream = stream or sys.stderr
        self.as_json = as_json
        self.level = logging.getLevelNamesMapping()[level]
        self.coloured = self.stream.isatty() and not os.environ.get("NO_COLOR") and not as_json

    def line(self, service: str, raw: bytes) -> dict[str, Any] | None:
        """Show one line that a service wrote; gives back its event when it is one."""
        text = raw.decode("utf-8", errors="replace").rstrip()
        if not text:
            return None
        event = _event(text)
        if service == "postgres" and text.startswith("LOG:") and self.level > logging.DEBUG:
            return None
        if event is None:
            self._plain(service, text.translate(_CONTROL))
        else:
            self._event(service, event)
        return event

    def say(self, text: str, *, level: str = "info") -> None:
        """A line of the supervisor itself."""
        self._event("marvain", {"event": text, "level": level, "timestamp": datetime.now(UTC).isoformat()})

    def take_over_logging(self) -> None:
        """Send structlog's events of this process here too."""
        structlog.configure(
            processors=[structlog.stdlib.add_log_level, structlog.processors.TimeStamper(fmt="iso"), self._processor],
            wrapper_class=structlog.make_filtering_bound_logger(self.level),
            cache_logger_on_first_use=False,
        )

    def _processor(self, _logger: Any, _method: str, event: structlog.typing.EventDict) -> str:
        self._event("marvain", dict(event))
        raise structlog.DropEvent

    def _event(self, service: str, event: dict[str, Any]) -> None:
        fields = dict(event)
        level = str(fields.pop("level", "info"))
        if logging.getLevelNamesMapping().get(level.upper(), logging.INFO) < self.level:
            return
        if self.as_json:
            self._write(json.dumps({"service": service, "level": level, **fields}, default=str))
            return
        at, name = str(fields.pop("timestamp", "")), str(fields.pop("event", "")).translate(_CONTROL)
        trace = fields.pop("exception", None)
        parts = [at[11:19], self._paint(name, _LOUD[level]) if level in _LOUD else name]
        parts += [f"{key}={_shown(value)}".translate(_CONTROL) for key, value in fields.items()]
        self._plain(service, " ".join(part for part in parts if part))
        for part in str(trace or "").splitlines():
            self._plain(service, part.translate(_CONTROL))

    def _plain(self, service: str, text: str) -> None:
        if self.as_json:
            self._write(json.dumps({"service": service, "level": "info", "event": text}))
            return
        name = self._paint(service.ljust(WIDTH), COLOURS.get(service, 37))
        self._write(f"{name} | {text}")

    def _paint(self, text: str, colour: int) -> str:
        return f"\x1b[{colour}m{text}\x1b[0m" if self.coloured else text

    def _write(self, text: str) -> None:
        try:
            self.stream.write(text + "\n")
            self.stream.flush()
        except OSError:
            # The terminal is gone; the services go on or are stopped, but not because of a line.
            self.coloured = False


def _event(text: str) -> dict[str, Any] | None:
    if not text.startswith("{"):
        return None
    try:
        event = json.loads(text)
    except ValueError:
        return None
    return event if isinstance(event, dict) and "event" in event else None


def _shown(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return json.dumps(text) if " " in text or not text else text
