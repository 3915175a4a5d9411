"""Partitions of the telemetry tables: made before they are needed, dropped when they have had their time.

A new one is made beside its table and then attached, which locks out neither readers nor writers.
"""

from collections.abc import Collection, Iterable
from datetime import datetime, timedelta
from typing import Final

from psycopg import sql
from sqlalchemy import text
from sqlmodel import Session

from hub.telemetry.tiers import OLDEST, TIERS, Partition, Tier

AHEAD: Final = timedelta(days=3)
# Two that make the same partition take turns; any number that nothing else uses.
_LOCK: Final = 0x6D61_7274


def make_ahead(session: Session, now: datetime) -> int:
    """Make all that samples may need from now on; returns how many were missing."""
    return sum(ensure(session, tier, tier.partitions(now - OLDEST, now + AHEAD)) for tier in TIERS.values())


def ensure(session: Session, tier: Tier, wanted: Iterable[Partition]) -> int:
    """Make those of these partitions that are missing; returns how many that were."""
    by_name = {partition.name: partition for partition in wanted}
    if not _missing(session, tier, by_name):
        return 0
    session.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
    missing = _missing(session, tier, by_name)
    for name in missing:
        _make(session, tier, by_name[name])
    return len(missing)


def outdated(session: Session, tier: Tier, before: datetime) -> list[Partition]:
    """Those that hold nothing from `before` on, oldest first."""
    names = session.execute(
        text(
            "SELECT c.relname FROM pg_inherits AS i JOIN pg_class AS c ON c.oid = i.inhrelid"
            " WHERE i.inhparent = CAST(:table AS regclass) ORDER BY c.relname"
        ),
        {"table": tier.table},
    ).scalars()
    found = [partition for name in names if (partition := tier.named(name)) is not None]
    return [partition for partition in found if partition.until <= before]


def drop(session: Session, partition: Partition) -> None:
    """Drop a partition with all that it holds.

    For a moment this needs the whole table. Rather than have the inbox wait behind it, it gives up after a second with
    `sqlalchemy.exc.OperationalError`; another time will do.
    """
    session.execute(text("SET LOCAL lock_timeout = '1s'"))
    _execute(session, sql.SQL("DROP TABLE {}").format(sql.Identifier(partition.name)))


def _missing(session: Session, tier: Tier, names: Collection[str]) -> list[str]:
    # Read as rows: to_regclass would answer from what this connection remembers of the catalogue.
    known = session.execute(
        text(
            "SELECT relname FROM pg_class WHERE relname = ANY(:names)"
            " AND relnamespace = (SELECT relnamespace FROM pg_class WHERE oid = CAST(:table AS regclass))"
        ),
        {"names": list(names), "table": tier.table},
    )
    return sorted(set(names) - set(known.scalars()))


def _make(session: Session, tier: Tier, partition: Partition) -> None:
    table, name = sql.Identifier(tier.table), sql.Identifier(partition.name)
    _execute(session, sql.SQL("CREATE TABLE {} (LIKE {} INCLUDING ALL)").format(name, table))
    _execute(
        session,
        sql.SQL("ALTER TABLE {} ATTACH PARTITION {} FOR VALUES FROM ({}) TO ({})").format(
            table, name, sql.Literal(partition.since.isoformat()), sql.Literal(partition.until.isoformat())
        ),
    )


def _execute(session: Session, statement: sql.Composed) -> None:
    # Names and bounds are our own; as definitions take no parameters, they stand in the text.
    session.connection().exec_driver_sql(statement.as_string())
