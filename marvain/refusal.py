"""The ways in which the top layer says no; each knows the exit code that tells a script what to do."""

from typing import Final

FAULT: Final = 1
USAGE: Final = 2
NOT_FOUND: Final = 3
CONFLICT: Final = 4
UNAVAILABLE: Final = 69
REFUSED: Final = 77
CONFIG: Final = 78


class Refusal(Exception):
    """Base; the message is for people and says what to do."""

    exit_code = FAULT


class StartFault(Refusal):
    """The instance cannot start."""

    def __init__(self, message: str, exit_code: int = FAULT) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class PostgresFault(Refusal):
    """The embedded PostgreSQL cannot be used."""


class NotOurs(Refusal):
    """The data folder is in somebody else's hands."""


class PortTaken(Refusal):
    """A port that was asked for cannot be had."""

    exit_code = UNAVAILABLE


class InUse(Refusal):
    """Somebody else works on this data folder."""

    exit_code = CONFLICT
