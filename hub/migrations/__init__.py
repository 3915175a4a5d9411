"""The schema's versions: apply the files of `sql/`, roll them back, take over an earlier database, refuse a wrong one.

All functions take a database URL and raise `SchemaError` (which says what to do), `hub.errors.Invalid` for a URL that
is none, and `psycopg.OperationalError` when the database is away.
"""

import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

import psycopg
import structlog

from hub.database import libpq_url
from hub.migrations.adoption import Adoption, examine
from hub.migrations.errors import (
    MigrationFailed,
    SchemaAhead,
    SchemaEdited,
    SchemaError,
    SchemaForeign,
    SchemaOutdated,
)
from hub.migrations.files import MigrationFile, default_folder, read_files
from hub.migrations.ledger import Ledger, SqlMigration, applied, as_yoyo, run_script

__all__ = [
    "MigrationFailed",
    "MigrationState",
    "Plan",
    "SchemaAhead",
    "SchemaEdited",
    "SchemaError",
    "SchemaForeign",
    "SchemaOutdated",
    "adopt",
    "check",
    "default_folder",
    "migrate",
    "plan",
    "rollback",
    "status",
]

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class MigrationState:
    """One migration and how it stands; `unknown` is one that the database has and this program has not."""

    id: str
    state: Literal["applied", "pending", "edited", "unknown"]
    applied_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What `migrate` would do: files it would find done already, files it would apply, what it would note on rows."""

    adopt: list[str]
    apply: list[str]
    notes: list[str]


def status(url: str, sql_dir: Path | None = None) -> list[MigrationState]:
    """Every migration in order; changes nothing."""
    files = read_files(sql_dir)
    with psycopg.connect(libpq_url(url), autocommit=True, connect_timeout=5) as connection:
        return _states(connection, files)


def check(url: str, sql_dir: Path | None = None) -> None:
    """Return when the database has exactly our migrations; services call this at their start."""
    states = status(url, sql_dir)
    _refuse_strange(states)
    pending = [state.id for state in states if state.state == "pending"]
    if pending:
        more = f" and {len(pending) - 1} more" if len(pending) > 1 else ""
        raise SchemaOutdated(f"the database lacks the migration {pending[0]}{more}: run marvain migrate")


def migrate(url: str, sql_dir: Path | None = None) -> list[str]:
    """Apply what is missing, each file in one transaction; returns the ids applied.

    Several processes may call this at once: one works, the others wait and find nothing left to do. A database of the
    earlier system is adopted first.
    """
    files = read_files(sql_dir)
    with Ledger(url) as ledger, ledger.lock():
        ledger.prepare()
        _refuse_strange(_states(ledger.connection, files))
        _adopt(ledger, files)
        migrations = ledger.to_apply(as_yoyo(files))
        done = []
        for migration in migrations:
            started = time.monotonic()
            ledger.apply_one(migration)
            log.info("migration.applied", migration=migration.id, seconds=round(time.monotonic() - started, 3))
            done.append(migration.id)
    return done


def plan(url: str, sql_dir: Path | None = None) -> Plan:
    """A dry run: everything that `migrate` would do is done, looked at, and rolled back.

    It takes the locks that the real run takes, and fails where the real run would fail.
    """
    files = read_files(sql_dir)
    with Ledger(url) as ledger, ledger.lock():
        states = _states(ledger.connection, files)
        _refuse_strange(states)
        connection: psycopg.Connection = ledger.connection
        with connection.transaction(force_rollback=True):
            adoption = _examine(connection, files)
            _align(connection, adoption)
            present = {state.id for state in states if state.state == "applied"} | {file.id for file in adoption.files}
            pending = [file for file in files if file.id not in present]
            before = _newest_note(connection)
            for file in pending:
                run_script(connection, f"{file.id}.sql", file.apply)
            notes = _notes_after(connection, before)
    return Plan([file.id for file in adoption.files], [file.id for file in pending], notes)


def adopt(url: str, sql_dir: Path | None = None) -> list[str]:
    """Mark as applied what a database of the earlier system already has, after comparing; returns the ids marked.

    Nothing for an empty database and for one that has a ledger.
    """
    files = read_files(sql_dir)
    with Ledger(url) as ledger, ledger.lock():
        ledger.prepare()
        return _adopt(ledger, files)


def rollback(url: str, to: str | None, sql_dir: Path | None = None) -> list[str]:
    """Undo, newest first, everything after the migration `to` (its id or its number; None or "0": everything)."""
    files = read_files(sql_dir)
    keep = _position(files, to)
    with Ledger(url) as ledger, ledger.lock():
        ledger.prepare()
        _refuse_strange(_states(ledger.connection, files))
        migrations: list[SqlMigration] = list(ledger.to_rollback(as_yoyo(files)))
        done = []
        for migration in migrations:
            if int(migration.id[:3]) > keep:
                ledger.rollback_one(migration)
                log.info("migration.rolled_back", migration=migration.id)
                done.append(migration.id)
    return done


def _position(files: list[MigrationFile], to: str | None) -> int:
    if to is None or to.strip("0") == "":
        return 0
    for file in files:
        if to == file.id or (to.isascii() and to.isdigit() and int(to) == int(file.id[:3])):
            return int(file.id[:3])
    raise SchemaError(f"there is no migration {to!r}; the newest is {files[-1].id}", field="to")


def _states(connection: psycopg.Connection, files: list[MigrationFile]) -> list[MigrationState]:
    found = applied(connection)
    states = []
    for file in files:
        if file.id not in found:
            states.append(MigrationState(file.id, "pending"))
            continue
        checksum, applied_at = found.pop(file.id)
        states.append(MigrationState(file.id, "applied" if checksum == file.sha256 else "edited", applied_at))
    states += [MigrationState(name, "unknown", applied_at) for name, (_, applied_at) in sorted(found.items())]
    return states


def _refuse_strange(states: list[MigrationState]) -> None:
    for state in states:
        if state.state == "edited":
            raise SchemaEdited(
                f"{state.id}.sql was changed after it had been applied: restore it, and put the change into a new file"
            )
        if state.state == "unknown":
            raise SchemaAhead(f"the database has the migration {state.id}, which this version of Marvain does not know")


def _examine(connection: psycopg.Connection, files: list[MigrationFile]) -> Adoption:
    return Adoption([], []) if applied(connection) else examine(connection, files)


def _adopt(ledger: Ledger, files: list[MigrationFile]) -> list[str]:
    adoption = _examine(ledger.connection, files)
    if not adoption.files:
        return []
    by_id = {migration.id: migration for migration in as_yoyo(files)}
    with ledger.transaction():
        _align(ledger.connection, adoption)
        for file in adoption.files:
            ledger.adopt_one(by_id[file.id])
    ids = [file.id for file in adoption.files]
    log.info("migration.adopted", migrations=ids, alignments=len(adoption.alignments))
    return ids


def _align(connection: psycopg.Connection, adoption: Adoption) -> None:
    for statement in adoption.alignments:
        run_script(connection, statement, statement)


def _newest_note(connection: psycopg.Connection) -> int:
    if connection.execute("SELECT to_regclass('migration_notes')").fetchone() == (None,):
        return 0
    row = connection.execute("SELECT coalesce(max(note_id), 0) FROM migration_notes").fetchone()
    return int(row[0]) if row else 0


def _notes_after(connection: psycopg.Connection, note_id: int) -> list[str]:
    if connection.execute("SELECT to_regclass('migration_notes')").fetchone() == (None,):
        return []
    rows = connection.execute(
        "SELECT migration, subject, note FROM migration_notes WHERE note_id > %s ORDER BY note_id", [note_id]
    )
    return [f"{migration}: {subject}: {note}" for migration, subject, note in rows]
