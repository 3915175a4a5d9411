"""Collects what was refused and hands it to the database once a second, whatever the rate of refusals."""

import asyncio
import time
from collections import Counter
from concurrent.futures import Executor
from datetime import UTC, datetime
from typing import Final

import structlog
from sqlalchemy.exc import SQLAlchemyError

from hub.access import denials
from hub.access.denials import Refusable, Refusal
from hub.database import Database

log = structlog.get_logger(__name__)

FLUSH_EVERY_S: Final = 1.0
# Different refusals kept at a time; a flood of ever new ones is then counted as one.
MOST_KEPT: Final = 200
# Rows are made of them, one per minute each: so many different ones of one name, and so many of strangers together,
# who may call themselves anything.
MOST_PER_MINUTE: Final = 60
MOST_OF_STRANGERS: Final = 100
_MAX_TEXT: Final = 300


class Refusals:
    """Refusals of the last second, counted by (name, action, topic, reason)."""

    def __init__(self, database: Database | None, executor: Executor | None) -> None:
        self._database = database
        self._executor = executor
        self._counts: dict[tuple[str, Refusable, str, str], tuple[int, datetime]] = {}
        self._minute = 0
        self._of_minute: set[tuple[str, Refusable, str, str]] = set()
        self._of_name: Counter[str] = Counter()
        self._closing = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def add(self, principal: str, action: Refusable, topic: str, reason: str, *, stranger: bool = False) -> None:
        """Count a refusal; `stranger` is one who has not proved to be `principal`."""
        key = (principal[:_MAX_TEXT] or "(nobody)", action, topic[:_MAX_TEXT], reason[: 2 * _MAX_TEXT])
        if key not in self._counts and (len(self._counts) >= MOST_KEPT or not self._is_one_more(key, stranger)):
            key = ("(many)", action, "", "too many different refusals at a time; this counts those that are not shown")
        count, _ = self._counts.get(key, (0, None))
        self._counts[key] = (count + 1, datetime.now(UTC))

    def _is_one_more(self, key: tuple[str, Refusable, str, str], stranger: bool) -> bool:  # noqa: FBT001
        """Whether this refusal may have a row of its own in this minute; it keeps that for the rest of it."""
        minute = int(time.time() // 60)
        if minute != self._minute:
            self._minute = minute
            self._of_minute.clear()
            self._of_name.clear()
        if key in self._of_minute:
            return True
        name, most = ("", MOST_OF_STRANGERS) if stranger else (key[0], MOST_PER_MINUTE)
        if self._of_name[name] >= most:
            return False
        self._of_name[name] += 1
        self._of_minute.add(key)
        return True

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Write what is left and stop."""
        self._closing.set()
        if self._task is not None:
            await self._task

    async def _run(self) -> None:
        while not self._closing.is_set():
            try:
                async with asyncio.timeout(FLUSH_EVERY_S):
                    await self._closing.wait()
            except TimeoutError:
                pass
            await self._flush()

    async def _flush(self) -> None:
        if not self._counts:
            return
        counts, self._counts = self._counts, {}
        refusals = [
            Refusal(principal, action, topic, reason, at, count)
            for (principal, action, topic, reason), (count, at) in counts.items()
        ]
        for refusal in refusals:
            log.info(
                "refused",
                action=refusal.action,
                principal=refusal.principal,
                topic=refusal.topic,
                reason=refusal.reason,
                count=refusal.count,
            )
        if self._database is None:
            return
        try:
            await asyncio.get_running_loop().run_in_executor(self._executor, self._write, self._database, refusals)
        except SQLAlchemyError as error:
            log.warning("refusals.not_stored", count=len(refusals), error=type(error).__name__)

    @staticmethod
    def _write(database: Database, refusals: list[Refusal]) -> None:
        with database.transaction() as session:
            denials.record(session, refusals)
