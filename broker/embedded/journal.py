"""A write-ahead journal of keys and values: changes gather during a turn of the loop and are written by a thread.

A log in segments: the newest record of a key counts. When more than half of it is outdated, what still counts in the
oldest segment is written anew and the segment removed; so a record that says "gone" never outlives what it denies.
"""

import asyncio
import fcntl
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import structlog

from broker.embedded import appender, segments
from broker.embedded.appender import Appender, Sync
from broker.embedded.segments import Corrupt

log = structlog.get_logger(__name__)

_SEGMENT_BYTES: Final = 8 * 1024**2
# What is outdated may take so many segments, however little counts.
_SLACK: Final = 4
# A change that nobody waits for is written with the next one that somebody does, or after this long.
_LINGER_S: Final = 0.05
_SYNC_EVERY_S: Final = 1.0
_RETRY_S: Final = 1.0


class StoreUnavailable(OSError):
    """The store's folder cannot be used; the message says why."""


class Journal:
    """Keys and values that survive a crash once `write` has reported them written.

    `sync`: "full" flushes the disk's cache with every write, "normal" once a second: a crash of this process loses
    nothing with either, a power cut at most that second with "normal". `failing` says why nothing can be written now.
    """

    def __init__(self, folder: Path, sync: Sync = "normal", segment_bytes: int = _SEGMENT_BYTES) -> None:
        """Read what is there into `loaded`; raises StoreUnavailable. What is corrupt is set aside under a name."""
        self._folder = folder
        self._sync = sync
        self._segment_bytes = segment_bytes
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(self._lock)
                raise StoreUnavailable(f"the store {folder} is in use by another broker") from None
            self.loaded = self._load()
            self._appender = Appender(folder, sync, self._segments[-1][1] if self._segments else None)
        except StoreUnavailable:
            raise
        except OSError as error:
            raise StoreUnavailable(f"the store {folder} cannot be used: {error.strerror}") from error
        self.failing = ""
        self._pending: dict[bytes, bytes | None] = {}
        self._writing: dict[bytes, bytes | None] = {}
        self._urgent = self._urgent_writing = False
        # The segment that is being copied, then the one to be removed with the next write.
        self._cleaning = False
        # The size from which on it is tried again after it failed.
        self._clean_from = 0
        self._outdated: tuple[int, Path] | None = None
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="journal")
        self._helper = ThreadPoolExecutor(1, thread_name_prefix="journal upkeep")
        self._loop: asyncio.AbstractEventLoop
        self._schedule: Callable[[], None]
        self._commit: Callable[[], None]
        self._task: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._syncing: asyncio.TimerHandle | None = None

    # --- reading what is there ----------------------------------------------------------------------------------

    def _load(self) -> dict[bytes, bytes]:
        try:
            return self._read_all()
        except Corrupt as error:
            aside = self._folder / f"corrupt-{time.strftime('%Y%m%dT%H%M%S')}-{time.time_ns() % 10**9:09d}"
            aside.mkdir(mode=0o700)
            for _, path in segments.listed(self._folder):
                path.rename(aside / path.name)
            if (self._folder / "mark").exists():
                (self._folder / "mark").rename(aside / "mark")
            log.error("store.corrupt", reason=str(error), set_aside=str(aside))
            return self._read_all()

    def _read_all(self) -> dict[bytes, bytes]:
        self._index: dict[bytes, tuple[int, int]] = {}
        self._segments: list[tuple[int, Path]] = []
        self._total = self._live = self._end = 0
        self._mark = segments.mark_of(self._folder)
        values: dict[bytes, bytes] = {}
        paths = segments.listed(self._folder)
        for position, path in paths:
            data = path.read_bytes()
            try:
                end = segments.whole(data, self._mark, last=path is paths[-1][1])
            except Corrupt as error:
                raise Corrupt(f"{path.name}: {error}") from None
            if end < len(data):
                log.warning("store.cut", segment=path.name, at=end, dropped=len(data) - end)
                os.truncate(path, end)
            if not end:
                path.unlink()
                continue
            for offset, key, value in segments.records(data, end):
                self._enter(key, value, position + offset)
                if value is None:
                    values.pop(key, None)
                else:
                    values[key] = value
            self._segments.append((position, path))
            self._total += end
            self._end = position + end
        return values

    def _enter(self, key: bytes, value: bytes | None, position: int) -> None:
        """Note where the newest record of a key lies."""
        earlier = self._index.pop(key, None)
        if earlier is not None:
            self._live -= earlier[1]
        if value is not None:
            size = segments.size_of(key, value)
            self._index[key] = (position, size)
            self._live += size

    # --- changes ------------------------------------------------------------------------------------------------

    def start(self, schedule: Callable[[], None], commit: Callable[[], None]) -> None:
        """From now on, in the running loop, ask for a `write`: by `schedule` at the turn's end, by `commit` now."""
        self._loop = asyncio.get_running_loop()
        self._schedule = schedule
        self._commit = commit

    @property
    def holding(self) -> bool:
        """Whether something must be written before anybody is told of it."""
        return (self._urgent or self._urgent_writing) and not self.failing

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return self._total

    def put(self, key: bytes, value: bytes, *, urgent: bool = True) -> None:
        self._pending[key] = value
        if not self._urgent:
            self._changed(urgent)

    def delete(self, key: bytes, *, urgent: bool = True) -> None:
        """Forget a key; what was never written leaves no trace."""
        self._pending.pop(key, None)
        if key in self._index or key in self._writing:
            self._pending[key] = None
            if not self._urgent:
                self._changed(urgent)

    def _changed(self, urgent: bool) -> None:  # noqa: FBT001
        if urgent:
            self._urgent = True
            if not self.failing:
                self._schedule()
        elif self._timer is None:
            self._timer = self._loop.call_later(_LINGER_S, self._linger)

    def _linger(self) -> None:
        self._timer = None
        if self._pending and not self.failing:
            self._commit()

    # --- writing ------------------------------------------------------------------------------------------------

    def write(self, done: Callable[[bool], None]) -> None:
        """Write everything that is pending; `done` hears in the loop whether it is kept. One write at a time."""
        batch, self._pending = self._pending, {}
        self._writing, self._urgent_writing, self._urgent = batch, self._urgent, False
        data = segments.frame(batch, self._mark) if batch else b""
        at, new = self._place(len(data))
        outdated, self._outdated = self._outdated, None
        work = (data, at, new, None if outdated is None else outdated[1])
        task = self._task = self._loop.run_in_executor(self._writer, self._appender.append, *work)

        def finished(_: object) -> None:
            self._writing = {}
            if not task.cancelled():
                error = task.exception()
                if error is None:
                    self._written(batch, len(data), outdated)
                else:
                    self._not_written(batch, new, outdated, error)
                done(error is None)

        task.add_done_callback(finished)

    def _place(self, length: int) -> tuple[int, Path | None]:
        """Where so many bytes go: the offset in the newest segment, and its path when it must be begun."""
        filled = self._end - self._segments[-1][0] if self._segments else 0
        if self._appender.is_open and (not filled or filled + length <= self._segment_bytes):
            return filled, None
        self._segments.append((self._end, segments.path_of(self._folder, self._end)))
        return 0, self._segments[-1][1]

    def _written(self, batch: dict[bytes, bytes | None], length: int, outdated: tuple[int, Path] | None) -> None:
        self._urgent_writing = False
        if self.failing:
            log.info("store.writes_again", was=self.failing)
            self.failing = ""
        at = self._end + segments.HEAD.size
        for key, value in batch.items():
            self._enter(key, value, at)
            at += segments.size_of(key, value)
        self._end += length
        self._total += length
        if outdated is not None:
            self._segments.remove(outdated)
            self._total -= self._segments[0][0] - outdated[0]
        if self._sync == "normal" and self._syncing is None:
            self._syncing = self._loop.call_later(_SYNC_EVERY_S, self._sync_soon)
        self._clean()

    def _not_written(
        self,
        batch: dict[bytes, bytes | None],
        new: Path | None,
        outdated: tuple[int, Path] | None,
        error: BaseException,
    ) -> None:
        if not isinstance(error, OSError):
            raise error
        self._fail(error)
        self._pending = batch | self._pending
        self._urgent = self._urgent or self._urgent_writing
        self._urgent_writing = False
        self._outdated = outdated
        if new is not None and not self._appender.began:
            self._segments.pop()
        self._loop.call_later(_RETRY_S, self._commit)

    def _fail(self, error: OSError) -> None:
        reason = error.strerror or str(error)
        if self.failing != reason:
            log.error("store.cannot_write", folder=str(self._folder), reason=reason)
        self.failing = reason

    def _sync_soon(self) -> None:
        self._syncing = None
        self._helper.submit(appender.sync, self._segments[-1][1])

    # --- cleaning -----------------------------------------------------------------------------------------------

    def _clean(self) -> None:
        """Begin to empty the oldest segment when too much is outdated."""
        if self._cleaning or self._outdated or len(self._segments) < 2 or self._total < self._clean_from:
            return
        if self._total > 2 * self._live + _SLACK * self._segment_bytes:
            self._cleaning = True
            oldest = self._segments[0]
            task = self._loop.run_in_executor(self._helper, self._still_counting, oldest)
            task.add_done_callback(lambda _: self._copy(task, oldest))

    def _still_counting(self, segment: tuple[int, Path]) -> list[tuple[int, bytes, bytes]]:
        position, path = segment
        data = path.read_bytes()
        return [
            (position + offset, key, value)
            for offset, key, value in segments.records(data, segments.whole(data, self._mark, last=False))
            if value is not None and self._index.get(key, (-1,))[0] == position + offset
        ]

    def _copy(self, task: asyncio.Future[list[tuple[int, bytes, bytes]]], segment: tuple[int, Path]) -> None:
        self._cleaning = False
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            # Nothing is lost: memory holds it all, and the segment stays where it is.
            log.error("store.cannot_clean", segment=segment[1].name, reason=str(error))
            self._clean_from = self._total + self._segment_bytes
            return
        self._clean_from = 0
        for position, key, value in task.result():
            newest = self._index.get(key, (-1,))[0] == position
            if newest and key not in self._pending and key not in self._writing:
                self._pending[key] = value
        self._outdated = segment
        self._changed(False)

    # --- the end ------------------------------------------------------------------------------------------------

    async def close(self) -> None:
        """Write what is pending and close the files; nothing may be changed afterwards."""
        while self._task is not None and not self._task.done():
            # What was held back for this write may begin another.
            await asyncio.wait([self._task])
        for timer in (self._timer, self._syncing):
            if timer is not None:
                timer.cancel()
        # What comes from now on asks for no write.
        self.failing = "closed"
        self._writer.shutdown()
        self._helper.shutdown()
        try:
            if self._pending:
                data = segments.frame(self._pending, self._mark)
                self._appender.append(data, *self._place(len(data)), None)
            self._appender.close()
        except OSError as error:
            self._fail(error)
        os.close(self._lock)
