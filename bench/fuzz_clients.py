"""Clients in memory: a transport that obeys like a socket, what a client sends over it, and what it heard."""

import asyncio
from typing import Any, Final

from bench import fuzz_rules
from broker.embedded.broker import Broker
from broker.embedded.connection import Connection
from broker.embedded.packets import encode_length
from broker.embedded.websocket import WebSocketConnection

HANDSHAKE: Final = (
    b"GET /mqtt HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"
)


class Pipe(asyncio.Transport):
    """A transport in memory: keeps what the broker writes, and obeys like a socket."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.reading = True
        self.closing = False
        self.said_end = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        assert not self.said_end, "written after the end was said"
        if not self.closing:
            self.written += data

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.said_end = True

    def is_closing(self) -> bool:
        return self.closing

    def is_reading(self) -> bool:
        return self.reading

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def close(self) -> None:
        self.closing = True

    def abort(self) -> None:
        self.closing = True

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("127.0.0.1", 1) if name == "peername" else default


class Client:
    """One end of a connection: what it has yet to send, and what it was sent."""

    def __init__(self, broker: Broker, serial: int, *, websocket: bool = False) -> None:
        self.serial = serial
        self.pipe = Pipe()
        self.websocket = websocket
        self.protocol: Any = WebSocketConnection(broker) if websocket else Connection(broker)
        self.protocol.connection_made(self.pipe)
        self.unsent = bytearray()
        self.name = ""
        self.heard = fuzz_rules.Heard()
        self.lost = False
        self.unreleased: dict[int, bytes] = {}
        if websocket:
            self.protocol.data_received(HANDSHAKE)
            self.pipe.written = self.pipe.written.partition(b"\r\n\r\n")[2]

    def feed(self, most: int = 1 << 20) -> None:
        """Hand over what is unsent, as far as the broker reads."""
        if self.lost or not self.pipe.reading or not self.unsent or self.pipe.closing:
            return
        data = bytes(self.unsent[:most])
        del self.unsent[:most]
        self.protocol.data_received(data)

    def lose(self, error: Exception | None = None) -> None:
        if not self.lost:
            self.lost = self.pipe.closing = True
            self.protocol.connection_lost(error)

    def hear(self) -> None:
        """Take apart what came; raises AssertionError when it is no MQTT."""
        if self.pipe.written:
            data = bytes(self.pipe.written)
            self.pipe.written.clear()
            self.heard.take(fuzz_rules.unframed(self.heard, data) if self.websocket else data)


def string(text: str) -> bytes:
    data = text.encode()
    return len(data).to_bytes(2, "big") + data


def packet(first: int, body: bytes) -> bytes:
    return bytes([first]) + encode_length(len(body)) + body


def connect(
    name: str,
    *,
    client_id: str = "",
    password: bytes = b"secret",
    level: int = 4,
    clean: bool = True,
    will: tuple[str, bytes, int, int] | None = None,
) -> bytes:
    flags = 0xC0 | (2 if clean else 0)
    fields = string(client_id or name)
    if will:
        flags |= 4 | will[2] << 3 | will[3] << 5
        fields += string(will[0]) + len(will[1]).to_bytes(2, "big") + will[1]
    fields += string(name) + len(password).to_bytes(2, "big") + password
    return packet(0x10, b"\0\4MQTT" + bytes([level, flags, 0, 60]) + fields)


def publish(topic: str, payload: bytes, qos: int, packet_id: int, *, retain: bool = False, dup: bool = False) -> bytes:
    head = 0x30 | qos << 1 | retain | (8 if dup and qos else 0)
    return packet(head, string(topic) + (packet_id.to_bytes(2, "big") if qos else b"") + payload)


def frame(opcode: int, data: bytes, *, final: bool = True) -> bytes:
    size = len(data)
    length = bytes([0x80 | size]) if size < 126 else bytes([0x80 | 126]) + size.to_bytes(2, "big")
    return bytes([opcode | (0x80 if final else 0)]) + length + b"\0\0\0\0" + data
