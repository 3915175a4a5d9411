"""Samples on their way in: each stored once, whatever is sent again; what cannot be is refused with its reason."""

import uuid
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from hub import device_views, devices
from hub.errors import NotFound
from hub.tables import Agent
from hub.telemetry import samples, streams
from hub.telemetry.samples import STREAMS_MAX, NewSamples

NOW = datetime(2026, 3, 4, 12, 0, 30, tzinfo=UTC)
TOPIC = "porch/telemetry/temperature"


def sample(value=21.5, **ago):
    return {"at": (NOW - timedelta(**ago)).isoformat(), "value": value}


def stored(session):
    return session.execute(text("SELECT at, value FROM telemetry_samples ORDER BY stream_id, at")).all()


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", "is empty"),
        (b"warm", "not valid JSON"),
        (b"NaN", "not valid JSON"),
        (b"1e999", "out of range"),
        (b"true", "expected `float | object | array`, got `bool`"),
        (b'"21.5"', "got `str`"),
        (b"[]", "length >= 1"),
        (b"[21.5]", "field `[0]`: expected `object`"),
        (b"[" * 50_000, "field `[0]`: expected `object`"),
        (b" " * 65_537, "at most 65536 bytes"),
        ({"value": 1}, "field `at`: is required"),
        ({"at": "2026-03-04T12:00:00Z"}, "field `value`: is required"),
        (sample(value=True), "field `value`: expected `float`, got `bool`"),
        (sample(value=None), "field `value`"),
        ({"at": "2026-03-04T12:00:00", "value": 1}, "field `at`"),
        (sample(days=7, seconds=1), "field `at`: 2026-02-25T12:00:29+00:00 is more than 7 days ago"),
        (sample(days=-1, seconds=-1), "field `at`: 2026-03-05T12:00:31+00:00 is more than a day ahead"),
        ({"at": "9999-12-31T23:59:59Z", "value": 1}, "more than a day ahead"),
        ({"at": "0001-01-01T00:00:00Z", "value": 1}, "more than 7 days ago"),
        ([sample(), sample(days=30)], "field `[1].at`"),
        ([sample(seconds=number) for number in range(501)], "length <= 500"),
    ],
)
def test_a_bad_message_is_refused_whole_and_the_next_is_stored(session, device, say, payload, reason):
    encoded = payload
    outcome = say((TOPIC, encoded) if isinstance(payload, bytes) else (TOPIC, payload), (TOPIC, b"7"), at=NOW)
    [denied] = outcome.denied.values()
    assert reason in denied.reason
    assert stored(session) == [(NOW, 7.0)]
    assert outcome.receipts == {}


@pytest.mark.parametrize(
    "topic", ["telemetry", "telemetry/a/b", "telemetry/", "telemetry/a b", "telemetry/" + "x" * 64]
)
def test_what_is_no_stream_is_ignored(session, device, say, topic):
    say((f"porch/{topic}", b"7"))
    assert stored(session) == []


def test_a_number_is_measured_when_it_comes(session, device, say):
    outcome = say((TOPIC, b"21.5"), at=NOW)
    assert stored(session) == [(NOW, 21.5)]
    [new] = outcome.samples
    assert (new.device_id, new.stream) == (device.device_id, "temperature")


def test_a_list_is_stored_with_its_own_times(session, device, say):
    say((TOPIC, [sample(1, seconds=2), sample(2, seconds=1)]), at=NOW)
    assert stored(session) == [(NOW - timedelta(seconds=2), 1.0), (NOW - timedelta(seconds=1), 2.0)]


def test_what_is_sent_again_is_stored_once_and_the_first_of_a_time_stays(session, device, say):
    again = [sample(1, seconds=2), sample(2, seconds=1)]
    say((TOPIC, again), (TOPIC, again), at=NOW)
    say((TOPIC, again), at=NOW + timedelta(seconds=5))
    say((TOPIC, sample(99, seconds=1)), (TOPIC, sample(100, seconds=1)), at=NOW)
    assert [value for _, value in stored(session)] == [1.0, 2.0]


def test_the_same_stream_of_two_devices_is_two_streams(session, device, make_device, say):
    gate = make_device("Gate")
    say((TOPIC, b"1"), ("gate/telemetry/temperature", b"2"), at=NOW)
    [of_porch] = streams.of_device(session, device.agent_id, device.device_id)
    [of_gate] = streams.of_device(session, gate.agent_id, gate.device_id)
    assert (of_porch.last_value, of_gate.last_value) == (1.0, 2.0)


def test_the_newest_value_is_that_of_the_newest_time(session, device, say):
    say((TOPIC, sample(5, minutes=1)), at=NOW)
    say((TOPIC, sample(4, minutes=9)), at=NOW)
    [stream] = streams.of_device(session, device.agent_id, device.device_id)
    assert (stream.last_at, stream.last_value) == (NOW - timedelta(minutes=1), 5.0)


def test_a_device_has_so_many_streams_and_no_more_until_it_forgets_one(session, device, say):
    say(*((f"porch/telemetry/s{number}", b"1") for number in range(STREAMS_MAX - 1)), at=NOW)
    outcome = say(*((f"porch/telemetry/more{number}", b"1") for number in range(3)), ("porch/telemetry/s1", b"2"))
    assert [denied.reason for denied in outcome.denied.values()] == [samples.TOO_MANY] * 2
    assert len(streams.of_device(session, device.agent_id, device.device_id)) == STREAMS_MAX
    assert len(outcome.samples) == 2
    streams.forget(session, device.agent_id, device.device_id, "s1", by="ann")
    assert say(("porch/telemetry/more1", b"1")).denied == {}


def test_a_revoked_or_unknown_device_stores_nothing(session, device, say):
    devices.revoke(session, device, by="ann")
    say((TOPIC, b"1"), ("nobody/telemetry/temperature", b"1"))
    assert stored(session) == []


def test_what_the_broker_retained_counts_only_if_it_says_when(session, device, say):
    say((TOPIC, b"1", {"retained": True}), (TOPIC, sample(2, minutes=3), {"retained": True}), at=NOW)
    assert stored(session) == [(NOW - timedelta(minutes=3), 2.0)]


def presence(session, device):
    view = device_views.view(session, device.agent_id, device.device_id)
    return view.presence, view.last_heard_at


def test_samples_prolong_online(session, device, say):
    say(("porch/state", {"state": "online", "epoch": 3}), at=NOW)
    outcome = say((TOPIC, b"1"), at=NOW + timedelta(seconds=9))
    assert presence(session, device) == ("online", NOW + timedelta(seconds=9))
    assert len(outcome.heard) == 1


@pytest.mark.parametrize("state", ["lost", "bye", "sleeping"])
def test_samples_bring_nobody_back(session, device, say, state):
    """They carry no epoch: one that comes late cannot be told from one of a new connection."""
    say(("porch/state", {"state": "online", "epoch": 3}), ("porch/state", {"state": state, "epoch": 3}), at=NOW)
    before = device_views.view(session, device.agent_id, device.device_id)
    outcome = say((TOPIC, b"1"), at=NOW + timedelta(seconds=9))
    assert device_views.view(session, device.agent_id, device.device_id) == before
    assert outcome.heard == []
    assert len(stored(session)) == 1


def test_a_stream_of_another_agent_is_not_found(session, device, say, make_device):
    say((TOPIC, b"1"))
    other = Agent(name="Elsewhere")
    session.add(other)
    session.flush()
    assert streams.of_device(session, other.agent_id, device.device_id) == []
    for agent_id, device_id, name in (
        (other.agent_id, device.device_id, "temperature"),
        (device.agent_id, uuid.uuid4(), "temperature"),
        (device.agent_id, device.device_id, "humidity"),
        (device.agent_id, device.device_id, "\0"),
    ):
        with pytest.raises(NotFound):
            streams.find(session, agent_id, device_id, name)
        with pytest.raises(NotFound):
            streams.forget(session, agent_id, device_id, name, by="ann")


def left(session):
    tables = ("samples", "minutes", "hours", "stale", "forgotten")
    return [session.execute(text(f"SELECT count(*) FROM telemetry_{table}")).scalar_one() for table in tables]


def test_what_is_forgotten_is_removed_bit_by_bit(session, fill, condense, device, make_device):
    kept = fill((NOW, 1.0), of=make_device("Gate"))
    fill(*((NOW + timedelta(seconds=second), 1.0) for second in range(25)))
    condense()
    fill((NOW + timedelta(seconds=40), 1.0))
    streams.forget(session, device.agent_id, device.device_id, "temperature", by="ann")
    session.execute(text("DELETE FROM devices WHERE device_id = :id"), {"id": device.device_id})
    assert left(session)[-1] == 1
    goes = 0
    while streams.purge(session, limit=10):
        goes += 1
    assert goes == 3
    assert left(session) == [1, 1, 1, 0, 0]
    assert streams.find(session, kept_agent(session), kept.device_id, "temperature").last_value == 1.0


def kept_agent(session):
    return session.execute(text("SELECT agent_id FROM agents")).scalar_one()


def test_a_deleted_device_leaves_nothing(session, fill, condense, device):
    fill((NOW, 1.0))
    condense()
    session.execute(text("DELETE FROM devices WHERE device_id = :id"), {"id": device.device_id})
    while streams.purge(session):
        pass
    assert left(session) == [0] * 5


def test_a_stream_of_which_nothing_is_kept_any_more_goes_too(session, fill, device):
    fill((NOW, 1.0), stream="old")
    fill((NOW + timedelta(days=1), 1.0), stream="new")
    assert streams.forget_silent(session, NOW + timedelta(hours=1)) == 1
    assert [one.name for one in streams.of_device(session, device.agent_id, device.device_id)] == ["new"]


def test_samples_of_the_same_time_in_one_message_are_one(session, device):
    pairs = [(NOW, 1.0), (NOW, 2.0)]
    assert not samples.append(session, [NewSamples(device.device_id, device.agent_id, "t", pairs)])
    assert stored(session) == [(NOW, 1.0)]
