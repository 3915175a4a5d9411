"""`read_file`: a part of a file below the folders that the config opens."""

import base64
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from satellite_agent.roots import Roots, read_roots
from satellite_agent.verbs.output import FITS_BYTES, json_size, time_of
from satellite_agent.verbs.verb import Job, Verb

# As base64 it is a third larger.
MOST_BYTES: Final = FITS_BYTES * 3 // 4


class Config(msgspec.Struct, forbid_unknown_fields=True):
    """`[verbs.read_file]`: `roots` are folders; `max_bytes` bounds one answer."""

    roots: list[str]
    max_bytes: Annotated[int, Meta(ge=1, le=MOST_BYTES)] = 32_768


class Args(msgspec.Struct, forbid_unknown_fields=True):
    """Which file, and which part of it."""

    path: Annotated[str, Meta(min_length=1, max_length=4096, description="An absolute path.")]
    offset: Annotated[int, Meta(ge=0, le=2**62, description="Where to begin, in bytes.")] = 0
    length: Annotated[int, Meta(ge=1, le=MOST_BYTES, description="How many bytes at most.")] | None = None


def verb(config: Config, closed: Sequence[Path] = ()) -> Verb:
    """Raises `ValueError` for folders that cannot be."""
    roots = Roots(read_roots(config.roots), tuple(closed))

    def run(args: Args, job: Job) -> dict[str, Any]:
        with roots.file(args.path) as (descriptor, facts):
            wanted = min(args.length or config.max_bytes, config.max_bytes)
            job.check()
            data = os.pread(descriptor, wanted, args.offset)
        text = _as_text(data)
        content = {"base64": base64.b64encode(data).decode()} if text is None else {"text": text}
        taken = len(data) if text is None else len(text.encode())
        return {
            "path": args.path,
            "size": facts.st_size,
            "modified_at": time_of(facts.st_mtime),
            "offset": args.offset,
            "bytes": taken,
            "more": len(data) == wanted and args.offset + taken < facts.st_size,
            **content,
        }

    return Verb("read_file", "high", Args, run)


def _as_text(data: bytes) -> str | None:
    """The data as text; None when it is none. A character that the end cuts in two is left for the next part."""
    if b"\0" in data:
        return None
    for cut in range(min(4, len(data) + 1)):
        try:
            text = data[: len(data) - cut].decode()
        except UnicodeDecodeError:
            continue
        # Control characters take six bytes in JSON; where they are many, base64 is the shorter way.
        return text if (text or not data) and json_size(text) <= FITS_BYTES else None
    return None
