"""Outbox and delivery: bounded, ordered, repeated until the receipt."""

import sqlite3
import time
import uuid
from datetime import UTC, datetime

import msgspec
import pytest

from hub_protocol.errors import ProtocolError
from hub_protocol.messages import Event, Reply
from hub_protocol.topics import Topics
from satellite_agent.database import open_database
from satellite_agent.delivery import Delivery
from satellite_agent.outbox import Outbox, OutboxError, new_id, wire
from satellite_agent.state import StateError

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture
def db():
    connection = open_database(None, "porch")
    yield connection
    connection.close()


def add(outbox, number=0):
    return outbox.add_event("count", {"n": number}, at=NOW)


@pytest.mark.parametrize(
    ("event_type", "payload", "field"),
    [
        ("a b", {}, "event type"),
        ("", {}, "event type"),
        ("a/b", {}, "event type"),
        ("ok", {"a": "\0"}, ""),
        ("ok", {"a": "x" * 70_000}, ""),
        ("ok", {"a": object()}, "payload"),
        ("ok", {"a": "\ud800"}, "payload"),
    ],
)
def test_what_the_hub_would_refuse_is_not_taken(db, event_type, payload, field):
    outbox = Outbox(db)
    with pytest.raises(ProtocolError) as error:
        outbox.add_event(event_type, payload, at=NOW)
    assert error.value.field == field
    assert outbox.backlog == 0


def test_a_full_outbox_refuses_the_new_and_keeps_the_old(db):
    outbox = Outbox(db, max_rows=2)
    first = add(outbox)
    add(outbox)
    with pytest.raises(OutboxError, match="full"):
        add(outbox)
    outbox.add_reply("c1", Reply("succeeded", epoch=1))  # commands are still answered
    assert outbox.drop([first, "unknown"]) == [1]
    assert outbox.backlog == 2
    assert [row.id for row in outbox.after("event", 0, 9)] != [first]


def fill(outbox):
    for _ in range(100):
        outbox.add_event("big", {"a": "x" * 8000}, at=NOW)


def test_a_full_disk_refuses_the_new(db):
    outbox = Outbox(db)
    (pages,) = db.execute("PRAGMA page_count").fetchone()
    db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(OutboxError, match="cannot be written"):
        fill(outbox)
    assert outbox.backlog == len(outbox.after("event", 0, 1000))


def test_another_device_and_another_format_are_refused(tmp_path):
    path = tmp_path / "satellite.db"
    open_database(path, "porch").close()
    with pytest.raises(StateError, match="belongs to the device 'porch'"):
        open_database(path, "garage")
    path.write_bytes(b"not a database" * 1000)
    with pytest.raises(StateError, match="cannot be used"):
        open_database(path, "porch")


def test_rows_outlive_the_process_and_seqs_are_not_used_twice(tmp_path):
    path = tmp_path / "satellite.db"
    first = open_database(path, "porch")
    last = [add(Outbox(first), number) for number in range(3)][-1]
    Outbox(first).drop([last])
    first.close()
    again = open_database(path, "porch")
    outbox = Outbox(again)
    assert outbox.backlog == 2
    add(outbox)
    assert [row.seq for row in outbox.after("event", 0, 9)] == [1, 2, 4]
    again.close()


def test_a_row_goes_out_with_the_epoch_of_now(db):
    outbox = Outbox(db)
    event_id = outbox.add_event("door_open", {"angle": 12}, at=NOW, space="hall")
    outbox.add_reply("c1", Reply("failed", epoch=1, code="error"))
    topic, payload = wire(outbox.after("event", 0, 1)[0], Topics(), "porch", 7)
    assert topic == "marvain/v1/d/porch/event/door_open"
    assert msgspec.json.decode(payload, type=Event) == Event(event_id, 7, {"angle": 12}, 1, NOW, "hall")
    topic, payload = wire(outbox.after("reply", 0, 1)[0], Topics(), "porch", 7)
    assert (topic, payload) == ("marvain/v1/d/porch/reply/c1", b'{"status":"failed","epoch":7,"code":"error"}')


def test_ids_are_version_7_and_rise_with_time():
    ids = []
    for _ in range(5):
        ids.append(uuid.UUID(new_id()))
        time.sleep(0.002)
    assert {(one.version, one.variant) for one in ids} == {(7, uuid.RFC_4122)}
    assert ids == sorted(ids)


def test_new_rows_in_order_then_again_after_the_time_out_and_never_after_the_receipt(db):
    outbox = Outbox(db)
    ids = [add(outbox, number) for number in range(3)]
    delivery = Delivery(outbox)
    assert [row.id for row in delivery.take(0)] == ids
    assert delivery.take(29) == []
    delivery.answered(outbox.drop(ids[:1]))
    assert [row.id for row in delivery.take(30)] == ids[1:]
    assert delivery.again_at() == 90
    delivery.answered(outbox.drop(ids))
    assert delivery.again_at() is None
    assert delivery.take(1000) == []


def test_without_any_receipt_only_a_window_goes_out_but_replies_pass(db):
    outbox = Outbox(db)
    ids = [add(outbox, number) for number in range(10)]
    delivery = Delivery(outbox, window=4)
    assert [row.id for row in delivery.take(0)] == ids[:4]
    assert delivery.take(1) == []
    reply = outbox.add_reply("c1", Reply("succeeded", epoch=1))
    assert [row.id for row in delivery.take(2)] == [reply]
    delivery.answered(outbox.drop(ids[1:2]))
    assert [row.id for row in delivery.take(3)] == ids[4:8]


def test_one_row_that_the_hub_never_confirms_stops_no_other(db):
    outbox = Outbox(db)
    poisoned, *others = [add(outbox, number) for number in range(20)]
    delivery = Delivery(outbox, window=4)
    sent = []
    for now in range(100):
        rows = delivery.take(now)
        sent += [row.id for row in rows]
        delivery.answered(outbox.drop(row.id for row in rows if row.id != poisoned))
    assert set(sent) == {poisoned, *others}
    assert sent.count(poisoned) == 3  # at 0, 30 and 90 s
    assert len(sent) == 22


def test_rows_already_gone_are_not_sent(db):
    outbox = Outbox(db)
    ids = [add(outbox)]
    delivery = Delivery(outbox)
    delivery.take(0)
    outbox.drop(ids)  # without telling the delivery
    assert delivery.take(31) == []


def test_a_repeated_reply_takes_a_new_place(db):
    outbox = Outbox(db)
    delivery = Delivery(outbox)
    outbox.add_reply("c1", Reply("succeeded", epoch=1))
    assert len(delivery.take(0)) == 1
    outbox.add_reply("c1", Reply("succeeded", epoch=1))
    assert [row.seq for row in delivery.take(1)] == [2]
    assert outbox.backlog == 1


def test_a_broken_database_is_an_outbox_error(db):
    outbox = Outbox(db)
    db.execute("PRAGMA query_only = 1")
    with pytest.raises(OutboxError):
        add(outbox)
    db.execute("PRAGMA query_only = 0")
    assert isinstance(add(outbox), str)
    assert sqlite3.sqlite_version_info >= (3, 35)


def test_what_the_hub_refuses_is_kept_apart_and_bounded(db):
    outbox = Outbox(db)
    for number in range(3):
        assert outbox.set_aside(add(outbox, number), "no such space") == [number + 1]
    assert outbox.set_aside("unknown", "why") == []
    assert outbox.backlog == 0
    assert db.execute("SELECT seq, reason FROM refused").fetchall() == [(n, "no such space") for n in (1, 2, 3)]
