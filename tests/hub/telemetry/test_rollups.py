"""Down-sampling: exact, repeatable, and never too late for a late sample."""

import threading
import uuid
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlmodel import Session

from hub import devices
from hub.tables import Agent
from hub.telemetry import rollups, samples, streams
from hub.telemetry.samples import NewSamples
from hub.telemetry.tiers import ORIGIN

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
COLUMNS = "at, min, max, sum, count, last"


def minutes(session, stream):
    return session.execute(
        text(f"SELECT {COLUMNS} FROM telemetry_minutes WHERE stream_id = :id ORDER BY at"), {"id": stream.stream_id}
    ).all()


def hours(session, stream):
    return session.execute(
        text(f"SELECT {COLUMNS} FROM telemetry_hours WHERE stream_id = :id ORDER BY at"), {"id": stream.stream_id}
    ).all()


def test_an_hour_becomes_its_minutes_and_itself(session, fill, condense):
    stream = fill((NOON, 1.0), (NOON + timedelta(seconds=59.999999), 3.0), (NOON + timedelta(minutes=59), -2.0))
    assert condense() == 1
    assert minutes(session, stream) == [
        (NOON, 1.0, 3.0, 4.0, 2, 3.0),
        (NOON + timedelta(minutes=59), -2.0, -2.0, -2.0, 1, -2.0),
    ]
    assert hours(session, stream) == [(NOON, -2.0, 3.0, 2.0, 3, -2.0)]


def test_a_repetition_changes_nothing_and_has_nothing_to_do(session, fill, condense):
    stream = fill((NOON, 1.0), (NOON, 9.0))
    condense()
    before = minutes(session, stream), hours(session, stream)
    assert condense() == 0
    fill((NOON, 5.0))  # sent again
    assert condense() == 1
    assert (minutes(session, stream), hours(session, stream)) == before


def test_a_late_sample_is_counted_in_its_own_minute_and_hour(session, fill, condense):
    stream = fill((NOON, 1.0), (NOON + timedelta(hours=30), 7.0))
    condense()
    fill((NOON + timedelta(seconds=1), 5.0))
    assert condense() == 1
    assert minutes(session, stream)[0] == (NOON, 1.0, 5.0, 6.0, 2, 5.0)
    assert hours(session, stream) == [
        (NOON, 1.0, 5.0, 6.0, 2, 5.0),
        (NOON + timedelta(hours=30), 7.0, 7.0, 7.0, 1, 7.0),
    ]
    assert streams.find(session, stream_agent(session), stream.device_id, "temperature").last_value == 7.0


def stream_agent(session: Session) -> uuid.UUID:
    return session.execute(text("SELECT agent_id FROM agents")).scalar_one()


def test_what_has_no_samples_any_more_keeps_its_minutes(session, fill, condense):
    stream = fill((NOON, 1.0))
    condense()
    session.execute(text("DELETE FROM telemetry_samples"))
    session.execute(text("INSERT INTO telemetry_stale VALUES (:id, :hour)"), {"id": stream.stream_id, "hour": NOON})
    assert condense() == 1
    assert len(minutes(session, stream)) == len(hours(session, stream)) == 1


@pytest.mark.parametrize("value", [1e300, -1e300, 5e-324, 0.0])
def test_no_value_that_the_wire_takes_makes_it_fail(session, fill, condense, value):
    stream = fill(*((NOON + timedelta(seconds=second), value) for second in range(3000)))
    condense()
    [hour] = hours(session, stream)
    assert (hour.min, hour.max, hour.count) == (value, value, 3000)


# Whole numbers and halves, whose sums are exact in any order.
halves = st.integers(-(10**6), 10**6).map(lambda number: number / 2)
moments = st.integers(0, 3 * 86_400 * 1_000_000 - 1).map(lambda after: NOON + timedelta(microseconds=after))


@pytest.fixture
def one_stream(database):
    with database.transaction() as session:
        agent = Agent(name="Home")
        session.add(agent)
        session.flush()
        return devices.add(session, agent.agent_id, "Porch", scopes=["*"], by="a test").device


# What an example does is rolled back, and its stream is its own.
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.dictionaries(moments, halves, min_size=1, max_size=40), min_size=1, max_size=4))
def test_aggregates_of_aggregates_are_those_of_the_samples(database, one_stream, batches):
    name = f"s{uuid.uuid4().hex}"
    pairs: dict[datetime, float] = {}
    with Session(database.engine) as session:
        for batch in batches:
            samples.append(session, [NewSamples(one_stream.device_id, one_stream.agent_id, name, list(batch.items()))])
            pairs = batch | pairs  # the first of a time stays
            while rollups.downsample(session, limit=3):
                pass
        stream = streams.find(session, one_stream.agent_id, one_stream.device_id, name)
        for found, length in (
            (minutes(session, stream), timedelta(minutes=1)),
            (hours(session, stream), timedelta(hours=1)),
        ):
            wanted: dict[datetime, list[float]] = {}
            for at in sorted(pairs):
                wanted.setdefault(ORIGIN + (at - ORIGIN) // length * length, []).append(pairs[at])
            assert found == [(at, min(of), max(of), sum(of), len(of), of[-1]) for at, of in wanted.items()]
        session.rollback()


def test_samples_of_a_transaction_still_open_are_not_overlooked(database, one_stream):
    """The inbox adds to an hour that is being condensed: whoever is first, the hour ends up whole."""
    stop = threading.Event()

    def condense_all_the_time() -> None:
        while not stop.is_set():
            with database.transaction() as session:
                rollups.downsample(session)

    condenser = threading.Thread(target=condense_all_the_time)
    condenser.start()
    try:
        for number in range(60):
            with database.transaction() as session:
                at = NOON + timedelta(seconds=number)
                samples.append(
                    session, [NewSamples(one_stream.device_id, one_stream.agent_id, "busy", [(at, float(number))])]
                )
    finally:
        stop.set()
        condenser.join(30)
    with database.transaction() as session:
        rollups.downsample(session)
        stream = streams.find(session, one_stream.agent_id, one_stream.device_id, "busy")
        assert [row.count for row in hours(session, stream)] == [60]
        assert session.execute(text("SELECT count(*) FROM telemetry_stale")).scalar_one() == 0
