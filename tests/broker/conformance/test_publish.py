"""PUBLISH as a client sends it, and the acknowledgements that the broker owes for it."""

from typing import Any

import pytest

Venue = Any


@pytest.mark.statement("MQTT-3.3.1-2", "MQTT-4.8.0-1")
def test_dup_at_qos_0_ends_the_connection(venue: Venue) -> None:
    client = venue.client()
    client.send(venue.wire.publish(client.topic("event", "x"), b"x", 0, dup=True))
    assert client.refused()


@pytest.mark.statement("MQTT-3.3.1-3")
@pytest.mark.parametrize("qos", [1, 2])
def test_dup_of_a_publisher_goes_no_further(venue: Venue, qos: int) -> None:
    hub, client = venue.hub(), venue.client()
    hub.subscribe((client.topic("event", "#"), 2))
    client.publish(client.topic("event", "x"), b"x", qos, dup=True)
    (got,) = hub.messages()
    assert not got.dup


@pytest.mark.statement("MQTT-3.3.1-4")
@pytest.mark.parametrize("first", [0x36, 0x37, 0x3E])
def test_qos_3_ends_the_connection(venue: Venue, first: int) -> None:
    client = venue.client()
    client.send(venue.wire.packet(first, venue.wire.string(client.topic("event", "x")) + b"\0\1x"))
    assert client.refused()


@pytest.mark.statement("MQTT-3.3.2-2", "MQTT-4.7.1-1")
@pytest.mark.parametrize("last", ["+", "#", "a+", "a#"])
def test_no_wildcard_in_a_topic(venue: Venue, last: str) -> None:
    client = venue.client()
    client.send(venue.wire.publish(client.topic("event", last), b"x", 1))
    assert client.refused()


@pytest.mark.statement("MQTT-4.7.3-1")
def test_no_empty_topic(venue: Venue) -> None:
    client = venue.client()
    client.send(venue.wire.publish("", b"x", 1))
    assert client.refused()


@pytest.mark.statement("MQTT-3.3.2-1", "MQTT-3.3.2-3")
def test_a_message_names_its_topic_and_not_the_filter(venue: Venue) -> None:
    hub, client = venue.hub(), venue.client()
    client.subscribe((client.topic("cmd", "+", "#"), 1))
    topic = client.topic("cmd", "a", "b", "c")
    hub.publish(topic, b"", 1)
    (got,) = client.messages()
    assert (got.topic, got.payload) == (topic, b"")


@pytest.mark.statement("MQTT-3.3.4-1", "MQTT-2.3.1-6")
@pytest.mark.parametrize(("qos", "answers"), [(0, []), (1, [4]), (2, [5])])
def test_the_answer_is_that_of_the_qos(venue: Venue, qos: int, answers: list[int]) -> None:
    client = venue.client()
    client.send(venue.wire.publish(client.topic("event", "x"), b"x", qos, 0xFFFF))
    got = client.collect()
    assert [packet.kind for packet in got] == answers
    assert all(packet.body == b"\xff\xff" for packet in got)


@pytest.mark.statement("MQTT-4.3.2-2")
def test_after_puback_the_identifier_is_another_message(venue: Venue) -> None:
    hub, client = venue.hub(), venue.client()
    hub.subscribe((client.topic("event", "#"), 1))
    for payload, dup in ((b"1", False), (b"2", False), (b"3", True)):
        client.send(venue.wire.publish(client.topic("event", "x"), payload, 1, 9, dup=dup))
        assert client.until(4).packet_id == 9
    assert [got.payload for got in hub.messages()] == [b"1", b"2", b"3"]


@pytest.mark.statement("MQTT-4.3.3-2")
@pytest.mark.parametrize("away", [False, True], ids=["same connection", "after a reconnect"])
def test_qos_2_is_passed_on_once(venue: Venue, *, away: bool) -> None:
    hub, client = venue.hub(), venue.client(clean=False)
    hub.subscribe((client.topic("event", "#"), 2))
    publish = client.topic("event", "x"), b"once", 2, 9
    client.send(venue.wire.publish(*publish))
    assert client.until(5).packet_id == 9
    if away:
        client.drop()
        client = venue.again(client, clean=False)
    client.send(venue.wire.publish(*publish, dup=True))
    assert client.until(5).packet_id == 9
    client.send(b"\x62\2\0\x09")
    assert client.until(7).packet_id == 9
    assert len(hub.messages()) == 1
    # Released, the identifier is another message.
    client.send(venue.wire.publish(*publish))
    assert client.until(5).packet_id == 9
    client.send(b"\x62\2\0\x09")
    assert client.until(7).packet_id == 9
    assert len(hub.messages()) == 1


@pytest.mark.statement("MQTT-4.3.3-2")
def test_pubrel_is_answered_though_it_was_before(venue: Venue) -> None:
    """The PUBCOMP may have been lost with a connection: its repeat must not end the next one."""
    client = venue.client(clean=False)
    client.publish(client.topic("event", "x"), b"x", 2)
    client.send(b"\x62\2\0\x64")
    assert client.until(7).packet_id == 100


@pytest.mark.statement("MQTT-4.6.0-2")
def test_pubacks_come_in_the_order_of_the_messages(venue: Venue) -> None:
    client = venue.client()
    identifiers = [7, 3, 5, 1, 9, 2]
    for packet_id in identifiers:
        client.send(venue.wire.publish(client.topic("event", "x"), b"x", 1, packet_id))
    assert [got.packet_id for got in client.collect()] == identifiers


@pytest.mark.statement("MQTT-4.6.0-3")
def test_pubrecs_come_in_the_order_of_the_messages(venue: Venue) -> None:
    client = venue.client()
    identifiers = [7, 3, 5, 1, 9, 2]
    for packet_id in identifiers:
        client.send(venue.wire.publish(client.topic("event", "x"), b"x", 2, packet_id))
    got = client.collect()
    assert [(packet.kind, packet.packet_id) for packet in got] == [(5, packet_id) for packet_id in identifiers]


@pytest.mark.statement("MQTT-3.3.5-2")
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_what_may_not_be_published_is_acknowledged_or_ends_the_connection(venue: Venue, qos: int) -> None:
    hub, client, other = venue.hub(), venue.client(), venue.client()
    hub.subscribe((other.topic("event", "#"), 2))
    client.send(venue.wire.publish(other.topic("event", "x"), b"x", qos, 9))
    client.send(b"\x62\2\0\x09" if qos == 2 else b"")
    client.send(b"\xc0\0")
    kinds = []
    while not kinds or kinds[-1] not in {None, 13}:
        got = client.peer.receive()
        kinds.append(got and got.kind)
    assert kinds[-1] is None or kinds == [*{0: [], 1: [4], 2: [5, 7]}[qos], 13]
    assert hub.collect() == []
