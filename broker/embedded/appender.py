"""Writes to the journal's newest segment, in the journal's own thread, and takes back what failed half way."""

import os
from pathlib import Path
from typing import Final, Literal

import structlog

log = structlog.get_logger(__name__)

Sync = Literal["normal", "full"]

_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC


class Appender:
    """The one open file of a journal. `began` says whether the last `append` has come to its new segment."""

    def __init__(self, folder: Path, sync: Sync, newest: Path | None) -> None:
        """Go on with the newest segment, if there is any; raises OSError."""
        self._folder = folder
        self._sync = sync
        self._file = os.open(newest, os.O_WRONLY | os.O_CLOEXEC) if newest is not None else -1
        self._torn = False
        self.began = False

    @property
    def is_open(self) -> bool:
        return self._file >= 0

    def append(self, data: bytes, at: int, new: Path | None, outdated: Path | None) -> None:
        """Write at this offset, to a `new` segment if one is named, then remove the `outdated` one; raises OSError."""
        self.began = False
        if new is not None:
            self._begin(new)
        if self._torn or new is not None:
            # What a failed write left behind.
            os.ftruncate(self._file, at)
            self._torn = False
        left = memoryview(data)
        while left:
            try:
                done = os.pwrite(self._file, left, at)
            except OSError:
                self._torn = True
                raise
            left = left[done:]
            at += done
        if data and self._sync == "full":
            os.fdatasync(self._file)
        if outdated is not None:
            # What it still held must be safe elsewhere before it goes.
            os.fdatasync(self._file)
            outdated.unlink(missing_ok=True)
            self._sync_folder()

    def _begin(self, new: Path) -> None:
        if self._file >= 0:
            os.fdatasync(self._file)
            os.close(self._file)
            self._file = -1
        self._file = os.open(new, _NEW, 0o600)
        self.began = True
        if self._sync == "full":
            self._sync_folder()

    def _sync_folder(self) -> None:
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def close(self) -> None:
        """Bring everything to the disk; raises OSError."""
        if self._file >= 0:
            file, self._file = self._file, -1
            try:
                os.fdatasync(file)
            finally:
                os.close(file)


def sync(segment: Path) -> None:
    """Bring a segment to the disk by a file of its own, so that nobody who writes to it waits."""
    try:
        file = os.open(segment, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        os.fdatasync(file)
    except OSError as error:
        log.error("store.cannot_sync", segment=segment.name, reason=error.strerror)
    finally:
        os.close(file)
