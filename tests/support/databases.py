"""Databases of the tests: where their server lies, and how they are dropped, even while it looks after them."""

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import psycopg
from psycopg import sql

_PATIENCE_S: Final = 20.0
# A copy of the template is some 700 files: 15 ms in memory, 350 ms on a disk, and there are thousands of copies.
_MEMORY: Final = Path("/dev/shm")
_ROOM_BYTES: Final = 4 * 2**30
_PREFIX: Final = "marvain-tests-"


@contextlib.contextmanager
def server_folder(otherwise: Path) -> Iterator[Path]:
    """A folder for the server of this run, in memory where there is room, else `otherwise`; gone with the run."""
    try:
        is_roomy = shutil.disk_usage(_MEMORY).free >= _ROOM_BYTES
    except OSError:
        is_roomy = False
    if not is_roomy:
        yield otherwise
        return
    _remove_left_behind()
    folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-", dir=_MEMORY))
    folder.chmod(0o711)  # as root the server is another user's
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _remove_left_behind() -> None:
    """Give back the memory that a run which was killed still holds."""
    for folder in _MEMORY.glob(f"{_PREFIX}*"):
        pid = folder.name.removeprefix(_PREFIX).partition("-")[0]
        if pid.isdigit() and not Path("/proc", pid).exists():
            shutil.rmtree(folder, ignore_errors=True)


def drop(url: str, name: str) -> None:
    """Drop a database and end all connections to it."""
    deadline = time.monotonic() + _PATIENCE_S
    with psycopg.connect(url, autocommit=True) as connection:
        while True:
            try:
                connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
            except psycopg.errors.InsufficientPrivilege:
                # A superuser's connection is just closing, or autovacuum is at work there: neither may be ended by us.
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
            else:
                return
