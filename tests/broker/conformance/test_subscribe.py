"""SUBSCRIBE and SUBACK: what may be asked, what is answered, and what it changes."""

from typing import Any

import pytest

Venue = Any


@pytest.mark.statement("MQTT-3.8.3-3")
def test_a_subscribe_without_a_filter_ends_the_connection(venue: Venue) -> None:
    client = venue.client()
    client.send(b"\x82\2\0\1")
    assert client.refused()


@pytest.mark.statement("MQTT-3-8.3-4")
@pytest.mark.parametrize("qos", [3, 4, 0x40, 0x80, 0x81, 0xFF])
def test_a_qos_byte_is_0_1_or_2(venue: Venue, qos: int) -> None:
    client = venue.client()
    good = venue.wire.string(client.topic("cmd", "x"))
    client.send(venue.wire.packet(0x82, b"\0\1" + good + b"\1" + good + bytes([qos])))
    assert client.refused()


@pytest.mark.statement("MQTT-3.8.4-1", "MQTT-3.8.4-2", "MQTT-2.3.1-7")
@pytest.mark.parametrize("packet_id", [1, 0x0100, 0xFFFF])
def test_every_subscribe_is_answered_with_its_identifier(venue: Venue, packet_id: int) -> None:
    client = venue.client()
    topic = venue.wire.string(client.topic("cmd", "x"))
    client.send(venue.wire.packet(0x82, packet_id.to_bytes(2, "big") + topic + b"\1"))
    assert client.until(9).body == packet_id.to_bytes(2, "big") + b"\1"


@pytest.mark.statement("MQTT-3.8.4-4", "MQTT-3.8.4-5", "MQTT-3.9.3-1", "MQTT-3.9.3-2")
def test_every_filter_has_a_code_of_its_own_in_their_order(venue: Venue) -> None:
    hub, client = venue.hub(), venue.client()
    codes = client.subscribe(*((client.topic("cmd", str(qos)), qos) for qos in (2, 0, 1, 2)))
    assert codes == [2, 0, 1, 2]
    for qos in (0, 1, 2):
        hub.publish(client.topic("cmd", str(qos)), b"x", 2)
    assert [got.qos for got in client.messages()] == [0, 1, 2]


@pytest.mark.statement("MQTT-3.8.4-5", "MQTT-3.9.3-2")
def test_a_filter_that_is_refused_is_one_of_many(venue: Venue) -> None:
    hub, client, other = venue.hub(), venue.client(), venue.client()
    asked = [client.topic("cmd", "a"), other.topic("cmd", "#"), client.topic("cmd", "b")]
    codes = client.subscribe(*((name, 1) for name in asked))
    assert [codes[0], codes[2]] == [1, 1]
    # A broker may also grant it and deliver nothing.
    assert codes[1] in {0, 1, 2, 0x80}
    hub.publish(other.topic("cmd", "a"), b"x", 1)
    hub.publish(client.topic("cmd", "b"), b"mine", 1)
    assert [got.payload for got in client.messages()] == [b"mine"]


@pytest.mark.statement("MQTT-3.8.4-6")
@pytest.mark.parametrize("published", [0, 1, 2])
@pytest.mark.parametrize("granted", [0, 1, 2])
def test_the_lower_qos_counts(venue: Venue, published: int, granted: int) -> None:
    hub, client = venue.hub(), venue.client()
    assert client.subscribe((client.topic("cmd", "#"), granted)) == [granted]
    hub.publish(client.topic("cmd", "x"), b"x", published)
    assert [got.qos for got in client.messages()] == [min(published, granted)]


@pytest.mark.statement("MQTT-3.8.4-3")
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_filter_that_is_given_again_replaces_itself(venue: Venue, qos: int) -> None:
    hub, client = venue.hub(), venue.client()
    topic = client.topic("cmd", "x")
    hub.publish(topic, b"kept", 2, retain=True)
    for again in (1, qos):
        assert client.subscribe((client.topic("cmd", "#"), again)) == [again]
        # What is retained is sent again each time.
        assert [(got.payload, got.qos, got.retain) for got in client.messages()] == [(b"kept", again, True)]
    hub.publish(topic, b"new", 2)
    assert [(got.payload, got.qos) for got in client.messages()] == [(b"new", qos)]


@pytest.mark.statement("MQTT-3.8.4-3")
def test_replacing_a_filter_loses_nothing(venue: Venue) -> None:
    hub, client = venue.hub(), venue.client()
    topic = client.topic("cmd", "x")
    client.subscribe((topic, 1))
    for number in range(10):
        hub.publish(topic, str(number).encode(), 1)
        client.subscribe((topic, 1))
    assert [got.payload for got in client.messages()] == [str(number).encode() for number in range(10)]


@pytest.mark.statement("MQTT-3.8.4-4")
def test_many_filters_count_like_many_packets(venue: Venue) -> None:
    """The same filter twice in one packet is a replacement, and both are answered."""
    hub, client = venue.hub(), venue.client()
    topic = client.topic("cmd", "x")
    assert client.subscribe((topic, 2), (topic, 0)) == [2, 0]
    hub.publish(topic, b"x", 2)
    assert [got.qos for got in client.messages()] == [0]


@pytest.mark.statement("MQTT-3.8.3-2", "MQTT-4.7.1-1")
def test_wildcards_are_known(venue: Venue) -> None:
    client = venue.client()
    assert client.subscribe((client.topic("cmd", "+"), 1), (client.topic("cmd", "#"), 1)) == [1, 1]


@pytest.mark.statement("MQTT-4.7.1-2", "MQTT-4.7.1-3", "MQTT-4.7.3-1")
@pytest.mark.parametrize("last", ["#/x", "a#", "#a", "##", "a+", "+a", "++", "+a/x", "a/#/b", None])
def test_a_filter_that_is_none_is_refused(venue: Venue, last: str | None) -> None:
    client = venue.client()
    name = "" if last is None else client.topic("cmd", last)
    client.send(venue.wire.packet(0x82, b"\0\1" + venue.wire.string(name) + b"\1"))
    while (got := client.peer.receive()) is not None and got.kind != 9:
        pass
    assert got is None or got.body == b"\0\1\x80"
