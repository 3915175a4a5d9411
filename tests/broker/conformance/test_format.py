"""The form of packets: fixed headers, lengths, packet identifiers, both of what the broker takes and what it sends."""

from typing import Any

import pytest

Venue = Any


@pytest.mark.statement("MQTT-2.2.2-2", "MQTT-4.8.0-1")
@pytest.mark.parametrize(
    "packet",
    [
        b"\x41\2\0\1",
        b"\x52\2\0\1",
        b"\x72\2\0\1",
        b"\xc1\0",
        b"\x12\x0c\0\4MQTT\4\2\0\0\0\0",
    ],
    ids=["PUBACK", "PUBREC", "PUBCOMP", "PINGREQ", "CONNECT"],
)
def test_reserved_flags_end_the_connection(venue: Venue, packet: bytes) -> None:
    client = venue.client()
    client.send(packet)
    assert client.refused()


@pytest.mark.statement("MQTT-2.2.2-2")
def test_reserved_flags_of_the_first_connect(venue: Venue) -> None:
    handle, secret = venue.user()
    good = venue.wire.connect(handle, handle, secret)
    assert venue.answers(b"\x11" + good[1:]) == []


@pytest.mark.statement("MQTT-3.6.1-1", "MQTT-2.2.2-2")
@pytest.mark.parametrize("flags", [0, 1, 3, 8, 10])
def test_pubrel_has_the_flags_0010(venue: Venue, flags: int) -> None:
    client = venue.client()
    client.send(bytes([0x60 | flags]) + b"\2\0\1")
    assert client.refused()


@pytest.mark.statement("MQTT-3.8.1-1", "MQTT-2.2.2-2")
@pytest.mark.parametrize("flags", [0, 1, 3, 8, 10])
def test_subscribe_has_the_flags_0010(venue: Venue, flags: int) -> None:
    client = venue.client()
    body = b"\0\1" + venue.wire.string(client.topic("cmd", "x")) + b"\0"
    client.send(venue.wire.packet(0x80 | flags, body))
    assert client.refused()


@pytest.mark.statement("MQTT-3.10.1-1", "MQTT-2.2.2-2")
@pytest.mark.parametrize("flags", [0, 1, 3, 8, 10])
def test_unsubscribe_has_the_flags_0010(venue: Venue, flags: int) -> None:
    client = venue.client()
    client.send(venue.wire.packet(0xA0 | flags, b"\0\1" + venue.wire.string(client.topic("cmd", "x"))))
    assert client.refused()


@pytest.mark.statement("MQTT-3.14.1-1", "MQTT-2.2.2-2")
@pytest.mark.parametrize("flags", [1, 2, 8])
def test_disconnect_has_no_flags(venue: Venue, flags: int) -> None:
    """A DISCONNECT of another form is a breach of the protocol: the Will is published."""
    hub, user = venue.hub(), venue.user()
    topic = f"marvain/v1/d/{user[0]}/state"
    hub.subscribe((topic, 0))
    client = venue.client(user, will=(topic, b"gone", 0, False))
    client.send(bytes([0xE0 | flags, 0]))
    assert client.refused()
    assert [got.payload for got in hub.messages()] == [b"gone"]


@pytest.mark.statement("MQTT-4.8.0-1")
@pytest.mark.parametrize("first", [0x00, 0x20, 0x90, 0xB0, 0xD0, 0xF0])
def test_packets_that_no_client_sends_end_the_connection(venue: Venue, first: int) -> None:
    client = venue.client()
    client.send(bytes([first, 2, 0, 1]))
    assert client.refused()


@pytest.mark.statement("MQTT-4.8.0-1")
def test_a_remaining_length_of_five_bytes_ends_the_connection(venue: Venue) -> None:
    client = venue.client()
    client.send(b"\x30\x80\x80\x80\x80\x01")
    assert client.refused()


@pytest.mark.statement("MQTT-4.8.0-1")
@pytest.mark.parametrize(
    "packet",
    [b"\x30\0", b"\x30\2\0\5", b"\x32\5\0\3a/b", b"\x82\2\0\1", b"\x82\5\0\1\0\3a", b"\xa2\4\0\1\0\7", b"\x62\1\0"],
    ids=["no topic", "topic cut", "no identifier", "no filter", "filter cut", "UNSUBSCRIBE cut", "PUBREL cut"],
)
def test_a_packet_that_ends_early_ends_the_connection(venue: Venue, packet: bytes) -> None:
    client = venue.client()
    client.send(packet)
    assert client.refused()


@pytest.mark.statement("MQTT-2.2.2-1", "MQTT-2.3.1-6", "MQTT-2.3.1-7")
def test_what_the_broker_sends_has_the_right_flags_and_identifiers(venue: Venue) -> None:
    hub, client = venue.hub(), venue.client()
    topic, event = client.topic("cmd", "x"), client.topic("event", "x")
    client.send(
        venue.wire.packet(0x82, b"\x12\x34" + venue.wire.string(topic) + b"\2")
        + venue.wire.publish(event, b"x", 1, 0x2345)
        + venue.wire.publish(event, b"x", 2, 0x3456)
        + b"\x62\2\x34\x56"
        + venue.wire.packet(0xA2, b"\x45\x67" + venue.wire.string(client.topic("cmd", "y")))
        + b"\xc0\0"
    )
    got = [(packet.kind, packet.flags, packet.body) for packet in (client.peer.receive() for _ in range(6))]
    assert sorted(got) == [
        (4, 0, b"\x23\x45"),
        (5, 0, b"\x34\x56"),
        (7, 0, b"\x34\x56"),
        (9, 0, b"\x12\x34\2"),
        (11, 0, b"\x45\x67"),
        (13, 0, b""),
    ]
    hub.publish(topic, b"x", 2)
    message = client.message()
    client.acknowledge(message, 5)
    released = client.until(6)
    assert (released.flags, released.packet_id) == (2, message.packet_id)


@pytest.mark.statement("MQTT-2.3.1-1")
@pytest.mark.parametrize("name", ["PUBLISH 1", "PUBLISH 2", "SUBSCRIBE", "UNSUBSCRIBE"])
def test_a_packet_identifier_is_not_zero(venue: Venue, name: str) -> None:
    client = venue.client()
    event, topic = client.topic("event", "x"), venue.wire.string(client.topic("cmd", "x"))
    client.send(
        {
            "PUBLISH 1": venue.wire.publish(event, b"x", 1, 0),
            "PUBLISH 2": venue.wire.publish(event, b"x", 2, 0),
            "SUBSCRIBE": venue.wire.packet(0x82, b"\0\0" + topic + b"\0"),
            "UNSUBSCRIBE": venue.wire.packet(0xA2, b"\0\0" + topic),
        }[name]
    )
    assert client.refused()


@pytest.mark.statement("MQTT-2.3.1-6", "MQTT-2.3.1-1")
@pytest.mark.parametrize("first", [0x50, 0x62, 0x70], ids=["PUBREC", "PUBREL", "PUBCOMP"])
def test_no_message_has_the_identifier_0_to_be_answered(venue: Venue, first: int) -> None:
    client = venue.client()
    client.send(bytes([first, 2, 0, 0]))
    assert client.refused()


@pytest.mark.statement("MQTT-2.3.1-4")
def test_messages_on_their_way_have_identifiers_of_their_own(venue: Venue) -> None:
    hub, client = venue.hub(), venue.client()
    client.subscribe((client.topic("cmd", "#"), 2))
    for number in range(10):
        hub.publish(client.topic("cmd", "x"), b"x", 1 + number % 2)
    identifiers = [got.packet_id for got in client.messages()]
    assert len(set(identifiers)) == 10
    assert 0 not in identifiers


@pytest.mark.statement("MQTT-2.3.1-5")
def test_a_message_of_qos_0_has_no_identifier(venue: Venue) -> None:
    hub, client = venue.hub(), venue.client()
    client.subscribe((client.topic("cmd", "#"), 2))
    topic = client.topic("cmd", "x")
    hub.publish(topic, b"payload", 0)
    (got,) = client.messages()
    assert got.body == venue.wire.string(topic) + b"payload"


@pytest.mark.statement("MQTT-2.2.2-1")
@pytest.mark.parametrize("size", [127, 128, 16_383, 16_384, 100_000])
def test_messages_of_every_length_of_length_arrive_whole(venue: Venue, size: int) -> None:
    hub, client = venue.hub(), venue.client()
    topic = client.topic("cmd", "x")
    client.subscribe((topic, 0))
    payload = bytes(number % 251 for number in range(size - 2 - len(topic)))
    hub.publish(topic, payload)
    (got,) = client.messages()
    assert len(got.body) == size
    assert got.payload == payload
