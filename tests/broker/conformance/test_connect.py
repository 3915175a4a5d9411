"""CONNECT and CONNACK: who may come in, what a packet must look like, and what a refusal looks like."""

from typing import Any

import pytest

Venue = Any

NAME = b"\0\4MQTT\4"


def body(flags: int, *fields: bytes, head: bytes = NAME) -> bytes:
    """A CONNECT packet of which the test chooses every field; each is given without its length."""
    inner = head + bytes([flags]) + b"\0\x3c" + b"".join(len(field).to_bytes(2, "big") + field for field in fields)
    assert len(inner) < 128
    return bytes([0x10, len(inner)]) + inner


@pytest.mark.statement("MQTT-3.1.0-1")
@pytest.mark.parametrize(
    "first",
    [
        b"\x30\x05\0\3a/bx",
        b"\x32\x07\0\3a/b\0\1",
        b"\x40\2\0\1",
        b"\x62\2\0\1",
        b"\x82\x08\0\1\0\3a/b\0",
        b"\xa2\x07\0\1\0\3a/b",
        b"\xc0\0",
        b"\xe0\0",
        b"\x20\2\0\0",
    ],
    ids=["PUBLISH", "PUBLISH-1", "PUBACK", "PUBREL", "SUBSCRIBE", "UNSUBSCRIBE", "PINGREQ", "DISCONNECT", "CONNACK"],
)
def test_nothing_but_connect_comes_first(venue: Venue, first: bytes) -> None:
    assert venue.answers(first) == []


@pytest.mark.statement("MQTT-3.1.0-2", "MQTT-4.8.0-1")
def test_a_second_connect_ends_the_connection(venue: Venue) -> None:
    client = venue.client()
    client.send(venue.wire.connect(client.handle, client.handle, client.secret))
    assert client.refused()


@pytest.mark.statement("MQTT-3.1.2-1")
@pytest.mark.parametrize("name", [b"MQTX", b"mqtt", b"", b"HTTP/1.1"])
def test_another_protocol_is_not_let_in(venue: Venue, name: bytes) -> None:
    handle, secret = (word.encode() for word in venue.user())
    head = len(name).to_bytes(2, "big") + name + b"\4"
    assert all(packet.body[1:] != b"\0" for packet in venue.answers(body(0xC2, handle, handle, secret, head=head)))


@pytest.mark.statement("MQTT-3.1.2-2", "MQTT-3.2.2-4", "MQTT-3.2.2-5")
@pytest.mark.parametrize("level", [0, 3, 6, 0x7F])
def test_an_unknown_protocol_level_is_answered_with_1(venue: Venue, level: int) -> None:
    handle, secret = venue.user()
    (answer,) = venue.answers(venue.wire.connect(handle, handle, secret, level=level))
    assert (answer.kind, answer.body) == (2, b"\0\1")


@pytest.mark.statement("MQTT-3.1.2-3", "MQTT-3.1.4-1", "MQTT-3.2.2-6")
def test_the_reserved_flag_must_be_zero(venue: Venue) -> None:
    handle, secret = (word.encode() for word in venue.user())
    assert venue.answers(body(0xC3, handle, handle, secret)) == []


@pytest.mark.statement("MQTT-3.1.2-9")
def test_a_will_that_is_announced_must_be_there(venue: Venue) -> None:
    handle, secret = (word.encode() for word in venue.user())
    assert venue.answers(body(0xC6, handle, handle, secret)) == []
    assert venue.answers(body(0x06, handle, b"a/b")) == []


@pytest.mark.statement("MQTT-3.1.2-11", "MQTT-3.1.2-13", "MQTT-3.1.2-15")
@pytest.mark.parametrize("will_flags", [0x08, 0x10, 0x18, 0x20, 0x38])
def test_without_a_will_its_flags_are_zero(venue: Venue, will_flags: int) -> None:
    handle, secret = (word.encode() for word in venue.user())
    assert venue.answers(body(0xC2 | will_flags, handle, handle, secret)) == []


@pytest.mark.statement("MQTT-3.1.2-11")
def test_without_a_will_its_fields_are_not_there(venue: Venue) -> None:
    handle, secret = (word.encode() for word in venue.user())
    got = venue.answers(body(0xC2, handle, b"a/b", b"gone", handle, secret))
    assert all(packet.body[1:] != b"\0" for packet in got)


@pytest.mark.statement("MQTT-3.1.2-14")
def test_a_will_of_qos_3_is_malformed(venue: Venue) -> None:
    handle, secret = venue.user()
    will = (f"marvain/v1/d/{handle}/state", b"gone", 3, False)
    assert venue.answers(venue.wire.connect(handle, handle, secret, will=will)) == []


@pytest.mark.statement("MQTT-3.1.2-18")
def test_no_username_without_its_flag(venue: Venue) -> None:
    handle, _ = (word.encode() for word in venue.user())
    got = venue.answers(body(0x02, handle, handle))
    assert got == []


@pytest.mark.statement("MQTT-3.1.2-19")
def test_a_username_that_is_announced_must_be_there(venue: Venue) -> None:
    handle, _ = (word.encode() for word in venue.user())
    assert venue.answers(body(0x82, handle)) == []


@pytest.mark.statement("MQTT-3.1.2-20")
def test_no_password_without_its_flag(venue: Venue) -> None:
    handle, secret = (word.encode() for word in venue.user())
    assert venue.answers(body(0x82, handle, handle, secret)) == []


@pytest.mark.statement("MQTT-3.1.2-21")
def test_a_password_that_is_announced_must_be_there(venue: Venue) -> None:
    handle, _ = (word.encode() for word in venue.user())
    assert venue.answers(body(0xC2, handle, handle)) == []


@pytest.mark.statement("MQTT-3.1.2-22")
def test_no_password_without_a_username(venue: Venue) -> None:
    handle, secret = (word.encode() for word in venue.user())
    assert venue.answers(body(0x42, handle, secret)) == []


@pytest.mark.statement("MQTT-3.1.3-1")
def test_the_fields_are_taken_in_their_order(venue: Venue) -> None:
    hub, user = venue.hub(), venue.user()
    topic = f"marvain/v1/d/{user[0]}/state"
    hub.subscribe((topic, 1))
    venue.client(user, will=(topic, user[1].encode(), 1, False)).drop()
    got = hub.message()
    assert (got.topic, got.payload) == (topic, user[1].encode())


@pytest.mark.statement("MQTT-3.1.3-3")
def test_a_client_id_must_be_there(venue: Venue) -> None:
    assert venue.answers(body(0x02)) == []


@pytest.mark.statement("MQTT-3.1.3-5")
@pytest.mark.parametrize("handle", ["q", "abcdefghijklmnopqrstuvw"])
def test_client_ids_of_1_and_of_23_characters_are_taken(venue: Venue, handle: str) -> None:
    assert venue.client(venue.user(handle)).collect() == []


@pytest.mark.statement("MQTT-3.1.3-6")
def test_an_empty_client_id_gets_an_identity_of_its_own_or_is_refused(venue: Venue) -> None:
    handle, secret = venue.user()
    peer = venue.dial()
    answer = peer.connect("", handle, secret, clean=True)
    assert answer.body in {b"\0\0", b"\0\2"}
    if answer.body == b"\0\2":
        assert peer.closed()
    else:
        other = venue.dial()
        assert other.connect("", handle, secret, clean=True).body == b"\0\0"
        peer.ping()


@pytest.mark.statement("MQTT-3.1.3-8", "MQTT-3.1.3-9", "MQTT-3.2.2-4", "MQTT-3.2.2-5")
def test_an_empty_client_id_cannot_have_a_lasting_session(venue: Venue) -> None:
    handle, secret = venue.user()
    (answer,) = venue.answers(venue.wire.connect("", handle, secret, clean=False))
    assert (answer.kind, answer.body) == (2, b"\0\2")


@pytest.mark.statement("MQTT-3.1.4-1", "MQTT-3.2.2-6")
@pytest.mark.parametrize("cut", [1, 3, 7, 8, 10])
def test_a_connect_that_ends_early_is_not_answered(venue: Venue, cut: int) -> None:
    handle, secret = (word.encode() for word in venue.user())
    whole = body(0xC2, handle, handle, secret)[2:]
    assert venue.answers(bytes([0x10, cut]) + whole[:cut]) == []


@pytest.mark.statement("MQTT-3.1.4-1")
def test_a_connect_with_more_behind_its_fields_is_not_answered(venue: Venue) -> None:
    handle, secret = (word.encode() for word in venue.user())
    assert venue.answers(body(0xC2, handle, handle, secret, b"more")) == []


@pytest.mark.statement("MQTT-3.1.4-4", "MQTT-3.2.0-1")
def test_the_first_answer_is_connack(venue: Venue) -> None:
    handle, secret = venue.user()
    peer = venue.dial()
    # A client need not wait for it.
    topic = f"marvain/v1/d/{handle}/cmd/x"
    peer.send(
        venue.wire.connect(handle, handle, secret)
        + venue.wire.packet(0x82, b"\0\1" + venue.wire.string(topic) + b"\1")
        + b"\xc0\0"
    )
    got = [peer.receive() for _ in range(3)]
    assert [(packet.kind, packet.body) for packet in got] == [(2, b"\0\0"), (9, b"\0\1\1"), (13, b"")]


@pytest.mark.statement("MQTT-3.1.4-5", "MQTT-3.2.2-4", "MQTT-3.2.2-5")
def test_nothing_behind_a_refused_connect_counts(venue: Venue) -> None:
    hub, (handle, secret) = venue.hub(), venue.user()
    topic = f"marvain/v1/d/{handle}/event/x"
    hub.subscribe((topic, 1))
    kept = venue.client((handle, secret), clean=False)
    kept.disconnect()
    (answer,) = venue.answers(
        venue.wire.connect(handle, handle, "wrong", clean=False) + venue.wire.publish(topic, b"x", 1)
    )
    # A session is there, and still the answer does not say so.
    assert (answer.kind, answer.body[0]) == (2, 0)
    assert answer.body[1] in {4, 5}
    assert hub.collect() == []
