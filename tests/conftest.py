"""Shared fixtures: a real Postgres for the run, and a database of its own for each test."""

import os
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import audited
import databases
import psycopg
import pytest
from hypothesis import HealthCheck, settings
from psycopg import sql
from sqlalchemy import make_url
from sqlmodel import Session

from hub import migrations
from hub.database import Database, libpq_url
from marvain.embedded_postgres import EmbeddedPostgres

MakeDatabase = Callable[..., str]

# How long examples take to make depends on what else the machine does.
settings.register_profile("marvain", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("marvain")


@pytest.fixture(scope="session")
def net() -> Iterator[audited.Net]:
    """Watches what the product writes in this process."""
    net = audited.Net()
    net.open()
    yield net
    net.close()


@pytest.fixture(autouse=True)
def _audited(net: audited.Net) -> Iterator[None]:
    """Whatever is changed leaves an entry in the audit."""
    net.holes.clear()
    yield
    assert not net.holes, "changed without an entry in the audit:\n" + "\n".join(net.holes)


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """A server: the URL of a role that may make databases, and the superuser's where we know it."""
    given = os.environ.get("MARVAIN_TEST_DATABASE_URL")
    if given:
        yield libpq_url(given), libpq_url(given)
        return
    with databases.server_folder(tmp_path_factory.mktemp("postgres")) as folder:
        server = EmbeddedPostgres(folder, durable=False)
        try:
            yield libpq_url(server.start()), server.superuser_url
        finally:
            server.destroy()


@pytest.fixture(scope="session")
def postgres_url(postgres: tuple[str, str]) -> str:
    """A server on which databases may be made: MARVAIN_TEST_DATABASE_URL, or an embedded one for this run."""
    return postgres[0]


def _named(url: str, database: str) -> str:
    return make_url(url).set(database=database).render_as_string(hide_password=False)


@pytest.fixture(scope="session")
def migrated_template(postgres_url: str) -> Iterator[str]:
    """The name of a database that has all migrations and that nobody connects to: tests get copies of it."""
    name = f"template_{uuid.uuid4().hex}"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    try:
        migrations.migrate(_named(postgres_url, name))
        yield name
    finally:
        databases.drop(postgres_url, name)


@pytest.fixture(scope="session")
def migrated_url(postgres_url: str, migrated_template: str) -> str:
    """The template itself: for a short look, closed at once; an open connection would stop it from being copied."""
    return _named(postgres_url, migrated_template)


@pytest.fixture
def make_database(postgres_url: str) -> Iterator[MakeDatabase]:
    """Makes databases that end with the test: empty ones, or copies of the `template` named; returns the URL."""
    made: list[str] = []

    def make(template: str = "template1") -> str:
        name = f"test_{uuid.uuid4().hex}"
        with psycopg.connect(postgres_url, autocommit=True) as connection:
            connection.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(template))
            )
        made.append(name)
        return _named(postgres_url, name)

    yield make
    for name in made:
        databases.drop(postgres_url, name)


@pytest.fixture
def empty_database_url(make_database: MakeDatabase) -> str:
    """A database without a single table."""
    return make_database()


@pytest.fixture
def database_url(make_database: MakeDatabase, migrated_template: str) -> str:
    """A database of this test alone, with the newest schema and no rows."""
    return make_database(migrated_template)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """`database_url` opened."""
    database = Database(database_url, application_name="marvain tests")
    yield database
    database.close()


@pytest.fixture
def session(database: Database) -> Iterator[Session]:
    """A session that is never committed; for a commit use `database.transaction()`."""
    with Session(database.engine, expire_on_commit=False) as session:
        yield session


@pytest.fixture(scope="session")
def sql_folder() -> Path:
    """The repository's migrations."""
    return migrations.default_folder()
