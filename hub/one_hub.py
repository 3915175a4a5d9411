"""The lock by which exactly one hub works on a database: waited for, held, and watched, for it may go unnoticed."""

import threading
from typing import Final

import structlog
from sqlalchemy import Connection, text
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import Session

from hub.database import Database
from hub.errors import HubError

log = structlog.get_logger(__name__)

# Any number, as long as every hub of one database uses the same: the lock of the one that works.
ONE_HUB_LOCK: Final = 0x6D61_7276
LOOK_EVERY_S: Final = 1.0


def works(session: Session) -> bool:
    """Whether some hub works on this database now, wherever it runs."""
    held = session.execute(
        text(
            "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1"
            " AND (classid::bigint << 32 | objid::bigint) = :key"
            " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        ),
        {"key": ONE_HUB_LOCK},
    )
    return held.first() is not None


class LockLost(HubError):
    """Another hub works on this database now."""


class OneHub:
    """`acquire` before the work, then `run` in a thread of its own beside it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connection: Connection | None = None
        self._stopping = threading.Event()

    def acquire(self, stop: threading.Event) -> bool:
        """Wait until no other hub works on this database; False when asked to stop before that."""
        said = False
        while not self._try():
            if not said:
                log.info("hub.standing_by", reason="another hub works on this database")
                said = True
            if stop.wait(LOOK_EVERY_S):
                return False
        return True

    def run(self) -> None:
        """Watch until stopped. Raises `LockLost` when the lock went with its connection and another hub was quicker.

        While Postgres is away nobody can have the lock, and nothing can be stored.
        """
        while not self._stopping.wait(LOOK_EVERY_S):
            try:
                if self._connection is not None:
                    self._connection.execute(text("SELECT 1"))
                elif self._try():
                    log.info("hub.lock_regained")
                else:
                    raise LockLost("another hub works on this database now")
            except SQLAlchemyError as error:
                log.warning("hub.lock_away", error=type(error).__name__)
                self._let_go()

    def stop(self) -> None:
        self._stopping.set()

    def close(self) -> None:
        """Let another hub work."""
        self._let_go()

    def _try(self) -> bool:
        connection = self._database.engine.connect()
        self._connection = connection
        # No transaction stays open between two looks.
        connection.execution_options(isolation_level="AUTOCOMMIT")
        is_ours = connection.execute(text("SELECT pg_try_advisory_lock(:key)"), {"key": ONE_HUB_LOCK}).scalar_one()
        if not is_ours:
            self._connection = None
            connection.close()
        return bool(is_ours)

    def _let_go(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.invalidate()  # the lock goes with the connection, which must not return to the pool
            connection.close()
