"""Samples on disk until the broker has acknowledged them; when there are too many, the oldest go first."""

import contextlib
import logging
import sqlite3
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Final

from hub_protocol.catalogue import decode, encode
from hub_protocol.messages import SAMPLES_MAX, Sample
from hub_protocol.topics import check_level
from satellite_agent.database import transaction
from satellite_agent.outbox import OutboxError
from satellite_agent.reserve import Reserve

log = logging.getLogger(__name__)

MAX_ROWS: Final = 50_000
# The hub refuses what is older than seven days.
MAX_AGE: Final = timedelta(days=7) - timedelta(hours=1)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


class Samples:
    """Rows of the table `sample`. Unlike an event, a sample may be lost: the next one says more."""

    def __init__(self, db: sqlite3.Connection, *, max_rows: int = MAX_ROWS, reserve: Reserve | None = None) -> None:
        self._db = db
        self._reserve = reserve
        self._max_rows = max_rows
        self._rows = int(db.execute("SELECT count(*) FROM sample").fetchone()[0])

    @property
    def backlog(self) -> int:
        return self._rows

    def add(self, stream: str, value: float, at: datetime) -> int:
        """Keep a sample and return its number.

        Raises `BadName`, `Malformed` for a bad one and `OutboxError` when the disk takes none.
        """
        check_level(stream, "stream")
        decode("telemetry", encode(Sample(at, value)))  # asks the hub's own rules
        row = (stream, (at - _EPOCH) // _MICROSECOND, value)
        try:
            try:
                return self._insert(row)
            except sqlite3.OperationalError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_FULL or not self.shed():
                    raise
                return self._insert(row)
        except sqlite3.OperationalError as error:  # a full or broken disk
            raise OutboxError(f"the sample cannot be written: {error}") from None

    def take(self, now: datetime) -> dict[str, list[tuple[int, Sample]]]:
        """The oldest rows that the hub still wants, by stream, with their numbers; they stay until dropped."""
        self._forget(now - MAX_AGE)
        found: dict[str, list[tuple[int, Sample]]] = {}
        rows = self._db.execute("SELECT seq, stream, at_us, value FROM sample ORDER BY seq LIMIT ?", (SAMPLES_MAX,))
        for seq, stream, at_us, value in rows:
            found.setdefault(stream, []).append((seq, Sample(_EPOCH + at_us * _MICROSECOND, value)))
        return found

    def drop(self, seqs: Iterable[int]) -> None:
        """Forget what the broker has acknowledged."""
        with transaction(self._db):
            gone = sum(self._db.execute("DELETE FROM sample WHERE seq = ?", (seq,)).rowcount for seq in seqs)
        self._rows -= gone

    def shed(self) -> bool:
        """Make room on a full disk for what counts more: the oldest samples go, by help of the reserve when even that
        cannot be written. False when nothing went.
        """
        most, gone = max(1_000, self._rows // 4), 0
        try:
            gone = self._delete_oldest(most)
        except sqlite3.Error:
            if self._rows and self._reserve is not None and self._reserve.release():
                with contextlib.suppress(sqlite3.Error):
                    gone = self._delete_oldest(most)
        if gone:
            log.warning("the disk is full: the %d oldest samples make room for what counts more", gone)
        return gone > 0

    def _delete_oldest(self, count: int) -> int:
        sql = "DELETE FROM sample WHERE seq IN (SELECT seq FROM sample ORDER BY seq LIMIT ?)"
        gone = self._db.execute(sql, (count,)).rowcount
        self._rows -= gone
        return gone

    def redate(self, seq: int, at: datetime) -> None:
        """A sample that waits was measured at another time than it says."""
        self._db.execute("UPDATE sample SET at_us = ? WHERE seq = ?", ((at - _EPOCH) // _MICROSECOND, seq))

    def _insert(self, row: tuple[str, int, float]) -> int:
        excess = max(0, self._rows + 1 - self._max_rows)
        with transaction(self._db):
            seq = self._db.execute("INSERT INTO sample (stream, at_us, value) VALUES (?, ?, ?)", row).lastrowid
            if excess:
                self._db.execute(
                    "DELETE FROM sample WHERE seq IN (SELECT seq FROM sample ORDER BY seq LIMIT ?)", (excess,)
                )
        self._rows += 1 - excess
        return seq or 0

    def _forget(self, before: datetime) -> None:
        limit = (before - _EPOCH) // _MICROSECOND
        self._rows -= self._db.execute("DELETE FROM sample WHERE at_us < ?", (limit,)).rowcount


def wire(samples: list[Sample]) -> bytes:
    """The payload for samples of one stream."""
    return encode(samples[0]) if len(samples) == 1 else b"[" + b",".join(encode(one) for one in samples) + b"]"
