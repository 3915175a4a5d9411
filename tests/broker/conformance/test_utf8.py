"""Strings: well-formed UTF-8, no U+0000, and a byte order mark that is a character like any other."""

from typing import Any

import pytest

Venue = Any

ILL_FORMED = {
    "surrogate": b"\xed\xa0\x80",
    "surrogate pair": b"\xed\xa0\xbd\xed\xb8\x80",
    "overlong slash": b"\xc0\xaf",
    "overlong in three": b"\xe0\x80\xaf",
    "overlong in four": b"\xf0\x80\x80\xaf",
    "overlong U+0000": b"\xc0\x80",
    "beyond U+10FFFF": b"\xf4\x90\x80\x80",
    "cut": b"\xe2\x82",
    "continuation": b"\x80",
    "not a byte of UTF-8": b"\xff",
}
OF_CONNECT = ["client id", "Will topic", "username"]
OF_OTHERS = ["PUBLISH", "SUBSCRIBE", "UNSUBSCRIBE"]


def connect_with(venue: Venue, field: str, text: bytes) -> list[Any]:
    """What a CONNECT is told of which one field is `text` behind a good beginning."""
    user = venue.user()
    topic = f"marvain/v1/d/{user[0]}/state".encode()
    good = {"client id": user[0].encode(), "Will topic": topic, "username": user[0].encode()}
    client_id, will_topic, username = (
        venue.wire.string(value + text if name == field else value) for name, value in good.items()
    )
    body = (
        b"\0\4MQTT\4\xc6\0\x3c"
        + client_id
        + will_topic
        + venue.wire.string(b"gone")
        + username
        + venue.wire.string(user[1])
    )
    answers: list[Any] = venue.answers(venue.wire.packet(0x10, body))
    return answers


def is_refused(venue: Venue, kind: str, text: bytes) -> bool:
    """Whether the broker closes on a packet whose topic is `text` behind a good beginning."""
    client = venue.client()
    topic = venue.wire.string(client.topic("event" if kind == "PUBLISH" else "cmd", "").encode() + text)
    client.send(
        {
            "PUBLISH": venue.wire.packet(0x30, topic + b"x"),
            "SUBSCRIBE": venue.wire.packet(0x82, b"\0\1" + topic + b"\0"),
            "UNSUBSCRIBE": venue.wire.packet(0xA2, b"\0\1" + topic),
        }[kind]
    )
    return bool(client.refused())


@pytest.mark.statement("MQTT-1.5.3-1", "MQTT-3.3.2-1", "MQTT-3.8.3-1", "MQTT-3.10.3-1")
@pytest.mark.parametrize("kind", OF_OTHERS)
@pytest.mark.parametrize("text", ILL_FORMED.values(), ids=ILL_FORMED)
def test_ill_formed_topics_end_the_connection(venue: Venue, kind: str, text: bytes) -> None:
    assert is_refused(venue, kind, text)


@pytest.mark.statement("MQTT-1.5.3-1", "MQTT-3.1.3-4", "MQTT-3.1.3-10", "MQTT-3.1.3-11")
@pytest.mark.parametrize("field", OF_CONNECT)
@pytest.mark.parametrize("text", ILL_FORMED.values(), ids=ILL_FORMED)
def test_ill_formed_strings_of_connect_are_not_answered(venue: Venue, field: str, text: bytes) -> None:
    assert connect_with(venue, field, text) == []


@pytest.mark.statement("MQTT-1.5.3-2", "MQTT-4.7.3-2")
@pytest.mark.parametrize("kind", OF_OTHERS)
def test_no_topic_holds_u_0000(venue: Venue, kind: str) -> None:
    assert is_refused(venue, kind, b"a\0b")


@pytest.mark.statement("MQTT-1.5.3-2")
@pytest.mark.parametrize("field", OF_CONNECT)
def test_no_string_of_connect_holds_u_0000(venue: Venue, field: str) -> None:
    assert connect_with(venue, field, b"a\0b") == []


@pytest.mark.statement("MQTT-1.5.3-3")
def test_a_byte_order_mark_is_a_character(venue: Venue) -> None:
    hub, client = venue.hub(), venue.client()
    marked, plain = client.topic("cmd", "\ufeffx"), client.topic("cmd", "x")
    client.subscribe((marked, 0))
    hub.publish(plain, b"plain")
    hub.publish(marked, b"marked")
    (got,) = client.messages()
    assert got.body == venue.wire.string(marked.encode()) + b"marked"
    assert b"\xef\xbb\xbfx" in got.body
