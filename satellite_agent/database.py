"""The satellite's SQLite file: what must outlive a crash or a power cut."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from satellite_agent.state import StateError, give_to_owner

_VERSION: Final = 3
_SCHEMA: Final = """
CREATE TABLE about (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
-- What the hub has not yet confirmed by a receipt. AUTOINCREMENT: a seq is never used twice, not even after a delete.
CREATE TABLE outbox (
    seq  INTEGER PRIMARY KEY AUTOINCREMENT,
    id   TEXT NOT NULL UNIQUE,
    kind TEXT NOT NULL CHECK (kind IN ('event', 'reply')),
    name TEXT NOT NULL,
    body BLOB NOT NULL
) STRICT;
CREATE INDEX outbox_kind ON outbox (kind, seq);
-- What the hub will never take, with its reason: nothing is lost without a trace. The newest thousand are kept.
CREATE TABLE refused (
    seq    INTEGER PRIMARY KEY,
    id     TEXT NOT NULL,
    kind   TEXT NOT NULL,
    name   TEXT NOT NULL,
    body   BLOB NOT NULL,
    reason TEXT NOT NULL
) STRICT;
-- Commands until a day after their deadline. `reply` is NULL while the command runs.
CREATE TABLE command (
    id          TEXT PRIMARY KEY,
    verb        TEXT NOT NULL,
    received_at INTEGER NOT NULL,
    reply       BLOB
) STRICT;
CREATE INDEX command_received ON command (received_at);
"""
_SAMPLES: Final = """
-- What the broker has not yet acknowledged; the oldest go when there are too many.
CREATE TABLE sample (
    seq    INTEGER PRIMARY KEY AUTOINCREMENT,
    stream TEXT NOT NULL,
    at_us  INTEGER NOT NULL,
    value  REAL NOT NULL
) STRICT;
"""
# The hub's time, in seconds; 0: not known, for what an earlier version received.
_EXPIRY: Final = "ALTER TABLE command ADD COLUMN expires_at INTEGER NOT NULL DEFAULT 0;"
# What each older format lacks.
_LATER: Final = {0: _SCHEMA + _SAMPLES + _EXPIRY, 1: _SAMPLES + _EXPIRY, 2: _EXPIRY}


def open_database(path: Path | None, handle: str) -> sqlite3.Connection:
    """Open or make the file (None: in memory) and see that it belongs to `handle`; raises `StateError`."""
    try:
        db = sqlite3.connect(path or ":memory:", isolation_level=None, timeout=5)
        try:
            if path is not None:
                give_to_owner(path)  # before there is a log, whose owner SQLite takes from here
            db.execute("PRAGMA journal_mode = WAL")
            # FULL: a transaction is on the disk when it returns, so that what we say is stored survives a power cut.
            db.execute("PRAGMA synchronous = FULL")
            db.execute("PRAGMA cache_size = -512")
            # A small log: on a full disk it is used again and again, and what it holds fits into the reserve.
            db.execute("PRAGMA wal_autocheckpoint = 64")
            (version,) = db.execute("PRAGMA user_version").fetchone()
            if version in _LATER:
                db.executescript(f"BEGIN IMMEDIATE; {_LATER[version]} PRAGMA user_version = {_VERSION}; COMMIT;")
            elif version != _VERSION:
                raise StateError(  # noqa: TRY301 - the handler below closes the file
                    f"{path} was written by another version of the satellite (format {version})"
                )
            db.execute("INSERT OR IGNORE INTO about VALUES ('handle', ?)", (handle,))
            (owner,) = db.execute("SELECT value FROM about WHERE name = 'handle'").fetchone()
            if owner != handle:
                # Else the events of one device would go out in the name of another.
                raise StateError(  # noqa: TRY301
                    f"{path} belongs to the device {owner!r}, not to {handle!r}; give another state folder"
                )
        except BaseException:
            db.close()
            raise
    except sqlite3.Error as error:
        raise StateError(f"{path} cannot be used: {error}") from None
    return db


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """All or nothing; may stand inside another one."""
    if db.in_transaction:
        yield
        return
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def read_about(db: sqlite3.Connection, name: str) -> str | None:
    row = db.execute("SELECT value FROM about WHERE name = ?", (name,)).fetchone()
    return str(row[0]) if row else None


def write_about(db: sqlite3.Connection, name: str, value: str | None) -> None:
    if value is None:
        db.execute("DELETE FROM about WHERE name = ?", (name,))
    else:
        db.execute(
            "INSERT INTO about VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value", (name, value)
        )
