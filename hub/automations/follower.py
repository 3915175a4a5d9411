"""The part of the hub service that looks at what happened, woken by NOTIFY, and at the clock once a second."""

import threading
from datetime import UTC, datetime
from typing import Final

import psycopg
import structlog
from sqlalchemy.exc import SQLAlchemyError

from hub.automations import engine
from hub.database import Database, Listener

log = structlog.get_logger(__name__)

CHANNEL: Final = "marvain_automations"
LOOK_AGAIN_S: Final = 1.0
RETRY_S: Final = 0.5


class Follower:
    """One thread; what it was at when it was killed is still queued."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._stopping = threading.Event()
        self._listener: Listener | None = None

    def stop(self) -> None:
        self._stopping.set()
        if self._listener is not None:
            self._listener.close()

    def run(self) -> None:
        """Work until stopped."""
        while not self._stopping.is_set():
            try:
                if self._listener is None:
                    self._listener = self._database.listen(CHANNEL)
                self.look()
                self._listener.wait(LOOK_AGAIN_S)
            except (psycopg.OperationalError, SQLAlchemyError) as error:
                log.warning("automations.database_away", error=type(error).__name__)
                self._stopping.wait(RETRY_S)

    def look(self) -> None:
        """Look at all that is queued and due."""
        is_more = True
        while is_more and not self._stopping.is_set():
            with self._database.transaction() as session:
                is_more = engine.take(session, datetime.now(UTC)) == engine.AT_ONCE
        with self._database.transaction() as session:
            engine.due(session, datetime.now(UTC))
