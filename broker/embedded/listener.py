"""Opens the ports: MQTT over TCP, and MQTT over WebSocket on a port of its own."""

import asyncio
import errno
import socket
from typing import Final

from amqtt.contexts import ListenerConfig, ListenerType

from broker.embedded.broker import Broker
from broker.embedded.connection import Connection
from broker.embedded.websocket import WebSocketConnection

BACKLOG: Final = 1_024
# A peer that vanished without a word and has no keep-alive of its own is noticed by the system.
_KEEP_ALIVE: Final = (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 4))


class PortUnavailable(OSError):
    """A port that the broker needs cannot be opened; the message says which and why."""


def listener(kind: ListenerType, host: str, port: int) -> ListenerConfig:
    """One listener, in amqtt's form."""
    return ListenerConfig(type=kind, bind=f"{host}:{port}")


async def listen(broker: Broker, config: ListenerConfig) -> asyncio.Server:
    """Open one listener; raises `PortUnavailable`."""
    host, _, port = (config.bind or "").rpartition(":")

    def connection() -> asyncio.Protocol:
        return WebSocketConnection(broker) if config.type == ListenerType.WS else Connection(broker)

    try:
        server = await broker.loop.create_server(connection, host.strip("[]") or None, int(port), backlog=BACKLOG)
    except OSError as error:
        why = "is taken by another program" if error.errno == errno.EADDRINUSE else f"cannot be opened ({error})"
        raise PortUnavailable(f"port {port} on {host} {why}") from error
    for listening in server.sockets:
        _probe_the_silent(listening)
    return server


def _probe_the_silent(listening: object) -> None:
    """Let accepted connections inherit TCP keep-alive."""
    sock = getattr(listening, "_sock", listening)
    if not isinstance(sock, socket.socket):
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _KEEP_ALIVE:
        number = getattr(socket, option, None)
        if number is not None:
            sock.setsockopt(socket.IPPROTO_TCP, number, value)
