"""A database of the earlier system, and eyes for comparing databases."""

import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest

LEDGERS = ("schema_checksums", "migration_notes")


@dataclass(frozen=True)
class Seen:
    """A database with eyes and hands."""

    url: str

    def rows(self, query: str, *values: Any) -> list[Any]:
        with psycopg.connect(self.url, autocommit=True) as connection:
            return connection.execute(query.encode(), values or None).fetchall()

    def run(self, query: str, *values: Any) -> None:
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(query.encode(), values or None)

    def shape(self) -> list[Any]:
        """All that makes up the schema: columns, constraints, indexes; in an order that their age does not change."""
        return self.rows(
            """
            SELECT 'column', c.relname, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull::text,
                   coalesce(pg_get_expr(d.adbin, d.adrelid), a.attidentity::text)
            FROM pg_class AS c JOIN pg_attribute AS a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
            LEFT JOIN pg_attrdef AS d ON d.adrelid = c.oid AND d.adnum = a.attnum
            WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r'
            UNION ALL
            SELECT 'constraint', conrelid::regclass::text, conname, pg_get_constraintdef(oid), '', ''
            FROM pg_constraint WHERE connamespace = 'public'::regnamespace AND conrelid <> 0
            UNION ALL
            SELECT 'index', tablename, indexname, indexdef, '', '' FROM pg_indexes WHERE schemaname = 'public'
            ORDER BY 1, 2, 3, 4
            """
        )

    def contents(self) -> dict[str, list[str]]:
        """All rows of all tables, save the ledgers', as JSON in one order."""
        tables = self.rows("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1")
        return {
            name: [row[0] for row in self.rows(f'SELECT to_jsonb(t)::text FROM "{name}" AS t ORDER BY 1')]
            for (name,) in tables
            if name not in LEDGERS and "yoyo" not in name
        }


@dataclass(frozen=True)
class Legacy(Seen):
    """The ids of what the earlier system's database holds."""

    home: uuid.UUID
    cabin: uuid.UUID
    users: dict[str, uuid.UUID]
    remotes: dict[str, uuid.UUID]


@pytest.fixture
def empty(empty_database_url: str) -> Seen:
    return Seen(empty_database_url)


@pytest.fixture
def fresh(database_url: str) -> Seen:
    return Seen(database_url)


@pytest.fixture
def bare_legacy_url(empty_database_url: str, sql_folder: Path) -> str:
    """The earlier system's tables without a row and without a ledger."""
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        for path in sorted(sql_folder.glob("00[1-4]_*.sql")):
            if not path.name.endswith(".rollback.sql"):
                connection.execute(path.read_bytes())
    return empty_database_url


@pytest.fixture
def legacy(bare_legacy_url: str) -> Legacy:
    """The earlier system's database with the odd rows that such databases hold."""
    with psycopg.connect(bare_legacy_url, autocommit=True) as connection:

        def new(query: str, *values: Any) -> uuid.UUID:
            row = connection.execute(query.encode(), values).fetchone()
            assert row is not None
            return row[0]

        home = new("INSERT INTO agents (name) VALUES ('Home') RETURNING agent_id")
        cabin = new("INSERT INTO agents (name) VALUES ('Cabin') RETURNING agent_id")
        names = (
            "ann bob cy dee eve fay gil hal ida jon kim lea".split()  # noqa: SIM905 - reads better than a list of twelve
        )
        users = {
            # ann and bob share an address
            name: new(
                "INSERT INTO users (cognito_sub, email) VALUES (%s, %s) RETURNING user_id",
                f"sub-{name}",
                "ann@example.org" if name == "bob" else f"{name}@example.org",
            )
            for name in names
        }

        def older(name: str, role: str | None, age: int, agent: uuid.UUID = home) -> None:
            connection.execute(
                "INSERT INTO memberships (user_id, agent_id, role, relationship_label, created_at)"
                " VALUES (%s, %s, %s, %s, now() - make_interval(days => %s))",
                (users[name], agent, role, f"label of {name}", age),
            )

        def newer(name: str, role: str, age: int, *, revoked: bool = False, agent: uuid.UUID = home) -> None:
            connection.execute(
                "INSERT INTO agent_memberships (user_id, agent_id, role, created_at, revoked_at)"
                " VALUES (%s, %s, %s, now() - make_interval(days => %s), CASE WHEN %s THEN now() END)",
                (users[name], agent, role, age, revoked),
            )

        older("ann", "Owner", 100)
        newer("bob", "owner", 50)
        older("cy", " ADMIN\t", 40)
        older("dee", "superuser", 40)
        older("eve", None, 40)
        older("fay", "BLOCKED ", 40)
        older("gil", "blocked", 40)
        newer("gil", "admin", 30)
        older("hal", "admin", 40)
        newer("hal", "guest", 30)
        older("ida", "owner", 90)
        newer("ida", "owner", 80, revoked=True)
        older("jon", "owner", 10)
        older("kim", "admin", 40)
        newer("kim", "blocked", 30)
        newer("lea", "member", 30)
        older("ann", "owner", 5, cabin)
        older("bob", "owner", 9, cabin)
        # A user and an agent that are gone.
        connection.execute(
            "INSERT INTO memberships (user_id, agent_id, role) VALUES (gen_random_uuid(), %s, 'owner')", (home,)
        )
        connection.execute(
            "INSERT INTO memberships (user_id, agent_id, role) VALUES (%s, gen_random_uuid(), 'owner')", (users["ann"],)
        )

        def remote(name: str | None, address: str | None, agent: uuid.UUID = home) -> uuid.UUID:
            return new(
                "INSERT INTO remotes (agent_id, name, address, connection_type, capabilities, last_seen)"
                " VALUES (%s, %s, %s, 'network', %s, now()) RETURNING remote_id",
                agent,
                name,
                address,
                None if name is None else '{"audio": true}',
            )

        remotes = {
            "porch": remote("Porch", "10.0.0.5"),
            "porch again": remote("Porch", "10.0.0.6"),
            "porch of the cabin": remote("Porch", "10.0.0.7", cabin),
            "no address": remote("Cellar", None),
            "no name": remote(None, "10.0.0.8"),
            "blank": remote("  ", ""),
        }
        space = new("INSERT INTO spaces (agent_id, name) VALUES (%s, 'Hall') RETURNING space_id", home)
        for number, (name, scopes) in enumerate(
            [("Porch", '["events:write"]'), (None, "{}"), ("Tür 1", '["events:write", 7, null]'), ("-!-", '"*"')]
        ):
            device = new(
                "INSERT INTO devices (agent_id, name, scopes, token_hash, last_seen)"
                " VALUES (%s, %s, %s, %s, now()) RETURNING device_id",
                home,
                name,
                scopes,
                f"hash {number}",
            )
            connection.execute(
                "INSERT INTO events (agent_id, space_id, device_id, type, payload)"
                " VALUES (%s, %s, %s, 'door', '{\"n\": 1}')",
                (home, space, device),
            )
        for status in ("proposed", "approved", "Executed", " failed ", "canceled", "running?!", "executing"):
            connection.execute(
                "INSERT INTO actions (agent_id, space_id, kind, status) VALUES (%s, %s, 'send_message', %s)",
                (home, space, status),
            )
        connection.execute(
            "INSERT INTO memories (agent_id, space_id, tier, content, embedding) VALUES (%s, %s, 'semantic', 'eggs',"
            " array_fill(0.5, ARRAY[1536])::vector)",
            (home, space),
        )
        connection.execute("INSERT INTO audit_state (agent_id, last_hash) VALUES (%s, 'abc')", (home,))
    return Legacy(bare_legacy_url, home, cabin, users, remotes)
