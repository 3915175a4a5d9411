"""Opens the ports: MQTT over TCP, and MQTT over WebSocket on a port of its own, each with TLS when so asked."""

import asyncio
import errno
import functools
import socket
from collections.abc import Callable
from typing import Final

import structlog
from amqtt.contexts import ListenerConfig, ListenerType

from broker.embedded.broker import Broker
from broker.embedded.connection import Connection
from broker.embedded.limits import CONNECT_TIMEOUT_S, MAX_STRANGERS
from broker.embedded.tls import Certificate
from broker.embedded.websocket import WebSocketConnection

log = structlog.get_logger(__name__)

BACKLOG: Final = 1_024
# A peer that vanished without a word and has no keep-alive of its own is noticed by the system.
_KEEP_ALIVE: Final = (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 15), ("TCP_KEEPCNT", 4))
# Without a free descriptor nobody can be accepted, and the next attempt fails as well.
_BREATHE_S: Final = 0.5


Client = Connection | WebSocketConnection


class PortUnavailable(OSError):
    """A port that the broker needs cannot be opened; the message says which and why."""


def listener(kind: ListenerType, host: str, port: int) -> ListenerConfig:
    """One listener, in amqtt's form."""
    return ListenerConfig(type=kind, bind=f"{host}:{port}")


class Server:
    """One open port, on as many addresses as its host has."""

    def __init__(self, broker: Broker, make: Callable[[], Client], certificate: Certificate | None) -> None:
        self._broker = broker
        self._make = make
        self._certificate = certificate
        self._plain: list[asyncio.Server] = []
        self._accepting: list[asyncio.Task[None]] = []
        # The oldest first.
        self._handshakes: dict[asyncio.Task[None], None] = {}

    async def serve(self, sockets: list[socket.socket]) -> None:
        """Accept on these from now on."""
        for listening in sockets:
            if self._certificate is None:
                self._plain.append(await self._broker.loop.create_server(self._make, sock=listening, backlog=BACKLOG))
            else:
                accepting = self._accept(listening, self._certificate)
                self._accepting.append(self._broker.loop.create_task(accepting))

    def close(self) -> None:
        """Accept nobody more."""
        for server in self._plain:
            server.close()
        for task in (*self._accepting, *self._handshakes):
            task.cancel()

    async def _accept(self, listening: socket.socket, certificate: Certificate) -> None:
        """Accept by hand: an address that has too many connections is not worth the price of a TLS handshake."""
        loop = self._broker.loop
        try:
            while True:
                try:
                    sock, peer = await loop.sock_accept(listening)
                except OSError as error:
                    log.warning("listener.cannot_accept", error=str(error))
                    await asyncio.sleep(_BREATHE_S)
                    continue
                if not self._broker.welcomes(peer[0]):
                    sock.close()
                    continue
                if len(self._handshakes) >= MAX_STRANGERS:
                    # Whoever means it is quick; else a few who never finish would keep everybody out.
                    oldest = next(iter(self._handshakes))
                    del self._handshakes[oldest]
                    oldest.cancel()
                client = self._make()
                client.is_counted()
                task = loop.create_task(self._shake_hands(sock, client, certificate))
                self._handshakes[task] = None
                task.add_done_callback(functools.partial(self._shaken, sock, client, peer[0]))
        finally:
            listening.close()

    async def _shake_hands(self, sock: socket.socket, client: Client, certificate: Certificate) -> None:
        await self._broker.loop.connect_accepted_socket(
            lambda: client, sock, ssl=certificate.context, ssl_handshake_timeout=CONNECT_TIMEOUT_S
        )

    def _shaken(self, sock: socket.socket, client: Client, address: str, task: asyncio.Task[None]) -> None:
        self._handshakes.pop(task, None)
        error = None if task.cancelled() else task.exception()
        if task.cancelled() or error is not None:
            log.info("connection.no_tls", peer=address, reason=str(error) or type(error).__name__)
        # Once it is a connection, its end is what uncounts it.
        if not client.peer:
            sock.close()
            self._broker.guard.closed(address)


async def listen(broker: Broker, config: ListenerConfig, certificate: Certificate | None = None) -> Server:
    """Open one listener; raises `PortUnavailable`."""
    host, _, port = (config.bind or "").rpartition(":")
    over_websocket = config.type == ListenerType.WS

    def make() -> Client:
        return WebSocketConnection(broker) if over_websocket else Connection(broker)

    server = Server(broker, make, certificate)
    try:
        sockets = await _open(broker.loop, host.strip("[]") or None, int(port))
    except OSError as error:
        why = "is taken by another program" if error.errno == errno.EADDRINUSE else f"cannot be opened ({error})"
        raise PortUnavailable(f"port {port} on {host} {why}") from error
    await server.serve(sockets)
    return server


async def _open(loop: asyncio.AbstractEventLoop, host: str | None, port: int) -> list[socket.socket]:
    """A listening socket on each of the host's addresses; raises OSError."""
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    sockets: list[socket.socket] = []
    try:
        for family, kind, protocol, _, address in dict.fromkeys(found):
            listening = socket.socket(family, kind, protocol)
            sockets.append(listening)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            _probe_the_silent(listening)
            listening.setblocking(False)
            listening.bind(address)
            listening.listen(BACKLOG)
    except OSError:
        for listening in sockets:
            listening.close()
        raise
    return sockets


def _probe_the_silent(listening: socket.socket) -> None:
    """Let accepted connections inherit TCP keep-alive."""
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _KEEP_ALIVE:
        number = getattr(socket, option, None)
        if number is not None:
            listening.setsockopt(socket.IPPROTO_TCP, number, value)
