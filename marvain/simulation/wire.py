"""MQTT 3.1.1 as far as a simulated satellite needs it: no library spends so little on a connection that is idle."""

import asyncio
import struct
from collections.abc import Callable
from typing import Final

CONNACK: Final = 2
PUBLISH: Final = 3
PUBACK: Final = 4
_REFUSED: Final = {1: "the protocol", 2: "the client id", 3: "it is not available", 4: "the token", 5: "not authorised"}


class Link(asyncio.Protocol):
    """One connection; `on_message` gets topic and payload, `on_puback` that one publish was acknowledged."""

    def __init__(
        self,
        connect: bytes,
        on_open: Callable[[], None],
        on_message: Callable[[str, bytes], None],
        on_puback: Callable[[], None],
        on_closed: Callable[[str], None],
    ) -> None:
        self._connect = connect
        self._on_open = on_open
        self._on_message = on_message
        self._on_puback = on_puback
        self._on_closed = on_closed
        self._transport: asyncio.Transport | None = None
        self._rest = b""
        self._packet_id = 0
        self._why = "the broker closed the connection"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101  (TCP)
        self._transport = transport
        transport.write(self._connect)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._on_closed(str(exc) if exc else self._why)

    def data_received(self, data: bytes) -> None:
        buffer = self._rest + data if self._rest else data
        start = 0
        while (found := _packet(buffer, start)) is not None:
            kind, flags, body, start = found
            self._take(kind, flags, body)
        self._rest = buffer[start:]

    def publish(self, topic: bytes, payload: bytes, qos: int = 1, *, retain: bool = False) -> None:
        """Nothing when the connection is gone: whoever keeps what was not answered sends it again."""
        if self._transport is not None:
            self._transport.write(publish(topic, payload, qos, self._next_id() if qos else 0, retain=retain))

    def subscribe(self, filters: list[str]) -> None:
        body = struct.pack("!H", self._next_id()) + b"".join(_text(one.encode()) + b"\x01" for one in filters)
        self._write(0x82, body)

    def ping(self) -> None:
        self._write(0xC0, b"")

    def close(self) -> None:
        """With DISCONNECT, so without a Will."""
        self._write(0xE0, b"")
        if self._transport is not None:
            self._transport.close()

    def _write(self, first: int, body: bytes) -> None:
        if self._transport is not None:
            self._transport.write(bytes([first]) + _length(len(body)) + body)

    def _next_id(self) -> int:
        self._packet_id = self._packet_id % 65_535 + 1
        return self._packet_id

    def _take(self, kind: int, flags: int, body: bytes) -> None:
        if kind == PUBLISH:
            end = 2 + int.from_bytes(body[:2])
            topic, payload = body[2:end].decode(), body[end:]
            if flags & 6:
                self._write(0x40, payload[:2])
                payload = payload[2:]
            self._on_message(topic, payload)
        elif kind == PUBACK:
            self._on_puback()
        elif kind == CONNACK:
            if body[1]:
                self._why = f"the broker refuses: {_REFUSED.get(body[1], 'unknown')}"
            else:
                self._on_open()


def connect(client_id: str, password: str, will_topic: bytes, will: bytes, keepalive_s: int) -> bytes:
    """CONNECT with a clean session and a retained Will at QoS 1; the client id is the username too."""
    flags = 0b1110_1110
    name = _text(client_id.encode())
    body = _text(b"MQTT") + bytes([4, flags]) + struct.pack("!H", keepalive_s)
    body += name + _text(will_topic) + _text(will) + name + _text(password.encode())
    return b"\x10" + _length(len(body)) + body


def publish(topic: bytes, payload: bytes, qos: int, packet_id: int, *, retain: bool) -> bytes:
    """PUBLISH at QoS 0 or 1."""
    head = _text(topic) + (struct.pack("!H", packet_id) if qos else b"")
    return bytes([0x30 | qos << 1 | retain]) + _length(len(head) + len(payload)) + head + payload


def _packet(buffer: bytes, start: int) -> tuple[int, int, bytes, int] | None:
    """(kind, flags, body, where the next begins), or None while the packet is not whole."""
    length, shift, at = 0, 0, start + 1
    while True:
        if at >= len(buffer):
            return None
        byte = buffer[at]
        at += 1
        length |= (byte & 0x7F) << shift
        if byte < 0x80:
            break
        shift += 7
    if at + length > len(buffer):
        return None
    return buffer[start] >> 4, buffer[start] & 15, buffer[at : at + length], at + length


def _text(value: bytes) -> bytes:
    return struct.pack("!H", len(value)) + value


def _length(length: int) -> bytes:
    found = bytearray()
    while True:
        length, digit = divmod(length, 128)
        found.append(digit | (0x80 if length else 0))
        if not length:
            return bytes(found)
