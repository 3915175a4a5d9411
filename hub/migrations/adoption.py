"""A database of the earlier system: recognised by its tables, compared with our first files, and taken over.

What the tables should look like is not written down twice: the files are run into temporary tables, in a transaction
that is rolled back, and the catalogue is asked what they made.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import psycopg
from psycopg import sql

from hub.migrations.errors import SchemaForeign
from hub.migrations.files import MigrationFile
from hub.migrations.ledger import LEDGER_TABLES, run_script

# The files that describe the earlier system; from 005 on the way is ours.
LEGACY_FILES: Final = 4

COLUMNS: Final = """
SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, pg_get_expr(d.adbin, d.adrelid)
FROM pg_class AS c
JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN pg_attrdef AS d ON d.adrelid = c.oid AND d.adnum = a.attnum
WHERE c.relkind = 'r' AND c.relnamespace = {}
"""


@dataclass(frozen=True, slots=True)
class Column:
    """A column as far as it matters here; `default` is an SQL expression."""

    type: str
    not_null: bool
    default: str | None


Tables = dict[str, dict[str, Column]]


@dataclass(frozen=True, slots=True)
class Adoption:
    """Which files the database already shows, and which statements bring its columns to their letter."""

    files: list[MigrationFile]
    alignments: list[str]


def examine(connection: psycopg.Connection, files: list[MigrationFile]) -> Adoption:
    """What can be adopted of a database without a ledger; changes nothing. Raises SchemaForeign naming what differs."""
    present = _tables(connection, "current_schema()::regnamespace")
    if present.keys() <= LEDGER_TABLES:
        return Adoption([], [])
    adopted: list[MigrationFile] = []
    alignments: list[str] = []
    missing: list[str] = []
    with _made_by(connection, files[:LEGACY_FILES]) as steps:
        for file, tables in steps:
            there = [name for name in tables if name in present]
            missing += [name for name in tables if name not in present]
            if there and missing:
                raise SchemaForeign(
                    f"the database has no ledger, has the table {there[0]} and lacks {missing[0]}: it is neither empty "
                    "nor one of the earlier system"
                )
            if there:
                alignments += _compare(tables, present)
                adopted.append(file)
    return Adoption(adopted, alignments)


def _compare(expected: Tables, present: Tables) -> Iterator[str]:
    for table, columns in expected.items():
        for name, column in columns.items():
            found = present[table].get(name)
            if found is None:
                raise SchemaForeign(f"the table {table} is not that of the earlier system: it lacks the column {name}")
            if found.type != column.type:
                raise SchemaForeign(
                    f"the table {table} is not that of the earlier system: {name} is {found.type}, not {column.type}"
                )
            yield from _align(table, name, column, found)


def _align(table: str, name: str, wanted: Column, found: Column) -> Iterator[str]:
    quoted = sql.Identifier(name).as_string()
    alter = f"ALTER TABLE {sql.Identifier(table).as_string()} ALTER COLUMN {quoted}"
    if wanted.default != found.default:
        # The expression comes from the catalogue, where one of our own files put it.
        yield f"{alter} DROP DEFAULT" if wanted.default is None else f"{alter} SET DEFAULT {wanted.default}"
    if wanted.not_null and not found.not_null:
        if wanted.default is not None:
            yield f"UPDATE {sql.Identifier(table).as_string()} SET {quoted} = {wanted.default} WHERE {quoted} IS NULL"
        yield f"{alter} SET NOT NULL"
    elif found.not_null and not wanted.not_null:
        yield f"{alter} DROP NOT NULL"


@contextlib.contextmanager
def _made_by(
    connection: psycopg.Connection, files: list[MigrationFile]
) -> Iterator[Iterator[tuple[MigrationFile, Tables]]]:
    """Each file with the tables that it makes, as temporary tables that are gone at the end."""

    def steps() -> Iterator[tuple[MigrationFile, Tables]]:
        known: set[str] = set()
        for file in files:
            run_script(connection, f"{file.id}.sql", file.apply)
            tables = _tables(connection, "pg_my_temp_schema()")
            yield file, {name: columns for name, columns in tables.items() if name not in known}
            known |= tables.keys()

    with connection.transaction(force_rollback=True):
        # An extension cannot live among temporary tables, so it comes first; the files then find it there.
        run_script(connection, "pgvector", "CREATE EXTENSION IF NOT EXISTS vector")
        # The first schema in the path is where a plain CREATE TABLE puts its table.
        connection.execute("SELECT set_config('search_path', 'pg_temp, ' || current_setting('search_path'), true)")
        yield steps()


def _tables(connection: psycopg.Connection, schema: str) -> Tables:
    tables: Tables = {}
    for table, name, kind, not_null, default in connection.execute(COLUMNS.format(schema).encode()):
        tables.setdefault(table, {})[name] = Column(kind, not_null, default)
    return tables
