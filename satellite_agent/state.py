"""The state folder of one satellite: private to its user and held by one process at a time."""

import contextlib
import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Self


class StateError(Exception):
    """The state folder cannot be used; the message says which and why."""


class StateUnwritable(StateError):
    """Nothing can be kept in the state folder."""


class AlreadyRunning(StateError):
    """Another process holds the state folder."""


def give_to_owner(path: Path) -> None:
    """What root makes in another user's folder (`doctor`, `send` beside a stopped service) is to be that user's."""
    if os.geteuid() == 0:
        with contextlib.suppress(OSError):
            owner = path.parent.stat()
            os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)


class StateDir:
    """A locked state folder; leaving the context lets go of the lock.

    A folder made here is 0700. An existing one keeps its mode, for it may be shared, but every file in it is private.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.database = path / "satellite.db"
        self.epoch = path / "epoch"
        self.control = path / "control.sock"
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError):
                path.mkdir(mode=0o700)
            self._lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise StateUnwritable(f"the state folder {path} is not writable: {error.strerror}") from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.pread(self._lock, 20, 0).decode("ascii", "replace").strip()
            os.close(self._lock)
            raise AlreadyRunning(
                f"a satellite (process {pid or '?'}) runs already with the state folder {path}"
            ) from None
        except OSError as error:  # a file system without locks
            os.close(self._lock)
            raise StateUnwritable(f"the state folder {path} cannot be locked: {error.strerror}") from None
        give_to_owner(path / "lock")
        with contextlib.suppress(OSError):  # the process id is for people; a full disk must not stop the satellite
            os.ftruncate(self._lock, 0)
            os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._lock)
