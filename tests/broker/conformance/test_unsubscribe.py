"""UNSUBSCRIBE and UNSUBACK: which subscription ends, and what is still owed."""

from typing import Any

import pytest

Venue = Any


@pytest.mark.statement("MQTT-3.10.3-2")
def test_an_unsubscribe_without_a_filter_ends_the_connection(venue: Venue) -> None:
    client = venue.client()
    client.send(b"\xa2\2\0\1")
    assert client.refused()


@pytest.mark.statement("MQTT-3.10.4-1", "MQTT-3.10.4-2")
def test_a_filter_ends_only_its_own_subscription(venue: Venue) -> None:
    hub, client = venue.hub(), venue.client()
    topic = client.topic("cmd", "x")
    filters = [client.topic("cmd", "#"), client.topic("cmd", "+"), topic]
    client.subscribe(*((name, 0) for name in filters))
    # Others that match the same topic, or look alike.
    client.unsubscribe(client.topic("cmd", "+", "#"), client.topic("cmd", "X"), client.topic("cmd", "x", ""))
    for name in filters:
        hub.publish(topic, b"x")
        assert client.messages() != []
        client.unsubscribe(name)
    hub.publish(topic, b"x")
    assert client.messages() == []


@pytest.mark.statement("MQTT-3.10.4-3")
@pytest.mark.parametrize("qos", [1, 2])
def test_what_has_begun_is_delivered_to_the_end(venue: Venue, qos: int) -> None:
    hub, client = venue.hub(), venue.client(clean=False)
    client.subscribe((client.topic("cmd", "#"), 2))
    hub.publish(client.topic("cmd", "x"), b"x", qos)
    (first,) = client.messages()
    client.unsubscribe(client.topic("cmd", "#"))
    client.drop()
    client = venue.again(client, clean=False)
    (again,) = client.messages()
    assert (again.body, again.qos, again.dup) == (first.body, qos, True)
    client.finish(again)
    client.drop()
    assert venue.again(client, clean=False).collect() == []


@pytest.mark.statement("MQTT-3.10.4-4", "MQTT-3.10.4-5", "MQTT-2.3.1-7")
@pytest.mark.parametrize("packet_id", [1, 0x0100, 0xFFFF])
def test_every_unsubscribe_is_answered(venue: Venue, packet_id: int) -> None:
    """Also one for a filter that was never asked for."""
    client = venue.client()
    topic = venue.wire.string(client.topic("cmd", "never"))
    client.send(venue.wire.packet(0xA2, packet_id.to_bytes(2, "big") + topic))
    answer = client.until(11)
    assert (answer.flags, answer.body) == (0, packet_id.to_bytes(2, "big"))


@pytest.mark.statement("MQTT-3.10.4-6")
def test_many_filters_end_with_one_answer(venue: Venue) -> None:
    hub, client = venue.hub(), venue.client()
    names = [client.topic("cmd", name) for name in ("a", "b", "c")]
    client.subscribe(*((name, 0) for name in names))
    client.unsubscribe(names[0], client.topic("cmd", "never"), names[2])
    for name in names:
        hub.publish(name, b"x")
    got = client.collect()
    assert [packet.topic for packet in got] == [names[1]]


@pytest.mark.statement("MQTT-3.10.4-2")
def test_an_ended_subscription_does_not_come_back_with_the_session(venue: Venue) -> None:
    hub, client = venue.hub(), venue.client(clean=False)
    client.subscribe((client.topic("cmd", "#"), 1))
    client.unsubscribe(client.topic("cmd", "#"))
    client.drop()
    hub.publish(client.topic("cmd", "x"), b"x", 1)
    client = venue.again(client, clean=False)
    assert client.session_present
    assert client.collect() == []
