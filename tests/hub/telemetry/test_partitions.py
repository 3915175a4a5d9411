"""Partitions: made before midnight, made late when they must be, dropped with age, and in nobody's way."""

import threading
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from hub import devices
from hub.tables import Agent
from hub.telemetry import partitions, samples, series, streams, upkeep
from hub.telemetry.samples import NewSamples
from hub.telemetry.tiers import HOURS, MINUTES, RAW, TIERS

MIDNIGHT = datetime(2026, 3, 5, tzinfo=UTC)
KEPT = {tier.name: tier.kept for tier in TIERS.values()}


def names(session, tier):
    return [partition.name for partition in partitions.outdated(session, tier, datetime(2200, 1, 1, tzinfo=UTC))]


def test_a_partition_holds_its_span_and_not_the_moment_of_its_end():
    day = RAW.partition(MIDNIGHT)
    assert (day.name, day.since, day.until) == ("telemetry_samples_20260305", MIDNIGHT, MIDNIGHT + timedelta(days=1))
    assert RAW.partition(MIDNIGHT - timedelta(microseconds=1)).name == "telemetry_samples_20260304"
    assert MINUTES.partition(MIDNIGHT).since.weekday() == 0
    covering = RAW.partitions(MIDNIGHT - timedelta(days=1), MIDNIGHT)
    assert [one.name[-4:] for one in covering] == ["0304", "0305"]
    for tier in TIERS.values():
        assert tier.named(tier.partition(MIDNIGHT).name) == tier.partition(MIDNIGHT)
        assert tier.named("telemetry_other") is None


def test_all_that_samples_may_need_is_made_ahead_once(session):
    assert partitions.make_ahead(session, MIDNIGHT) > 0
    assert partitions.make_ahead(session, MIDNIGHT) == 0
    assert partitions.make_ahead(session, MIDNIGHT + timedelta(days=1)) == 2  # a day, and the week that begins with it
    assert names(session, RAW)[0] == "telemetry_samples_20260226"


def test_samples_across_midnight_go_to_their_days_though_no_job_has_run(session, fill):
    stream = fill((MIDNIGHT - timedelta(microseconds=1), 1.0), (MIDNIGHT, 2.0))
    assert names(session, RAW) == ["telemetry_samples_20260304", "telemetry_samples_20260305"]
    found = series.series(
        session, stream, MIDNIGHT - timedelta(minutes=1), MIDNIGHT + timedelta(minutes=1), 100, MIDNIGHT
    )
    assert (sum(point.count for point in found.points), found.points[-1].last) == (2, 2.0)


def test_a_week_and_more_passes(session, database, make_device):
    """Every hour samples come, every hour the job runs: what is kept stays bounded, and nothing kept is wrong."""
    with database.transaction() as committing:
        agent = Agent(name="Home")
        committing.add(agent)
        committing.flush()
        device = devices.add(committing, agent.agent_id, "Shed", scopes=["*"], by="a test").device
    stop = threading.Event()
    most = 0
    for hour in range(24 * 12):
        now = MIDNIGHT + timedelta(hours=hour)
        with database.transaction() as committing:
            pairs = [(now + timedelta(minutes=minute), float(hour)) for minute in range(0, 60, 20)]
            assert not samples.append(committing, [NewSamples(device.device_id, device.agent_id, "t", pairs)])
        if hour % 4 == 3:
            upkeep.condense(database, now, stop)
            upkeep.tidy(database, now, KEPT, stop)
            most = max(most, len(names(session, RAW)))
    end = MIDNIGHT + timedelta(days=12)
    assert most <= 7 + 3 + 2  # kept, ahead, and those that have begun
    assert names(session, RAW)[0] == "telemetry_samples_20260309"
    stream = streams.find(session, device.agent_id, device.device_id, "t")
    by_hour = session.execute(
        text("SELECT at, count, last FROM telemetry_hours WHERE stream_id = :id ORDER BY at"), {"id": stream.stream_id}
    ).all()
    assert by_hour == [(MIDNIGHT + timedelta(hours=hour), 3, float(hour)) for hour in range(24 * 12)]
    whole = series.series(session, stream, MIDNIGHT, end, 1000, end)
    assert sum(point.count for point in whole.points) == 3 * 24 * 12


def test_minutes_and_hours_are_dropped_when_they_have_had_their_time(session, database):
    with database.transaction() as committing:
        partitions.make_ahead(committing, MIDNIGHT)
    stop = threading.Event()
    upkeep.tidy(database, MIDNIGHT + timedelta(days=89), KEPT, stop)
    assert (names(session, RAW), len(names(session, MINUTES)) > 0) == ([], True)
    session.rollback()
    upkeep.tidy(database, MIDNIGHT + timedelta(days=105), KEPT, stop)
    assert (names(session, MINUTES), len(names(session, HOURS))) == ([], 1)
    session.rollback()
    upkeep.tidy(database, MIDNIGHT + timedelta(days=6 * 366), KEPT, stop)
    assert names(session, HOURS) == []


def test_making_one_locks_out_neither_readers_nor_writers(database, fill, session):
    fill((MIDNIGHT, 1.0))
    session.commit()
    with database.transaction() as making:
        partitions.make_ahead(making, MIDNIGHT + timedelta(days=100))
        # The other one has not committed yet.
        with database.transaction() as other:
            other.execute(text("SET LOCAL lock_timeout = '2s'"))
            other.execute(text("INSERT INTO telemetry_samples VALUES (77, :at, 1)"), {"at": MIDNIGHT})
            assert other.execute(text("SELECT count(*) FROM telemetry_samples")).scalar_one() == 2


def test_two_that_make_the_same_partition_take_turns(database):
    barrier, errors = threading.Barrier(4), []

    def make() -> None:
        barrier.wait(10)
        try:
            with database.transaction() as session:
                partitions.make_ahead(session, MIDNIGHT)
        except Exception as error:  # noqa: BLE001
            errors.append(error)

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert errors == []


def test_dropping_one_gives_way_to_who_works_with_the_table(database, session):
    with database.transaction() as making:
        partitions.make_ahead(making, MIDNIGHT)
    session.execute(text("SELECT count(*) FROM telemetry_samples"))  # and its transaction stays open
    with pytest.raises(OperationalError), database.transaction() as dropping:
        partitions.drop(dropping, RAW.partition(MIDNIGHT))
    session.rollback()
    with database.transaction() as dropping:
        partitions.drop(dropping, RAW.partition(MIDNIGHT))
    assert RAW.partition(MIDNIGHT).name not in names(session, RAW)
