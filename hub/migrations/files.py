"""The migration files: where they lie, their text, and the checksum that shows when one was edited."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hub.migrations.errors import SchemaError

NAME: Final = re.compile(r"^(\d{3})_[a-z0-9_]+$")
ROLLBACK: Final = ".rollback.sql"


@dataclass(frozen=True, slots=True)
class MigrationFile:
    """`NNN_name.sql` with its rollback."""

    id: str
    apply: str
    rollback: str

    @property
    def sha256(self) -> str:
        """Of what is applied; a rollback may still be mended later."""
        return hashlib.sha256(self.apply.encode()).hexdigest()


def default_folder() -> Path:
    """`sql/` beside `hub/`, in the repository and where the package is installed."""
    return Path(__file__).resolve().parents[2] / "sql"


def read_files(folder: Path | None = None) -> list[MigrationFile]:
    """All migrations in order; raises SchemaError naming a file that is missing, doubled or badly named."""
    folder = folder or default_folder()
    paths = sorted(path for path in folder.glob("*.sql") if not path.name.endswith(ROLLBACK))
    if not paths:
        raise SchemaError(f"no migrations in {folder}")
    files = [_read(path) for path in paths]
    for number, file in enumerate(files, start=1):
        if int(file.id[:3]) != number:
            raise SchemaError(f"{file.id}.sql stands where number {number:03} should; each number is used once")
    orphans = {path.name.removesuffix(ROLLBACK) for path in folder.glob(f"*{ROLLBACK}")} - {file.id for file in files}
    if orphans:
        raise SchemaError(f"{min(orphans)}{ROLLBACK} has no migration")
    return files


def _read(path: Path) -> MigrationFile:
    name = path.stem
    if not NAME.match(name):
        raise SchemaError(f"{path.name}: a migration is named NNN_name.sql, in lower case")
    rollback = path.with_name(name + ROLLBACK)
    if not rollback.exists():
        raise SchemaError(f"{path.name} has no {rollback.name}")
    return MigrationFile(name, _text(path), _text(rollback))


def _text(path: Path) -> str:
    # Whatever the machine's own encoding is, and whatever an editor or git made of the line ends: the same text, and so
    # the same checksum.
    try:
        return path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise SchemaError(f"{path.name} is not UTF-8 (byte {error.start})") from None
