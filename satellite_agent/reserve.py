"""Room on the disk that is held back, so that something can still be written down when others have filled it."""

import contextlib
import os
import sqlite3
from pathlib import Path
from typing import Final

from satellite_agent.state import give_to_owner

# Twice what the write-ahead log may hold: it has to move into the database before its own place can be used again.
SIZE_BYTES: Final = 512 * 1024


class Reserve:
    """A file of real blocks beside the database; a database in memory has none."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        file = db.execute("PRAGMA database_list").fetchone()[2]
        self._path = Path(file).with_name("reserve") if file else None

    def keep(self) -> bool:
        """Hold the room back, if there is as much; whether it is held."""
        if self._path is None:
            return False
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(descriptor, 0, SIZE_BYTES)
            finally:
                os.close(descriptor)
            give_to_owner(self._path)
        except OSError:  # the disk is full already, or its file system cannot do so
            self._remove()
            return False
        return True

    def release(self) -> bool:
        """Give the room to the database; False when there is none any more."""
        if not self._remove():
            return False
        with contextlib.suppress(sqlite3.Error):
            self._db.execute("PRAGMA wal_checkpoint(RESTART)").fetchall()
        return True

    def _remove(self) -> bool:
        try:
            if self._path is not None:
                self._path.unlink()
                return True
        except OSError:
            pass
        return False
