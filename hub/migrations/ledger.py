"""yoyo as runner and ledger, made atomic: a file, its mark and its checksum are one transaction.

yoyo by itself splits a file into statements (which may break a DO block), runs them on one connection and marks them on
another (a crash between the two leaves a file applied and unmarked), and guards itself by a row that a killed
process leaves behind. Here a file runs whole, on the connection that marks it, under an advisory lock that ends
with its session.
"""

import contextlib
import socket
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final

import psycopg
from yoyo import migrations as yoyo_migrations
from yoyo.backends.core.postgresql import PostgresqlPsycopgBackend
from yoyo.connections import parse_uri

from hub.database import libpq_url, normalise_url
from hub.migrations.errors import MigrationFailed, SchemaError
from hub.migrations.files import MigrationFile

OLDEST_SERVER: Final = 15
# "marvain" in bytes: any number that nobody else takes for a lock in this database.
ADVISORY_LOCK: Final = int.from_bytes(b"marvain", "big")
LOCK_WAIT: Final = "10min"
# Waiting long for a table lock would stop every service behind us: rather fail, and say so.
TABLE_LOCK_WAIT: Final = "30s"

LEDGER_TABLES: Final = frozenset({"_yoyo_log", "_yoyo_migration", "_yoyo_version", "schema_checksums"})
CHECKSUMS: Final = """
CREATE TABLE IF NOT EXISTS schema_checksums (
    migration_id text PRIMARY KEY,
    sha256 text NOT NULL,
    applied_at timestamptz NOT NULL DEFAULT now()
)
"""


class SqlMigration(yoyo_migrations.Migration):  # type: ignore[misc]  # yoyo has no types
    """One of our files as yoyo sees it: a single step, run whole."""

    def __init__(self, file: MigrationFile, before: "SqlMigration | None") -> None:
        super().__init__(file.id, f"{file.id}.sql", source_dir="")
        self.file = file
        self.before = before

    def load(self) -> None:
        if self.loaded:
            return
        collector = yoyo_migrations.StepCollector(migration=self)
        collector.add_step(self._apply, self._rollback)
        self._depends = {self.before} - {None}
        self.steps = collector.create_steps(use_transactions=True)

    def _apply(self, connection: psycopg.Connection) -> None:
        run_script(connection, f"{self.id}.sql", self.file.apply)

    def _rollback(self, connection: psycopg.Connection) -> None:
        run_script(connection, f"{self.id}.rollback.sql", self.file.rollback)


def as_yoyo(files: list[MigrationFile]) -> Any:
    """The files as a list of yoyo's, each depending on the one before."""
    migrations: list[SqlMigration] = []
    for file in files:
        migrations.append(SqlMigration(file, migrations[-1] if migrations else None))
    return yoyo_migrations.MigrationList(migrations)


def run_script(connection: psycopg.Connection, name: str, script: str) -> None:
    """Run all statements of a file as they stand; raises MigrationFailed with the file, the line and the reason."""
    try:
        # Without parameters psycopg sends the text as one simple query, which the server itself takes apart.
        connection.execute(script.encode())
    except psycopg.Error as error:
        position = error.diag.statement_position
        line = f", line {script.count(chr(10), 0, int(position) - 1) + 1}" if position else ""
        reason = error.diag.message_primary or str(error).strip()
        more = " ".join(part for part in (error.diag.message_detail, error.diag.message_hint) if part)
        reason += f" ({more})" if more else ""
        raise MigrationFailed(f"{name}{line}: {reason}; nothing of this file was kept") from error


class Ledger(PostgresqlPsycopgBackend):  # type: ignore[misc]  # yoyo has no types
    """What has been applied to one database. Use it inside `with`; raises psycopg.OperationalError when it is away."""

    has_transactional_ddl = True
    _is_locked: bool = False

    def __init__(self, url: str) -> None:
        self._libpq_url = libpq_url(url)
        super().__init__(parse_uri(normalise_url(url)), yoyo_migrations.default_migration_table)
        server = self.connection.info.server_version // 10_000
        if server < OLDEST_SERVER:
            self.connection.close()
            raise SchemaError(f"PostgreSQL {server} is too old: Marvain needs {OLDEST_SERVER} or newer")

    def connect(self, dburi: Any) -> psycopg.Connection:
        del dburi  # libpq reads more forms of URL than yoyo does
        return psycopg.connect(
            self._libpq_url, autocommit=True, connect_timeout=5, application_name="marvain migrations"
        )

    def init_connection(self, connection: psycopg.Connection) -> None:
        connection.execute("SET timezone = 'UTC'")
        connection.execute("SET client_min_messages = warning")
        connection.execute("SET statement_timeout = 0")
        connection.execute(f"SET lock_timeout = '{TABLE_LOCK_WAIT}'".encode())

    @contextlib.contextmanager
    def lock(self, timeout: float = 0) -> Iterator[None]:
        """One at a time per database. The lock goes with its session, however that ends."""
        del timeout
        if self._is_locked:
            yield
            return
        self.connection.execute(f"SET lock_timeout = '{LOCK_WAIT}'".encode())
        try:
            self.connection.execute("SELECT pg_advisory_lock(%s)", [ADVISORY_LOCK])
        except psycopg.errors.LockNotAvailable:
            raise SchemaError(f"another process has been migrating this database for {LOCK_WAIT}") from None
        finally:
            self.init_connection(self.connection)
        self._is_locked = True
        try:
            yield
        finally:
            self._is_locked = False
            if not self.connection.closed:
                self.connection.execute("SELECT pg_advisory_unlock(%s)", [ADVISORY_LOCK])

    def prepare(self) -> None:
        """Make the ledger's own tables where they are missing."""
        self.ensure_internal_schema_updated()
        self.connection.execute(CHECKSUMS.encode())

    def apply_one(self, migration: SqlMigration, force: bool = False, mark: bool = True) -> None:  # noqa: FBT001, FBT002 - yoyo's signature
        del force, mark
        with self.transaction():
            migration.process_steps(self, "apply")
            self.log_migration(migration, "apply")
            self._mark(migration)

    def rollback_one(self, migration: SqlMigration, force: bool = False) -> None:  # noqa: FBT001, FBT002 - yoyo's signature
        del force
        with self.transaction():
            migration.process_steps(self, "rollback")
            self.log_migration(migration, "rollback")
            self.unmark_one(migration, log=False)
            self.connection.execute("DELETE FROM schema_checksums WHERE migration_id = %s", [migration.id])

    def adopt_one(self, migration: SqlMigration) -> None:
        """Mark a file as applied that the database already shows; the caller has verified it and commits."""
        self.log_migration(migration, "mark")
        self._mark(migration)

    def _mark(self, migration: SqlMigration) -> None:
        self.mark_one(migration, log=False)
        self.connection.execute(
            "INSERT INTO schema_checksums (migration_id, sha256) VALUES (%s, %s)",
            [migration.id, migration.file.sha256],
        )

    def get_log_data(self, migration: SqlMigration | None = None, operation: str = "apply") -> dict[str, Any]:
        # yoyo asks the system for the account's and the host's full name: a container may have no such account, and a
        # machine without DNS waits long for its name.
        return {
            "id": str(uuid.uuid4()),
            "migration_id": migration.id if migration else None,
            "migration_hash": migration.hash if migration else None,
            "username": self.connection.info.user,
            "hostname": socket.gethostname(),
            "created_at_utc": datetime.now(UTC).replace(tzinfo=None),
            "operation": operation,
        }


def applied(connection: psycopg.Connection) -> dict[str, tuple[str | None, datetime | None]]:
    """Checksum and time by id of everything that the ledger has; changes nothing, works without a ledger."""
    table = yoyo_migrations.default_migration_table
    known = connection.execute("SELECT to_regclass(%s), to_regclass('schema_checksums')", [table]).fetchone()
    if known is None or known[0] is None:
        return {}
    if known[1] is None:
        rows = connection.execute(f"SELECT migration_id, NULL, NULL FROM {table}".encode()).fetchall()
    else:
        rows = connection.execute(
            "SELECT migration_id, sha256, applied_at "
            f"FROM {table} LEFT JOIN schema_checksums USING (migration_id)".encode()
        ).fetchall()
    return {row[0]: (row[1], row[2]) for row in rows}
