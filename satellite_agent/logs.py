"""The satellite's log: one event, one line, on standard error and, where it is wanted, in a file that rotates."""

import logging
import logging.handlers
import os
import time
from pathlib import Path

from satellite_agent.settings import LOG_LEVELS, Given, SettingsError


class _OneLine(logging.Formatter):
    """One event, one line: what came over the wire cannot forge a second line or move the terminal's cursor."""

    converter = staticmethod(time.gmtime)

    def format(self, record: logging.LogRecord) -> str:
        line = super().format(record)
        if record.exc_info:
            return line
        return printable(line)


class _File(logging.handlers.RotatingFileHandler):
    """A full disk costs lines of the log and nothing else."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        pass


def printable(line: str) -> str:
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in line)


def log_to_stderr(given: Given, default: str) -> None:
    level = given.get("log_level", default).lower()
    if level not in LOG_LEVELS:
        raise SettingsError("log_level", f"must be one of {', '.join(LOG_LEVELS)}")
    handler = logging.StreamHandler()
    handler.setFormatter(_formatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("satellite_agent").setLevel(level.upper())


def log_to_file(given: Given) -> None:
    """Log into `log_file` too, when it is set: `log_max_kb` at most, with `log_keep` older ones beside it."""
    max_kb = _whole(given, "log_max_kb", 1_024, lowest=16, highest=1_048_576)
    keep = _whole(given, "log_keep", 3, lowest=1, highest=100)
    if "log_file" not in given:
        return
    path = Path(given["log_file"]).expanduser()
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600))
        handler = _File(path, maxBytes=max_kb * 1024, backupCount=keep, encoding="utf-8")
    except OSError as error:
        raise SettingsError("log_file", f"{path} cannot be written: {error.strerror}") from None
    handler.setFormatter(_formatter())
    logging.getLogger().addHandler(handler)


def _formatter() -> logging.Formatter:
    return _OneLine("%(asctime)sZ %(levelname)-7s %(message)s", "%Y-%m-%dT%H:%M:%S")


def _whole(given: Given, name: str, otherwise: int, *, lowest: int, highest: int) -> int:
    text = given.get(name, str(otherwise))
    if not text.isdecimal() or not lowest <= int(text[:12]) <= highest:
        raise SettingsError(name, f"must be a whole number from {lowest} to {highest}, got {text[:20]!r}")
    return int(text)
