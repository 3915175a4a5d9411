"""MQTT over WebSocket: frames in, the same connection behind them, frames out (MQTT 3.1.1, chapter 6)."""

import asyncio
from collections.abc import Iterable
from typing import Any, Final, cast

import structlog
from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Request
from websockets.protocol import State
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from broker.embedded.broker import Broker
from broker.embedded.connection import Connection
from broker.embedded.limits import MAX_CONNECT_BYTES
from broker.embedded.packets import MalformedPacket

log = structlog.get_logger(__name__)

SUBPROTOCOL: Final = Subprotocol("mqtt")
PATHS: Final = frozenset({"/", "/mqtt"})
# A frame may carry several packets of the largest size.
MOST_PACKETS: Final = 4


class WebSocketConnection(asyncio.Protocol):
    """Speaks WebSocket with the peer and hands the bytes within to a `Connection`."""

    def __init__(self, broker: Broker) -> None:
        # Of a stranger less is taken at a time.
        self._protocol = ServerProtocol(subprotocols=[SUBPROTOCOL], max_size=MAX_CONNECT_BYTES)
        self._mqtt = Connection(broker, "websocket")
        self._transport: asyncio.Transport

    @property
    def peer(self) -> str:
        """Whose connection it is; "" before there is one."""
        return self._mqtt.peer

    def is_counted(self) -> None:
        """Its address was asked for room already."""
        self._mqtt.is_counted()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but name
        self._transport = transport
        self._mqtt.connection_made(FramedTransport(transport, self._protocol))

    def data_received(self, data: bytes) -> None:
        if self._mqtt.session is not None:
            self._protocol.max_size = MOST_PACKETS * self._mqtt.max_packet_bytes
        self._protocol.receive_data(data)
        for event in self._protocol.events_received():
            if isinstance(event, Request):
                self._shake_hands(event)
            elif isinstance(event, Frame):
                self._frame(event)
        write_out(self._protocol, self._transport)

    def eof_received(self) -> bool:
        self._protocol.receive_eof()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._mqtt.connection_lost(exc)

    def pause_writing(self) -> None:
        self._mqtt.pause_writing()

    def resume_writing(self) -> None:
        self._mqtt.resume_writing()

    def _shake_hands(self, request: Request) -> None:
        protocol = self._protocol
        if request.path.partition("?")[0] not in PATHS:
            protocol.send_response(protocol.reject(404, "MQTT over WebSocket is at /mqtt.\n"))
            return
        response = protocol.accept(request)
        protocol.send_response(response)
        if protocol.state is not State.OPEN:
            log.info("websocket.refused", peer=self._mqtt.peer, status=response.status_code)

    def _frame(self, frame: Frame) -> None:
        if frame.opcode in {Opcode.BINARY, Opcode.CONT}:
            self._mqtt.data_received(bytes(frame.data))
        elif frame.opcode is Opcode.TEXT:
            # 6.0.0-1: only binary frames carry MQTT.
            if self._protocol.state is State.OPEN:
                self._protocol.fail(CloseCode.UNSUPPORTED_DATA, "MQTT needs binary frames")
            self._mqtt.fail("sent a text frame; MQTT over WebSocket needs binary ones")
        elif frame.opcode is Opcode.PING:
            try:
                self._mqtt.answered(2 + len(frame.data))
            except MalformedPacket as error:
                self._mqtt.fail(str(error))
                self._transport.abort()
        elif frame.opcode is Opcode.CLOSE:
            self._mqtt.close("the peer closed the WebSocket", publish_will=True)


class FramedTransport(asyncio.Transport):
    """What the MQTT connection writes to: each write becomes one binary frame."""

    def __init__(self, transport: asyncio.Transport, protocol: ServerProtocol) -> None:
        super().__init__()
        self._transport = transport
        self._protocol = protocol

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._protocol.state is State.OPEN:
            self._protocol.send_binary(bytes(data))
            write_out(self._protocol, self._transport)

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        self.write(b"".join(list_of_data))

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        """Say goodbye; the peer's own close frame, its end of file, or the connection's patience ends it."""
        if self._protocol.state is State.OPEN:
            self._protocol.send_close(CloseCode.NORMAL_CLOSURE)
        write_out(self._protocol, self._transport)
        if self._protocol.state is State.CONNECTING and not self._transport.is_closing():
            self._transport.close()

    def close(self) -> None:
        self.write_eof()
        self._transport.close()

    def abort(self) -> None:
        self._transport.abort()

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def is_reading(self) -> bool:
        return self._transport.is_reading()

    def pause_reading(self) -> None:
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._transport.get_extra_info(name, default)


def write_out(protocol: ServerProtocol, transport: asyncio.Transport) -> None:
    """Send what the WebSocket protocol has to say; an empty piece of it means the end."""
    for data in protocol.data_to_send():
        if transport.is_closing():
            return
        if data:
            transport.write(data)
        elif transport.can_write_eof():
            transport.write_eof()
        else:
            transport.close()
