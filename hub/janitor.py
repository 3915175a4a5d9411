"""Removes what was kept for as long as its agent wants, in short transactions beside all else that the hub does."""

import threading
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import Session

from hub import batches, presence_history, retention
from hub.database import Database
from hub.retention import Kept

log = structlog.get_logger(__name__)

LOOK_EVERY_S: Final = 600.0
# After each transaction it rests for as long as that took: never more than half of a core, and nobody waits for long.
LONGEST_REST_S: Final = 1.0


class Janitor:
    """One thread; what was interrupted goes on with the next look."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._stopping = threading.Event()

    def stop(self) -> None:
        self._stopping.set()

    def run(self) -> None:
        """Work until stopped, at once and then every ten minutes."""
        while True:
            try:
                self.look(datetime.now(UTC))
            except SQLAlchemyError as error:
                log.warning("janitor.database_away", error=type(error).__name__)
            if self._stopping.wait(LOOK_EVERY_S):
                return

    def look(self, now: datetime) -> dict[str, int]:
        """Remove all that has had its time; returns how many rows of what. Returns early when stopped."""
        with self._database.transaction() as session:
            plan = retention.plan(session)
        removed: dict[str, int] = {}
        for agent_id, kept in plan.items():
            for name, count in self._of_agent(agent_id, kept, now).items():
                removed[name] = removed.get(name, 0) + count
        with self._database.transaction() as session:
            # A batch goes when none of its commands is left.
            batches.forget(session, now - timedelta(days=min(kept.commands_days for kept in plan.values())))
        removed = {name: count for name, count in removed.items() if count}
        if removed:
            log.info("janitor.removed", **removed)
        return removed

    def _of_agent(self, agent_id: uuid.UUID | None, kept: Kept, now: datetime) -> dict[str, int]:
        removed = {}
        for rule in retention.RULES:
            if agent_id is None and rule.table not in ("denials", "dead_letters"):
                continue  # all others have an agent
            before = retention.older_than(now, getattr(kept, rule.name))
            remove = partial(retention.remove_some, rule=rule, agent_id=agent_id, before=before)
            removed[rule.table] = self._until_none(remove)
        if agent_id is not None and kept.presence_days < Kept().presence_days:
            before = retention.older_than(now, kept.presence_days)
            forget = partial(
                presence_history.forget_of_agent, agent_id=agent_id, before=before, limit=retention.AT_ONCE
            )
            removed["presence_history"] = self._until_none(forget)
        # The hub's own bounds drop whole partitions; only an agent that wants less needs this.
        if agent_id is not None and kept.telemetry_days < Kept().telemetry_days:
            before = retention.older_than(now, kept.telemetry_days)
            remove = partial(retention.remove_samples, agent_id=agent_id, before=before)
            removed["telemetry"] = self._until_none(remove)
        return removed

    def _until_none(self, remove: Callable[[Session], int]) -> int:
        total = 0
        while not self._stopping.is_set():
            began = time.monotonic()
            with self._database.transaction() as session:
                gone = remove(session)
            if not gone:
                break
            total += gone
            self._stopping.wait(min(LONGEST_REST_S, time.monotonic() - began))
        return total
