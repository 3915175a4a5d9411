"""MQTT 3.1.1 on the wire: strict parsers for what clients send seldom, encoders for what the broker sends.

PUBLISH and the acknowledgements are taken apart where they arrive, in `reading`, because their speed matters.
"""

from dataclasses import dataclass
from typing import Final, NoReturn

CONNECT: Final = 1
PUBLISH: Final = 3
PUBACK: Final = 4
PUBREC: Final = 5
PUBREL: Final = 6
PUBCOMP: Final = 7
SUBSCRIBE: Final = 8
UNSUBSCRIBE: Final = 10
PINGREQ: Final = 12
DISCONNECT: Final = 14

# The lower four bits of the first byte that each packet of a client must have (table 2.2); PUBLISH has real flags.
FLAGS: Final = {
    CONNECT: 0,
    PUBACK: 0,
    PUBREC: 0,
    PUBREL: 2,
    PUBCOMP: 0,
    SUBSCRIBE: 2,
    UNSUBSCRIBE: 2,
    PINGREQ: 0,
    DISCONNECT: 0,
}
NAMES: Final = {
    CONNECT: "CONNECT",
    PUBLISH: "PUBLISH",
    PUBACK: "PUBACK",
    PUBREC: "PUBREC",
    PUBREL: "PUBREL",
    PUBCOMP: "PUBCOMP",
    SUBSCRIBE: "SUBSCRIBE",
    UNSUBSCRIBE: "UNSUBSCRIBE",
    PINGREQ: "PINGREQ",
    DISCONNECT: "DISCONNECT",
}

PINGRESP: Final = b"\xd0\x00"
SUBACK_FAILURE: Final = 0x80
BAD_PROTOCOL: Final = 1


class MalformedPacket(Exception):
    """The bytes break the protocol; its text says which rule, for the log."""


@dataclass(frozen=True, slots=True)
class Will:
    """What is to be published when a connection ends without DISCONNECT."""

    topic: str
    payload: bytes
    qos: int
    retain: bool


@dataclass(frozen=True, slots=True)
class Connect:
    """A CONNECT packet. `level` is the protocol's, 4 for 3.1.1; `username` is None for one who gives no name."""

    level: int
    client_id: str
    clean: bool
    keep_alive_s: int
    username: str | None = None
    password: bytes | None = None
    will: Will | None = None

    def __repr__(self) -> str:
        return f"Connect(client_id={self.client_id!r}, username={self.username!r})"


class _Reader:
    """Takes a packet's body apart from left to right and never reads beyond its end."""

    __slots__ = ("data", "name", "pos")

    def __init__(self, data: bytes, name: str) -> None:
        self.data = data
        self.name = name
        self.pos = 0

    def fail(self, rule: str) -> NoReturn:
        raise MalformedPacket(f"{self.name}: {rule}")

    @property
    def left(self) -> int:
        return len(self.data) - self.pos

    def byte(self, field: str) -> int:
        if not self.left:
            self.fail(f"ends before {field}")
        self.pos += 1
        return self.data[self.pos - 1]

    def number(self, field: str) -> int:
        if self.left < 2:
            self.fail(f"ends before {field}")
        self.pos += 2
        return int.from_bytes(self.data[self.pos - 2 : self.pos], "big")

    def binary(self, field: str) -> bytes:
        length = self.number(field)
        if self.left < length:
            self.fail(f"ends within {field}")
        self.pos += length
        return self.data[self.pos - length : self.pos]

    def string(self, field: str) -> str:
        return decode_string(self.binary(field), f"{self.name}: {field}")

    def packet_id(self) -> int:
        packet_id = self.number("the packet identifier")
        return packet_id or self.fail("the packet identifier is 0")

    def end(self) -> None:
        if self.left:
            self.fail(f"has {self.left} bytes too many")


def decode_string(data: bytes, what: str) -> str:
    """A UTF-8 string of the wire: no NUL (1.5.3-2), no surrogates, which Python's decoder refuses (1.5.3-1)."""
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise MalformedPacket(f"{what} is not valid UTF-8") from None
    if "\0" in text:
        raise MalformedPacket(f"{what} holds U+0000")
    return text


def parse_connect(body: bytes) -> Connect:
    """The body of a CONNECT packet; an unknown protocol level is returned as it is, for CONNACK 1."""
    reader = _Reader(body, "CONNECT")
    protocol = reader.binary("the protocol name")
    if protocol not in {b"MQTT", b"MQIsdp"}:
        reader.fail("the protocol name is not MQTT")
    level = reader.byte("the protocol level")
    if protocol != b"MQTT" or level != 4:
        return Connect(level if level != 4 else 3, "", True, 0)
    flags = reader.byte("the connect flags")
    keep_alive_s = reader.number("the keep-alive")
    if flags & 1:
        reader.fail("the reserved flag is set")
    has_will = bool(flags & 4)
    will_qos = flags >> 3 & 3
    if will_qos == 3:
        reader.fail("the Will's QoS is 3")
    if not has_will and flags & 0x38:
        reader.fail("flags of a Will without a Will")
    if flags & 0x40 and not flags & 0x80:
        reader.fail("a password without a username")
    client_id = reader.string("the client id")
    will = None
    if has_will:
        topic = reader.string("the Will's topic")
        will = Will(topic, reader.binary("the Will's payload"), will_qos, bool(flags & 0x20))
    username = reader.string("the username") if flags & 0x80 else None
    password = reader.binary("the password") if flags & 0x40 else None
    reader.end()
    return Connect(level, client_id, bool(flags & 2), keep_alive_s, username, password, will)


def parse_subscribe(body: bytes) -> tuple[int, list[tuple[str, int]]]:
    """The body of a SUBSCRIBE packet: its identifier, and the filters with the QoS asked for."""
    reader = _Reader(body, "SUBSCRIBE")
    packet_id = reader.packet_id()
    asked: list[tuple[str, int]] = []
    while reader.left:
        topic_filter = reader.string("a topic filter")
        qos = reader.byte("the QoS asked for")
        if qos > 2:
            reader.fail("the QoS asked for is more than 2")
        asked.append((topic_filter, qos))
    if not asked:
        reader.fail("holds no topic filter")
    return packet_id, asked


def parse_unsubscribe(body: bytes) -> tuple[int, list[str]]:
    """The body of an UNSUBSCRIBE packet: its identifier and the filters."""
    reader = _Reader(body, "UNSUBSCRIBE")
    packet_id = reader.packet_id()
    filters: list[str] = []
    while reader.left:
        filters.append(reader.string("a topic filter"))
    if not filters:
        reader.fail("holds no topic filter")
    return packet_id, filters


def connack(code: int, *, session_present: bool = False) -> bytes:
    return bytes((0x20, 2, session_present, code))


def suback(packet_id: int, codes: list[int]) -> bytes:
    return b"".join((b"\x90", encode_length(2 + len(codes)), packet_id.to_bytes(2, "big"), bytes(codes)))


def unsuback(packet_id: int) -> bytes:
    return b"\xb0\x02" + packet_id.to_bytes(2, "big")


def encode_length(length: int) -> bytes:
    """The remaining length as one to four bytes."""
    if length < 0x80:
        return bytes((length,))
    encoded = bytearray()
    while True:
        length, digit = divmod(length, 0x80)
        if not length:
            encoded.append(digit)
            return bytes(encoded)
        encoded.append(digit | 0x80)
