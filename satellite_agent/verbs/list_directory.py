"""`list_directory`: what lies in a folder below the folders that the config opens."""

import contextlib
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from satellite_agent.roots import Roots, read_roots
from satellite_agent.verbs.output import FITS_BYTES, json_size, time_of
from satellite_agent.verbs.verb import Job, Verb, VerbError

# Names have to be sorted, so all are held for a moment.
MOST_NAMES: Final = 100_000


class Config(msgspec.Struct, forbid_unknown_fields=True):
    """`[verbs.list_directory]`: `roots` are folders; `max_entries` bounds one answer."""

    roots: list[str]
    max_entries: Annotated[int, Meta(ge=1, le=1_000)] = 200


class Args(msgspec.Struct, forbid_unknown_fields=True):
    """Which folder, and where in it to begin."""

    path: Annotated[str, Meta(min_length=1, max_length=4096, description="An absolute path.")]
    after: Annotated[str, Meta(max_length=255, description="Begin behind this name.")] = ""


def verb(config: Config, closed: Sequence[Path] = ()) -> Verb:
    """Raises `ValueError` for folders that cannot be."""
    roots = Roots(read_roots(config.roots), tuple(closed))

    def run(args: Args, job: Job) -> dict[str, Any]:
        with roots.folder(args.path) as descriptor:
            names = _names(descriptor, job)
            behind = [name for name in names if name > args.after]
            entries: list[dict[str, Any]] = []
            left = FITS_BYTES - json_size(args.path)
            for name in behind[: config.max_entries]:
                job.check()
                entry = _entry(descriptor, name)
                left -= json_size(entry) + 1
                if left < 0:
                    break
                entries.append(entry)
        return {"path": args.path, "count": len(names), "entries": entries, "more": len(entries) < len(behind)}

    return Verb("list_directory", "medium", Args, run)


def _names(descriptor: int, job: Job) -> list[str]:
    names: list[str] = []
    with os.scandir(descriptor) as found:
        for entry in found:
            names.append(entry.name)
            if len(names) > MOST_NAMES:
                raise VerbError("too_large", f"there are more than {MOST_NAMES} names in it")
            if len(names) % 1_000 == 0:
                job.check()
    return sorted(names)


def _entry(descriptor: int, name: str) -> dict[str, Any]:
    # A name may be any bytes; what is no UTF-8 is shown as such, and cannot be asked for.
    shown = os.fsencode(name).decode("utf-8", "replace")
    entry: dict[str, Any] = {"name": shown, "type": "other"}
    with contextlib.suppress(OSError):  # gone since
        facts = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
        for is_type, called in ((stat.S_ISREG, "file"), (stat.S_ISDIR, "folder"), (stat.S_ISLNK, "link")):
            if is_type(facts.st_mode):
                entry["type"] = called
        if entry["type"] == "file":
            entry["size"] = facts.st_size
        entry["modified_at"] = time_of(facts.st_mtime)
    return entry
