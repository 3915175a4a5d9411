"""paho's client with a buffer before its socket: it asks the system for every few bytes, and waits before every packet.

Each of those calls lets the interpreter's lock go, and gets it back only when the thread that stores has had its turn:
under load that thread gets most of them. With the buffer hundreds of packets cost one call.
"""

from typing import Any, Final

import paho.mqtt.client as paho
from paho.mqtt.enums import MQTTErrorCode

READ_BYTES: Final = 256 * 1024
# After so many packets what waits to be sent has its turn.
PACKETS_AT_ONCE: Final = 200


class ReadAhead:
    """A socket that reads more than it is asked for; all else is the socket's own."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self._read = b""
        self._at = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    @property
    def buffered(self) -> int:
        """Bytes that are here already."""
        return len(self._read) - self._at

    def recv(self, size: int) -> bytes:
        """Up to `size` bytes; raises what the socket does when there are none."""
        if self._at == len(self._read):
            self._read, self._at = b"", 0
            self._read = self._inner.recv(READ_BYTES)
        piece: bytes = self._read[self._at : self._at + size]
        self._at += len(piece)
        return piece

    def pending(self) -> int:
        """Bytes that can be read though the system knows nothing of them; paho asks before it waits."""
        inner = getattr(self._inner, "pending", None)
        return self.buffered + (inner() if inner is not None else 0)


class Client(paho.Client):
    """paho's client, reading ahead."""

    def _create_socket(self) -> Any:
        return ReadAhead(super()._create_socket())

    def loop_read(self, max_packets: int = 1) -> MQTTErrorCode:
        """Read what has come, as far as it is here."""
        for _ in range(PACKETS_AT_ONCE):
            code = super().loop_read(max_packets)
            socket = self._sock
            if code or not isinstance(socket, ReadAhead) or not socket.buffered:
                return code
        return MQTTErrorCode.MQTT_ERR_SUCCESS
