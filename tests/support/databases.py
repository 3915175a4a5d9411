"""Databases of the tests: dropped, even while the server itself still looks after them."""

import time
from typing import Final

import psycopg
from psycopg import sql

_PATIENCE_S: Final = 20.0


def drop(url: str, name: str) -> None:
    """Drop a database and end all connections to it."""
    deadline = time.monotonic() + _PATIENCE_S
    with psycopg.connect(url, autocommit=True) as connection:
        while True:
            try:
                connection.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
            except psycopg.errors.InsufficientPrivilege:
                # A superuser's connection is just closing, or autovacuum is at work there: neither may be ended by us.
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
            else:
                return
