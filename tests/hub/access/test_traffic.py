"""Traffic: bounded whatever is published, counted per hour, forgotten after a day."""

from datetime import UTC, datetime, timedelta

from sqlalchemy import text

from hub.access import traffic
from hub.inbox.consumer import Consumer
from hub.inbox.envelope import Incoming
from hub.inbox.tally import Tally

NOON = datetime(2026, 11, 22, 12, 0, 30, tzinfo=UTC)


def rows(session):
    return session.execute(text("SELECT count(*) FROM traffic")).scalar_one()


def test_ever_new_topics_of_one_principal_are_counted_as_one(session):
    for start in (0, 150, 300):
        traffic.record(session, {("porch", f"t/{n}"): 2 for n in range(start, start + 150)}, NOON)
    traffic.record(session, {("bell", "t"): 1, ("porch", "t/0"): 5, ("porch", "t/449"): 1}, NOON)
    day = traffic.of_day(session, ["porch", "bell"], NOON)
    assert len(day) == traffic.MOST_TOPICS + 2
    assert sum(count for (name, _), (count, _) in day.items() if name == "porch") == 906
    assert day["porch", ""] == (501, NOON)
    assert day["porch", "t/0"] == (7, NOON)
    assert day["bell", "t"] == (1, NOON)
    traffic.record(session, {("porch", f"t/{n}"): 1 for n in range(400, 800)}, NOON + timedelta(hours=1))
    assert rows(session) == 2 * (traffic.MOST_TOPICS + 1) + 1


def test_topics_that_cannot_be_stored_are_counted_without_their_names(session):
    odd = {("porch", "x" * 2_000): 1, ("porch", "a\0b"): 2, ("porch", "a\ud800"): 4, ("\0", "t"): 8, ("", "t"): 16}
    traffic.record(session, odd | {("porch", "t"): 0}, NOON)
    assert traffic.of_day(session, ["porch", ""], NOON) == {("porch", ""): (7, NOON)}


def test_nothing_counted_writes_nothing(session):
    traffic.record(session, {}, NOON)
    assert rows(session) == 0
    assert traffic.of_day(session, [], NOON) == {}


def test_a_day_is_twenty_four_hours_and_of_those_asked_for(session):
    for hours in (0, 1, 23, 24, 30):
        traffic.record(session, {("porch", "t"): 1, ("bell", "t"): 1}, NOON - timedelta(hours=hours))
    assert traffic.of_day(session, ["porch"], NOON) == {("porch", "t"): (3, NOON)}


def test_it_is_forgotten(session):
    for hours in (0, 30):
        traffic.record(session, {("porch", "t"): 1}, NOON - timedelta(hours=hours))
    assert traffic.forget(session, NOON - timedelta(hours=26)) == 1
    assert rows(session) == 1


class Acknowledged:
    """Stops the consumer once a batch is acknowledged."""

    def __init__(self, consumer):
        self.consumer = consumer
        self.deliveries = []

    def acknowledge(self, deliveries):
        self.deliveries += deliveries
        self.consumer.stop()


def test_the_hub_counts_what_it_stores_where_the_broker_does_not(database, session, device, monkeypatch):
    session.commit()
    monkeypatch.setattr("hub.inbox.tally.WRITE_EVERY_S", 0.0)
    consumer = Consumer(database, "marvain/v1", [].append, Tally(database, "marvain/v1"))
    for retained in (False, False, True):
        topic = "marvain/v1/d/porch/heartbeat"
        consumer.put(Incoming(topic, b'{"epoch": 1}', retained, datetime.now(UTC), (0, 1, 1)))
    consumer.put(Incoming("marvain/v1/odd", b"", False, datetime.now(UTC)))
    consumer.run(Acknowledged(consumer))
    counted = traffic.of_day(session, ["porch", ""], datetime.now(UTC))
    assert {key: count for key, (count, _) in counted.items()} == {("porch", "marvain/v1/d/porch/heartbeat"): 2}


def test_counts_wait_while_the_database_is_away_and_are_bounded(database, session, monkeypatch):
    tally = Tally(database, "marvain/v1")
    monkeypatch.setattr("hub.inbox.tally.WAITING_MAX", 2)
    for handle in ("porch", "bell", "lamp", "porch"):
        tally.count([Incoming(f"marvain/v1/d/{handle}/state", b"", False, NOON)])
    with database.transaction() as work:
        work.execute(text("ALTER TABLE traffic RENAME TO away"))
    tally.write()
    with database.transaction() as work:
        work.execute(text("ALTER TABLE away RENAME TO traffic"))
    tally.write()
    tally.write()
    counted = traffic.of_day(session, ["porch", "bell", "lamp"], datetime.now(UTC))
    assert sorted((name, count) for (name, _), (count, _) in counted.items()) == [("bell", 1), ("porch", 2)]
