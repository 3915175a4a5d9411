"""Messages on their way to a subscriber: flows, what is sent again after a reconnect, and order."""

from typing import Any

import pytest

Venue = Any


def subscribed(venue: Venue, qos: int = 2) -> Any:
    """A device with a lasting session that hears its commands."""
    client = venue.client(clean=False)
    assert client.subscribe((client.topic("cmd", "#"), qos)) == [qos]
    return client


def back(venue: Venue, client: Any) -> Any:
    """The device again after its connection broke."""
    client.drop()
    client = venue.again(client, clean=False)
    assert client.session_present
    return client


@pytest.mark.statement("MQTT-4.3.1-1", "MQTT-3.3.1-2")
def test_qos_0_comes_once_and_without_dup(venue: Venue) -> None:
    hub, client = venue.hub(), subscribed(venue)
    hub.publish(client.topic("cmd", "x"), b"x", 0)
    (got,) = client.messages()
    assert (got.qos, got.dup) == (0, False)
    assert back(venue, client).collect() == []


@pytest.mark.statement("MQTT-4.3.2-1", "MQTT-3.3.1-1", "MQTT-4.4.0-1", "MQTT-2.3.1-4")
@pytest.mark.parametrize("qos", [1, 2])
def test_what_is_not_acknowledged_comes_again_with_dup(venue: Venue, qos: int) -> None:
    hub, client = venue.hub(), subscribed(venue)
    hub.publish(client.topic("cmd", "x"), b"x", qos)
    (first,) = client.messages()
    assert (first.qos, first.dup) == (qos, False)
    for _ in range(2):
        client = back(venue, client)
        (again,) = client.messages()
        assert (again.qos, again.dup, again.body) == (qos, True, first.body)
    client.finish(again)
    assert client.collect() == []
    assert back(venue, client).collect() == []


@pytest.mark.statement("MQTT-4.3.2-1")
def test_what_is_acknowledged_does_not_come_again(venue: Venue) -> None:
    hub, client = venue.hub(), subscribed(venue)
    for payload in (b"1", b"2", b"3"):
        hub.publish(client.topic("cmd", "x"), payload, 1)
    first, second, third = client.messages()
    client.acknowledge(second)
    client.collect()
    client = back(venue, client)
    assert [(got.payload, got.packet_id) for got in client.messages()] == [
        (b"1", first.packet_id),
        (b"3", third.packet_id),
    ]


@pytest.mark.statement("MQTT-4.3.3-1", "MQTT-4.4.0-1", "MQTT-2.3.1-6")
def test_a_released_message_is_released_again_and_not_sent_again(venue: Venue) -> None:
    hub, client = venue.hub(), subscribed(venue)
    hub.publish(client.topic("cmd", "x"), b"x", 2)
    (got,) = client.messages()
    client.acknowledge(got, 5)
    assert client.until(6).packet_id == got.packet_id
    client = back(venue, client)
    (released,) = client.collect()
    assert (released.kind, released.packet_id) == (6, got.packet_id)
    client.acknowledge(got, 7)
    client.collect()
    assert back(venue, client).collect() == []


@pytest.mark.statement("MQTT-4.6.0-1", "MQTT-4.6.0-6")
def test_messages_come_again_in_their_order(venue: Venue) -> None:
    hub, client = venue.hub(), subscribed(venue)
    payloads = [str(number).encode() for number in range(12)]
    for number, payload in enumerate(payloads):
        hub.publish(client.topic("cmd", "x"), payload, 1 + number % 2)
    assert [got.payload for got in client.messages()] == payloads
    client = back(venue, client)
    assert [(got.payload, got.dup) for got in client.messages()] == [(payload, True) for payload in payloads]


@pytest.mark.statement("MQTT-4.6.0-4")
def test_pubrels_come_in_the_order_of_the_pubrecs(venue: Venue) -> None:
    hub, client = venue.hub(), subscribed(venue)
    for _ in range(4):
        hub.publish(client.topic("cmd", "x"), b"x", 2)
    messages = client.messages()
    order = [messages[index] for index in (2, 0, 3, 1)]
    for message in order:
        client.acknowledge(message, 5)
    got = client.collect()
    assert [(packet.kind, packet.packet_id) for packet in got] == [(6, message.packet_id) for message in order]


@pytest.mark.statement("MQTT-4.6.0-5", "MQTT-4.6.0-6")
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_messages_of_a_topic_come_in_the_order_of_their_publisher(venue: Venue, qos: int) -> None:
    hub, client = venue.hub(), venue.client()
    client.subscribe((client.topic("cmd", "#"), 2))
    topic = client.topic("cmd", "x")
    # More than any window, so that some of them wait.
    payloads = [str(number).encode() for number in range(80)]
    for payload in payloads:
        hub.publish(topic, payload, qos)
    got = []
    while len(got) < len(payloads):
        message = client.message()
        client.finish(message)
        got.append(message.payload)
    assert got == payloads


@pytest.mark.statement("MQTT-4.5.0-1", "MQTT-4.3.3-2")
def test_messages_of_qos_2_may_be_sent_without_waiting_for_one_another(venue: Venue) -> None:
    hub, client = venue.hub(), venue.client()
    client.subscribe((client.topic("cmd", "#"), 0))
    identifiers = range(1_000, 1_060)
    hub.send(b"".join(venue.wire.publish(client.topic("cmd", "x"), b"x", 2, number) for number in identifiers))
    for number in identifiers:
        answer = hub.until(5)
        assert answer.packet_id == number
        hub.acknowledge(answer, 6)
    hub.collect()
    assert len(client.messages()) == len(identifiers)


@pytest.mark.statement("MQTT-3.3.5-1")
def test_overlapping_subscriptions_get_the_highest_qos(venue: Venue) -> None:
    hub, client = venue.hub(), venue.client()
    topic = client.topic("cmd", "a", "b")
    client.subscribe((client.topic("cmd", "#"), 0), (client.topic("cmd", "+", "b"), 2), (topic, 1))
    hub.publish(topic, b"x", 2)
    got = client.messages()
    # Copies for the other subscriptions are allowed, each at the QoS of its own.
    assert max(packet.qos for packet in got) == 2
    assert len(got) in {1, 3}


@pytest.mark.statement("MQTT-4.5.0-1")
def test_every_subscriber_gets_the_message(venue: Venue) -> None:
    hub, publisher = venue.hub(clean=True), venue.client()
    hub.subscribe((publisher.topic("event", "#"), 1))
    others = [venue.client() for _ in range(3)]
    for other in others:
        other.subscribe((other.topic("cmd", "#"), 1))
        hub.publish(other.topic("cmd", "x"), other.handle.encode(), 1)
    publisher.publish(publisher.topic("event", "x"), b"x", 1)
    assert [got.payload for got in hub.messages()] == [b"x"]
    assert [[got.payload.decode() for got in other.messages()] for other in others] == [
        [other.handle] for other in others
    ]
