"""Samples stored per second, and how long a series takes to read: ours beside one plain table, in the same Postgres.

    python bench/telemetry.py [--seconds 5]

Stored means committed to disk. "One message each" and "50 a message" go the whole way of the inbox from the payload on;
the peers are what one writes first: a row for each INSERT, into one table without partitions, committed each or 500 at
a time. The series are of one stream that is measured every 15 s, among several, over the last 90 days, and with all
its values of the last hour.
"""

import argparse
import itertools
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import msgspec
import psycopg
import report
from scratch import scratch
from sqlalchemy import text

from hub import devices, identity
from hub.database import Database, libpq_url
from hub.inbox import router
from hub.inbox.consumer import BATCH
from hub.inbox.envelope import Incoming
from hub.telemetry import partitions, rollups, series, streams
from hub.telemetry.tiers import HOURS, MINUTES, ORIGIN
from hub_protocol.messages import Sample

ROOT = "marvain/v1"
DEVICES = 50
EVERY = timedelta(seconds=15)
DAYS = 90
STREAMS = 4
ROUNDS = 30


def batches(handles: list[str], each: int, started: datetime) -> Iterator[list[Incoming]]:
    """Messages of `each` samples, of all devices in turn, as the hub takes them from the broker."""
    number = 0
    while True:
        batch = []
        for handle in itertools.islice(itertools.cycle(handles), BATCH if each == 1 else BATCH // 10):
            number += 1
            # Times rise and never repeat; fifty devices measure at once.
            at = started + timedelta(milliseconds=number * each)
            found = [Sample(at + timedelta(milliseconds=index), 20 + index % 7 / 10) for index in range(each)]
            payload = msgspec.json.encode(found[0] if each == 1 else found)
            batch.append(Incoming(f"{ROOT}/d/{handle}/telemetry/temperature", payload, False, datetime.now(UTC)))
        yield batch


def stored_by_us(database: Database, made: Iterator[list[Incoming]], each: int, seconds: float) -> float:
    """Samples per second through the inbox."""
    count, spent = 0, 0.0
    while spent < seconds:
        batch = next(made)
        began = time.perf_counter()
        with database.transaction() as session:
            outcome = router.process(session, batch, ROOT)
        spent += time.perf_counter() - began
        assert not outcome.refusals
        count += len(batch) * each
    return count / spent


def stored_plainly(url: str, at_once: int, seconds: float) -> float:
    """Samples per second, one INSERT for each row."""
    count, at = 0, datetime.now(UTC)
    with psycopg.connect(libpq_url(url)) as connection:
        began = time.perf_counter()
        while (spent := time.perf_counter() - began) < seconds:
            for _ in range(at_once):
                at += timedelta(milliseconds=1)
                connection.execute("INSERT INTO plain VALUES (%s, %s, %s)", (count % DEVICES, at, 20.5))
                count += 1
            connection.commit()
    return count / spent


def fill(database: Database, ids: list[int], now: datetime) -> None:
    """Ninety days of samples into the plain table; minutes and hours of the same into ours."""
    since = now - timedelta(days=DAYS)
    with database.transaction() as session:
        partitions.make_ahead(session, now)
        given = {"ids": ids, "since": since, "until": now, "every": EVERY, "origin": ORIGIN}
        session.execute(
            text(
                "INSERT INTO plain SELECT id, at, 20 + 5 * sin(extract(epoch FROM at) / 7000) FROM"
                " generate_series(CAST(:since AS timestamptz), :until, :every) AS at, unnest(CAST(:ids AS int[])) AS id"
            ),
            given,
        )
        for tier in (MINUTES, HOURS):
            partitions.ensure(session, tier, tier.partitions(since, now))
            session.execute(
                text(
                    f"INSERT INTO {tier.table} SELECT id, date_bin(:bucket, at, :origin), min(value), max(value),"
                    " sum(value), count(*), (array_agg(value ORDER BY at DESC))[1] FROM plain WHERE id = ANY(:ids)"
                    " GROUP BY 1, 2 ON CONFLICT DO NOTHING"
                ),
                given | {"bucket": tier.bucket},
            )
        session.execute(
            text(
                "INSERT INTO telemetry_samples SELECT * FROM plain WHERE id = ANY(:ids) AND at >= :recent"
                " ON CONFLICT DO NOTHING"
            ),
            {"ids": ids, "recent": now - timedelta(days=7)},
        )
    with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("VACUUM ANALYZE")


def milliseconds(read: Callable[[], object]) -> float:
    """The median of many goes, after a few to warm up."""
    times = []
    for number in range(ROUNDS + 3):
        began = time.perf_counter()
        read()
        if number >= 3:
            times.append(1e3 * (time.perf_counter() - began))
    return statistics.median(times)


def plain_series(database: Database, stream_id: int, since: datetime, until: datetime) -> int:
    """The same thousand points from the plain table."""
    with database.transaction() as session:
        rows = session.execute(
            text(
                "SELECT date_bin(CAST(:bucket AS interval), at, :origin), min(value), max(value), sum(value), count(*)"
                " FROM plain WHERE id = :id AND at >= :since AND at < :until GROUP BY 1 ORDER BY 1"
            ),
            {"bucket": (until - since) / 999, "origin": ORIGIN, "id": stream_id, "since": since, "until": until},
        ).all()
    return len(rows)


def compare(database: Database, seconds: float) -> list[dict[str, object]]:
    """All rows of the table."""
    with database.transaction() as session:
        agent = identity.ensure_first_agent(session)
        session.flush()
        added = [devices.add(session, agent.agent_id, f"Device {n}", scopes=["*"], by="bench") for n in range(DEVICES)]
        handles = [one.device.handle for one in added]
        session.execute(text("CREATE TABLE plain (id int NOT NULL, at timestamptz NOT NULL, value float8 NOT NULL)"))
        session.execute(text("CREATE INDEX ON plain (id, at)"))
    now = datetime.now(UTC)
    ours = {
        "inbox, one message each": stored_by_us(database, batches(handles, 1, now - timedelta(days=2)), 1, seconds),
        "inbox, 50 a message": stored_by_us(database, batches(handles, 50, now - timedelta(days=1)), 50, seconds),
    }
    began = time.perf_counter()
    condensed = 0
    while True:
        with database.transaction() as session:
            done = rollups.downsample(session)
        condensed += done
        if done < rollups.AT_ONCE:
            break
    spent = time.perf_counter() - began
    peers = {
        "plain, 500 rows a commit": stored_plainly(database.url, 500, seconds),
        "plain, a commit each": stored_plainly(database.url, 1, seconds),
    }
    rows: list[dict[str, object]] = [
        {"what": f"store: {name}", "figure": round(rate), "unit": "samples/s"} for name, rate in (ours | peers).items()
    ]
    rows.append({"what": "down-sample", "figure": round(condensed / spent), "unit": "hours of streams/s"})
    with database.transaction() as session:
        found = session.execute(
            text("SELECT stream_id FROM telemetry_streams ORDER BY stream_id LIMIT :n"), {"n": STREAMS}
        )
        ids = list(found.scalars())
        session.execute(text("TRUNCATE plain, telemetry_samples, telemetry_minutes, telemetry_hours"))
    fill(database, ids, now)
    with database.transaction() as session:
        view = next(
            one
            for device in added
            for one in streams.of_device(session, agent.agent_id, device.device.device_id)
            if one.stream_id == ids[0]
        )
    for name, span in (
        ("90 days", timedelta(days=DAYS)),
        ("7 days", timedelta(days=7)),
        ("1 hour", timedelta(hours=1)),
    ):

        def read(span: timedelta = span) -> int:
            with database.transaction() as session:
                return len(series.series(session, view, now - span, now, series.POINTS_MAX, now).points)

        def read_plainly(span: timedelta = span) -> int:
            return plain_series(database, ids[0], now - span, now)

        rows.append({"what": f"series: {name}, ours ({read()} points)", "figure": milliseconds(read), "unit": "ms"})
        rows.append(
            {
                "what": f"series: {name}, plain ({read_plainly()} points)",
                "figure": milliseconds(read_plainly),
                "unit": "ms",
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=5.0)
    options = parser.parse_args()
    with scratch() as (_, _, database):
        rows = compare(database, options.seconds)
    report.write("telemetry", "Telemetry: stored and read, beside one plain table", rows)


if __name__ == "__main__":
    main()
