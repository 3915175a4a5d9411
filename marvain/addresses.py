"""Addresses and whether something answers there."""

import asyncio
import contextlib
import ipaddress
import socket

ANYWHERE = {"", "0.0.0.0", "::", "*"}  # noqa: S104  compared with, never bound to
CONNECT_TIMEOUT_S = 2.0


def to_dial(host: str) -> str:
    """Where this machine reaches a server that is bound to `host`."""
    return "127.0.0.1" if host in ANYWHERE else host


def join(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def split(address: str) -> tuple[str, int]:
    """The reverse of `join`."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def seen_from_outside(host: str) -> str:
    """What other machines dial to reach a server bound to `host`: this machine's address when it is bound to all."""
    if host not in ANYWHERE:
        return host
    # Connecting a datagram socket sends nothing; the kernel only picks the address it would send from.
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))
        found = str(probe.getsockname()[0])
        if not ipaddress.ip_address(found).is_loopback:
            return found
    return socket.gethostname()


async def listens(host: str, port: int) -> bool:
    """Whether a TCP connection is accepted."""
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            _, writer = await asyncio.open_connection(host, port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True


async def answers_http(host: str, port: int, path: str) -> bool:
    """Whether a GET is answered, with anything but an error of the server."""
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(f"GET {path} HTTP/1.1\r\nHost: {join(host, port)}\r\nConnection: close\r\n\r\n".encode())
                status = (await reader.readline()).split()
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False
    return len(status) > 1 and status[1][:1] in {b"2", b"3", b"4"}
