"""Sessions: what is kept for a client that is away, and when it is thrown away."""

from typing import Any

import pytest

Venue = Any


@pytest.mark.statement("MQTT-3.1.2-4", "MQTT-3.2.2-2", "MQTT-3.2.2-3", "MQTT-4.1.0-1", "MQTT-3.1.4-3")
def test_a_kept_session_goes_on(venue: Venue) -> None:
    hub, client = venue.hub(), venue.client(clean=False)
    assert not client.session_present
    client.subscribe((client.topic("cmd", "#"), 1))
    client.disconnect()
    client = venue.again(client, clean=False)
    assert client.session_present
    hub.publish(client.topic("cmd", "x"), b"x", 1)
    assert [got.payload for got in client.messages()] == [b"x"]


@pytest.mark.statement("MQTT-3.1.2-5", "MQTT-4.5.0-1", "MQTT-3.2.0-1")
@pytest.mark.parametrize("how", ["disconnect", "drop"])
def test_messages_wait_for_a_client_that_is_away(venue: Venue, how: str) -> None:
    hub, client = venue.hub(), venue.client(clean=False)
    client.subscribe((client.topic("cmd", "#"), 2))
    getattr(client, how)()
    for number in range(4):
        hub.publish(client.topic("cmd", "x"), str(number).encode(), 1 + number % 2)
    client = venue.again(client, clean=False)
    got = client.messages()
    assert [(packet.payload, packet.qos) for packet in got] == [(b"0", 1), (b"1", 2), (b"2", 1), (b"3", 2)]


@pytest.mark.statement("MQTT-3.1.2-6", "MQTT-3.2.2-1", "MQTT-3.1.4-3")
def test_a_clean_session_begins_with_nothing_and_leaves_nothing(venue: Venue) -> None:
    hub, client = venue.hub(), venue.client(clean=False)
    client.subscribe((client.topic("cmd", "#"), 1))
    client.disconnect()
    hub.publish(client.topic("cmd", "x"), b"1", 1)
    client = venue.again(client, clean=True)
    assert not client.session_present
    hub.publish(client.topic("cmd", "x"), b"2", 1)
    assert client.collect() == []
    client.subscribe((client.topic("cmd", "#"), 1))
    client.disconnect()
    client = venue.again(client, clean=False)
    assert not client.session_present
    hub.publish(client.topic("cmd", "x"), b"3", 1)
    assert client.collect() == []


@pytest.mark.statement("MQTT-3.1.2-6", "MQTT-4.1.0-2")
def test_a_clean_session_lasts_as_long_as_its_connection(venue: Venue) -> None:
    client = venue.client(clean=True)
    publish = venue.wire.publish(client.topic("event", "x"), b"x", 2, 5)
    hub = venue.hub()
    hub.subscribe((client.topic("event", "#"), 0))
    client.send(publish + publish)
    assert [packet.kind for packet in client.collect()] == [5, 5]
    client.send(b"\x62\2\0\5")
    client.until(7)
    assert len(hub.messages()) == 1


@pytest.mark.statement("MQTT-3.1.3-2")
def test_each_client_id_has_a_session_of_its_own(venue: Venue) -> None:
    hub, one, other = venue.hub(), venue.client(clean=False), venue.client(clean=False)
    one.subscribe((one.topic("cmd", "#"), 1))
    one.disconnect()
    other.disconnect()
    hub.publish(one.topic("cmd", "x"), b"x", 1)
    other = venue.again(other, clean=False)
    assert other.session_present
    assert other.collect() == []
    assert len(venue.again(one, clean=False).messages()) == 1


@pytest.mark.statement("MQTT-3.1.4-2", "MQTT-3.1.4-4")
@pytest.mark.parametrize("clean", [True, False])
def test_a_client_that_comes_again_takes_over(venue: Venue, *, clean: bool) -> None:
    hub, earlier = venue.hub(), venue.client(clean=False)
    earlier.subscribe((earlier.topic("cmd", "#"), 1))
    later = venue.again(earlier, clean=clean)
    assert earlier.refused()
    assert later.session_present is not clean
    hub.publish(later.topic("cmd", "x"), b"x", 1)
    assert len(later.messages()) == (0 if clean else 1)


@pytest.mark.statement("MQTT-3.1.2-7")
def test_retained_messages_outlive_every_session(venue: Venue) -> None:
    hub, client = venue.hub(clean=True), venue.client()
    hub.publish(client.topic("cmd", "x"), b"kept", 1, retain=True)
    hub.disconnect()
    hub = venue.hub(clean=True)
    client.subscribe((client.topic("cmd", "#"), 1))
    assert [got.payload for got in client.messages()] == [b"kept"]
