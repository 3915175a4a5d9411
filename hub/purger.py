"""Removes the rows of deleted agents, a bounded number per transaction, beside whatever else the hub does."""

import threading
import time
import uuid
from typing import Final

import structlog
from sqlalchemy.exc import SQLAlchemyError

from hub import agent_deletion
from hub.database import Database

log = structlog.get_logger(__name__)

LOOK_EVERY_S: Final = 1.0
# After each transaction it rests for as long as that took, so that it never has more than half of a core.
LONGEST_REST_S: Final = 1.0


class Purger:
    """One thread; what was interrupted goes on with the next start."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._stopping = threading.Event()

    def stop(self) -> None:
        self._stopping.set()

    def run(self) -> None:
        """Work until stopped."""
        while not self._stopping.wait(LOOK_EVERY_S):
            try:
                self.purge()
            except SQLAlchemyError as error:
                log.warning("purger.database_away", error=type(error).__name__)

    def purge(self) -> None:
        """Remove all that the agents deleted so far have left; returns early when stopped."""
        with self._database.transaction() as session:
            going = agent_deletion.unfinished(session)
            tables = agent_deletion.owned_tables(session) if going else []
        for agent_id in going:
            began = time.monotonic()
            if all(self._empty(table, agent_id) for table in tables):
                with self._database.transaction() as session:
                    agent_deletion.finish(session, agent_id)
                log.info("agent.purged", agent_id=str(agent_id), took_s=round(time.monotonic() - began, 1))

    def _empty(self, table: agent_deletion.OwnedTable, agent_id: uuid.UUID) -> bool:
        """Remove the agent's rows of one table; False when stopped before the last."""
        gone = table.at_once
        while gone == table.at_once:
            if self._stopping.is_set():
                return False
            began = time.monotonic()
            with self._database.transaction() as session:
                gone = agent_deletion.remove_some(session, table, agent_id)
            if gone:
                self._stopping.wait(min(LONGEST_REST_S, time.monotonic() - began))
        return True
