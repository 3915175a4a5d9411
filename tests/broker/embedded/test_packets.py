"""The strict parsers: any bytes give a packet or `MalformedPacket`, and nothing else."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from broker.embedded import packets
from broker.embedded.message import Message
from broker.embedded.packets import MalformedPacket

PARSERS: list[Callable[[bytes], object]] = [
    packets.parse_connect,
    packets.parse_subscribe,
    packets.parse_unsubscribe,
]
GOOD = b"\0\4MQTT\4\xee\0\x3c\0\1a\0\3w/t\0\2hi\0\1u\0\1p"


@pytest.mark.parametrize("cut", range(len(GOOD)))
def test_every_truncation_is_refused(cut: int) -> None:
    with pytest.raises(MalformedPacket):
        packets.parse_connect(GOOD[:cut])


def test_a_whole_connect() -> None:
    connect = packets.parse_connect(GOOD)
    assert (connect.client_id, connect.username, connect.password, connect.keep_alive_s) == ("a", "u", b"p", 60)
    assert connect.clean
    assert connect.will == packets.Will("w/t", b"hi", 1, True)
    assert "hi" not in repr(connect)


def complaint(parse: Callable[[bytes], object], data: bytes) -> str:
    try:
        parse(data)
    except MalformedPacket as error:
        return str(error)
    return ""


@settings(max_examples=3_000, deadline=None)
@given(st.sampled_from(PARSERS), st.binary(max_size=60))
def test_any_bytes(parse: Callable[[bytes], object], data: bytes) -> None:
    assert complaint(parse, data).isprintable()


@settings(max_examples=3_000, deadline=None)
@given(st.integers(0, len(GOOD) - 1), st.integers(0, 255), st.binary(max_size=4))
def test_any_change_of_a_good_connect(at: int, byte: int, tail: bytes) -> None:
    data = GOOD[:at] + bytes([byte]) + GOOD[at + 1 :] + tail
    assert complaint(packets.parse_connect, data).isprintable()


@pytest.mark.parametrize(
    ("length", "encoded"),
    [(0, "00"), (127, "7f"), (128, "8001"), (16_383, "ff7f"), (16_384, "808001"), (268_435_455, "ffffff7f")],
)
def test_lengths_as_in_the_standard(length: int, encoded: str) -> None:
    assert packets.encode_length(length).hex() == encoded


def test_a_message_in_every_form() -> None:
    message = Message(b"a/b", b"x", 2)
    assert message.packet0() == b"\x30\x06\0\3a/bx"
    assert message.front(1) == b"\x32\x08\0\3a/b"
    assert message.front(2) == b"\x34\x08\0\3a/b"
    assert message.front(2, dup=True) == b"\x3c\x08\0\3a/b"
    retained = Message(b"a/b", b"x", 1, retain=True)
    assert retained.packet0() == b"\x31\x06\0\3a/bx"
    assert retained.front(1) == b"\x33\x08\0\3a/b"
    assert retained.front(1, dup=True) == b"\x3b\x08\0\3a/b"
