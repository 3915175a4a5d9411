"""What `marvain.preparation` tells the supervisor, and for which files of `sql/` a database was prepared."""

import hashlib
from importlib.util import find_spec
from pathlib import Path

import msgspec


class Prepared(msgspec.Struct, frozen=True, tag="prepared"):
    """The database is ready. `setup_token` is there while nobody owns the instance; `demo`: whether to run the demo."""

    setup_token: str | None
    demo: bool


class NotPrepared(msgspec.Struct, frozen=True, tag="not_prepared"):
    """It is not, and why."""

    message: str
    exit_code: int


def schema_digest() -> str:
    """A digest of all files of `sql/`."""
    spec = find_spec("sql")
    digest = hashlib.sha256()
    for folder in (spec.submodule_search_locations or []) if spec is not None else []:
        for file in sorted(Path(folder).glob("*.sql")):
            digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()
