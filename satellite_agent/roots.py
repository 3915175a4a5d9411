"""Files that may be read: only below given folders, and never by way of a symlink, `..`, or a file that is no file."""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from satellite_agent.verbs.verb import VerbError

_STEP = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Roots:
    """`folders` are what the config opens, written out; `closed` are never entered, wherever they lie."""

    folders: tuple[Path, ...]
    closed: tuple[Path, ...] = ()

    @contextlib.contextmanager
    def file(self, path: str) -> Iterator[tuple[int, os.stat_result]]:
        """A regular file, open for reading, and its facts. Raises `VerbError`."""
        with self._place(path) as (place, facts):
            if not stat.S_ISREG(facts.st_mode):
                raise VerbError("no_file", f"{path} is not a regular file")
            with _reopened(place, path, os.O_RDONLY) as descriptor:
                yield descriptor, facts

    @contextlib.contextmanager
    def folder(self, path: str) -> Iterator[int]:
        """A folder, open for reading. Raises `VerbError`."""
        with self._place(path) as (place, facts):
            if not stat.S_ISDIR(facts.st_mode):
                raise VerbError("no_folder", f"{path} is not a folder")
            with _reopened(place, path, os.O_RDONLY | os.O_DIRECTORY) as descriptor:
                yield descriptor

    @contextlib.contextmanager
    def _place(self, path: str) -> Iterator[tuple[int, os.stat_result]]:
        """What the path names, opened for nothing: each step is taken from the one before, and no link followed."""
        root, steps = self._below(path)
        closed = {found for folder in self.closed if (found := _identity(folder)) is not None}
        try:
            here = os.open(root, os.O_PATH | os.O_CLOEXEC)
        except OSError as error:
            raise _refusal(path, error) from None
        try:
            facts = os.fstat(here)
            _check_closed(path, facts, closed)
            for step in steps:
                try:
                    there = os.open(step, _STEP, dir_fd=here)
                except OSError as error:
                    raise _refusal(path, error) from None
                os.close(here)
                here = there
                facts = os.fstat(here)
                if stat.S_ISLNK(facts.st_mode):
                    raise VerbError("forbidden", f"{path} leads over a symbolic link")
                _check_closed(path, facts, closed)
            yield here, facts
        finally:
            os.close(here)

    def _below(self, path: str) -> tuple[Path, Sequence[str]]:
        if "\0" in path or not path.startswith("/"):
            raise VerbError("forbidden", "the path must be absolute")
        steps = [step for step in path.split("/") if step]
        if any(step in (".", "..") for step in steps):
            raise VerbError("forbidden", "the path must not hold . or ..")
        for folder in self.folders:
            root = folder.parts[1:]
            if tuple(steps[: len(root)]) == root:
                return folder, steps[len(root) :]
        raise VerbError("forbidden", f"only files below {', '.join(map(str, self.folders))} may be read"[:500])


def read_roots(folders: Sequence[str]) -> tuple[Path, ...]:
    """The folders as a config names them; raises `ValueError` for one that is no plain absolute path."""
    if not folders:
        raise ValueError("must name at least one folder")
    found = [Path(folder) for folder in folders]
    for folder in found:
        if not folder.is_absolute() or ".." in folder.parts:
            raise ValueError(f"{folder} must be an absolute path without ..")
    return tuple(found)


def _check_closed(path: str, facts: os.stat_result, closed: set[tuple[int, int]]) -> None:
    if (facts.st_dev, facts.st_ino) in closed:
        raise VerbError("forbidden", f"{path} belongs to the satellite itself")


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        facts = path.stat()
    except OSError:
        return None
    return facts.st_dev, facts.st_ino


@contextlib.contextmanager
def _reopened(place: int, path: str, flags: int) -> Iterator[int]:
    # What was looked at is what is opened, by its descriptor; by its name it could have become something else.
    try:
        descriptor = os.open(f"/proc/self/fd/{place}", flags | os.O_CLOEXEC | os.O_NOCTTY)
    except OSError as error:
        raise _refusal(path, error) from None
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _refusal(path: str, error: OSError) -> VerbError:
    if error.errno == errno.ELOOP:
        return VerbError("forbidden", f"{path} leads over a symbolic link")
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG):
        return VerbError("not_found", f"there is no {path}"[:500])
    return VerbError("unreadable", f"{path} cannot be read: {error.strerror}"[:500])
