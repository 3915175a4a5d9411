"""Quarantine: the rows agree with the gate, people see why and end it, nobody else is touched."""

import json
import time
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from hub import device_views, devices, quarantines
from hub.errors import Conflict
from hub.inbox.consumer import Consumer
from hub.inbox.envelope import Incoming
from hub.inbox.gate import Gate, Limits
from hub.warden import Warden

LIMITS = Limits(per_second=10, at_once=50, garbage_per_minute=6, calm_s=60)
NOW = datetime(2026, 11, 25, 8, 0, tzinfo=UTC)
ROOT = "marvain/v1"


class Told:
    """What the devices were told."""

    is_connected = True

    def __init__(self) -> None:
        self.messages = []

    def send(self, message) -> None:
        self.messages.append((message.topic, json.loads(message.payload)))


@pytest.fixture
def gate():
    return Gate(LIMITS)


@pytest.fixture
def told():
    return Told()


@pytest.fixture
def warden(database, session, device, gate, told):
    session.commit()
    return Warden(database, gate, LIMITS, told, ROOT)


def flood(gate, count=100, now=0.0, handle="porch"):
    return sum(gate.admits(handle, "event", f"{ROOT}/d/{handle}/event/bell", 10, now) for _ in range(count))


def view(session, device):
    session.rollback()
    return device_views.view(session, device.agent_id, device.device_id)


def audited(session):
    rows = session.execute(text("SELECT action, actor FROM audit_entries ORDER BY entry_id DESC LIMIT 2"))
    return [tuple(row) for row in rows]


def test_a_flood_becomes_a_row_with_its_reason_that_counts_on(session, device, warden, gate, told):
    flood(gate)
    warden.look(0.0, NOW)
    flood(gate, 7, 1.0)
    warden.look(1.0, NOW + timedelta(seconds=1))
    seen = view(session, device).quarantine
    assert (seen["reason"], seen["set_aside"], seen["last_topic"]) == ("flood", 57, "d/porch/event/bell")
    assert "more than 10 messages a second" in seen["detail"]
    assert datetime.fromisoformat(seen["since"]) == NOW
    [(topic, denied)] = told.messages  # not once for each message, nor for each second
    assert (topic, denied["retry_after_s"], denied.get("epoch")) == ("d/porch/denied", 60.0, None)
    assert ("device.quarantined", "the hub") in audited(session)


def test_it_is_let_go_once_calm_and_that_is_audited(session, device, warden, gate):
    flood(gate)
    warden.look(0.0, NOW)
    warden.look(61.0, NOW + timedelta(seconds=61))
    assert view(session, device).quarantine is None
    assert ("device.let_go", "the hub") in audited(session)
    assert flood(gate, 5, 61.0) == 5


def test_an_admin_lets_it_go_and_the_gate_hears_of_it(database, session, device, warden, gate):
    flood(gate)
    warden.look(0.0, NOW)
    with database.transaction() as work:
        quarantines.let_go(work, devices.by_handle(work, "porch"), by="ann@example.org")
    warden.look(1.0, NOW + timedelta(seconds=1))
    assert view(session, device).quarantine is None
    assert flood(gate, 5, 1.0) == 5
    assert ("device.let_go", "ann@example.org") in audited(session)
    with database.transaction() as work, pytest.raises(Conflict, match="not in quarantine"):
        quarantines.let_go(work, devices.by_handle(work, "porch"), by="ann@example.org")


def test_the_next_hub_goes_on_with_it(database, session, device, warden, gate, told):
    flood(gate)
    warden.look(0.0, NOW)
    later = Gate(LIMITS)
    second = Warden(database, later, LIMITS, told, ROOT)
    second.look(1_000.0, NOW + timedelta(seconds=10))
    assert flood(later, 5, 1_000.0) == 0
    second.look(1_051.0, NOW + timedelta(seconds=61))
    assert view(session, device).quarantine is None


def test_counts_wait_while_postgres_is_away(database, session, device, warden, gate):
    flood(gate)
    warden.look(0.0, NOW)
    flood(gate, 5, 1.0)
    name = session.execute(text("SELECT current_database()")).scalar_one()
    session.execute(text(f'ALTER DATABASE "{name}" SET default_transaction_read_only = on'))
    session.commit()
    database.engine.dispose()
    with pytest.raises(Exception, match="read-only"):
        warden.look(1.0, NOW)
    session.execute(text("SET TRANSACTION READ WRITE"))
    session.execute(text(f'ALTER DATABASE "{name}" RESET default_transaction_read_only'))
    session.commit()
    database.engine.dispose()
    flood(gate, 5, 2.0)
    warden.look(2.0, NOW)
    assert view(session, device).quarantine["set_aside"] == 60


def test_a_handle_that_is_no_device_has_no_row(session, warden, gate):
    flood(gate, handle="nobody")
    warden.look(0.0, NOW)
    assert session.execute(text("SELECT count(*) FROM quarantines")).scalar_one() == 0


def test_garbage_and_a_flood_are_set_aside_while_others_are_stored(database, session, make_device, device):
    make_device("Gate")
    make_device("Lamp")
    session.commit()
    gate = Gate(LIMITS)
    consumer = Consumer(database, ROOT, lambda _outcome: None, gate=gate)

    def say(handle, payload, n) -> bool:
        one = Incoming(f"{ROOT}/d/{handle}/event/bell", payload, False, datetime.now(UTC), (1, n, 1))
        return consumer.put(one)

    def event(n) -> bytes:
        return json.dumps({"id": f"e{n}", "epoch": 1, "payload": {}}).encode()

    def work() -> None:
        while batch := consumer._waiting.take(500, 10**9, 0):
            assert consumer._store(batch)

    for n in range(20):
        say("porch", b"{", n)
    work()
    taken = [say("porch", event(n), n) for n in range(5)]
    assert taken == [False] * 5
    assert sum(say("gate", event(n), n) for n in range(200)) == 50
    assert all(say("lamp", event(n), n) for n in range(20))
    work()
    counts = session.execute(
        text("SELECT d.handle, count(*) FROM events JOIN devices AS d USING (device_id) GROUP BY 1 ORDER BY 1")
    )
    assert [tuple(row) for row in counts] == [("gate", 50), ("lamp", 20)]
    held, _ = gate.look(time.monotonic())
    assert {one.handle: one.reason for one in held} == {"porch": "garbage", "gate": "flood"}
