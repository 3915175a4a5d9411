"""Counts what devices publish where the broker cannot: in memory, written every few seconds."""

import time
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

import structlog
from sqlalchemy.exc import SQLAlchemyError

from hub.access import traffic
from hub.database import Database
from hub.inbox.envelope import Incoming
from hub_protocol.catalogue import parse_topic

log = structlog.get_logger(__name__)

WRITE_EVERY_S: Final = 5.0
# Topics that wait; while Postgres is away those that come on top are not counted.
WAITING_MAX: Final = 20_000


class Tally:
    """The consumer's thread alone uses it."""

    def __init__(self, database: Database, root: str) -> None:
        self._database = database
        self._root = root
        self._topics: Counter[str] = Counter()
        self._due_at = time.monotonic() + WRITE_EVERY_S

    def count(self, batch: Iterable[Incoming]) -> None:
        """Count these messages, but none that the broker had retained; and write when `WRITE_EVERY_S` have passed."""
        for incoming in batch:
            if not incoming.retained and (incoming.topic in self._topics or len(self._topics) < WAITING_MAX):
                self._topics[incoming.topic] += 1
        if time.monotonic() >= self._due_at:
            self.write()

    def write(self) -> None:
        """Write what was counted; what Postgres does not take now is kept for the next time."""
        self._due_at = time.monotonic() + WRITE_EVERY_S
        if not self._topics:
            return
        counts = {
            (topic.handle, name): count
            for name, count in self._topics.items()
            if (topic := parse_topic(name, self._root)) is not None
        }
        try:
            with self._database.transaction() as session:
                traffic.record(session, counts, datetime.now(UTC))
        except SQLAlchemyError as error:
            log.warning("tally.database_away", waiting=len(self._topics), error=type(error).__name__)
        else:
            self._topics.clear()
