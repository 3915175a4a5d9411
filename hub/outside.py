"""Requests to the world outside: a name is resolved once, its address judged and kept, and nothing is followed.

An answer may come from anybody: it is read up to a size and a time, whatever it says of itself.
"""

import ipaddress
import socket
import ssl
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import httpcore

from hub.errors import Forbidden, Invalid

URL_MAX: Final = 2_000
BODY_MAX: Final = 65_536
ANSWER_MAX: Final = 262_144
METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
# What is ours to say, or would change how the message is read.
_OWN_HEADERS: Final = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer", "cookie", "expect"}
)
_HEADERS_MAX: Final = 20
_HEADER_MAX: Final = 1_000
# Addresses that stand for IPv4 ones, or lead to them: 6to4, Teredo, and what is set aside for documents.
_NO_GLOBAL_V6: Final = tuple(
    ipaddress.IPv6Network(one) for one in ("2002::/16", "2001::/23", "2001:db8::/32", "3fff::/20")
)
_GLOBAL_V6: Final = ipaddress.IPv6Network("2000::/3")
_NO_GLOBAL_V4: Final = tuple(ipaddress.IPv4Network(one) for one in ("192.88.99.0/24", "192.0.0.0/24", "100.64.0.0/10"))
Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Unreachable(Exception):
    """It could not be reached, or did not answer in time. `was_sent`: it may have had the request."""

    def __init__(self, message: str, *, was_sent: bool) -> None:
        super().__init__(message)
        self.was_sent = was_sent


@dataclass(frozen=True, slots=True)
class Target:
    """A URL taken apart, and whether its host may be in a private network."""

    url: str
    scheme: str
    host: str
    port: int
    is_private_allowed: bool


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; `is_cut`: there was more."""

    status: int
    headers: dict[str, str]
    body: bytes
    is_cut: bool


def is_public(address: Address) -> bool:
    """Whether this address is one of the public internet's, and stands for no other."""
    if isinstance(address, ipaddress.IPv6Address):
        return address in _GLOBAL_V6 and address.is_global and not any(address in one for one in _NO_GLOBAL_V6)
    return (
        address.is_global
        and not address.is_multicast
        and not address.is_reserved
        and not any(address in one for one in _NO_GLOBAL_V4)
    )


def parse(url: str, private_hosts: str = "", field: str = "url") -> Target:
    """Take a URL apart; raises `Invalid` for any that is not a plain http or https one."""
    if len(url) > URL_MAX or not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        raise Invalid(f"is an http or https address of at most {URL_MAX:,} ASCII characters", field=field)
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        raise Invalid("is no address", field=field) from None
    host = (parts.hostname or "").rstrip(".")
    if parts.scheme not in ("http", "https") or not host:
        raise Invalid("begins with http:// or https://, followed by a host", field=field)
    if parts.username is not None or parts.password is not None:
        raise Invalid("holds no user name and no password", field=field)
    opened = {one.strip().lower() for one in private_hosts.split(",") if one.strip()}
    return Target(url, parts.scheme, host, port, f"{host}:{port}" in opened)


def check_headers(headers: Mapping[str, str], field: str = "headers") -> list[tuple[bytes, bytes]]:
    """The headers as they are sent; raises `Invalid` for those that are not the caller's to set."""
    if len(headers) > _HEADERS_MAX:
        raise Invalid(f"are at most {_HEADERS_MAX}", field=field)
    checked = []
    for name, value in headers.items():
        plain = name.isascii() and name.replace("-", "").isalnum() and 0 < len(name) <= 80
        if not plain or name.lower() in _OWN_HEADERS or name.lower().startswith("proxy-"):
            raise Invalid("is no header that can be set here", field=f"{field}.{name[:80]}")
        if len(value) > _HEADER_MAX or not value.isascii() or not (value.isprintable() or value == ""):
            raise Invalid(f"is at most {_HEADER_MAX:,} printable ASCII characters", field=f"{field}.{name}")
        checked.append((name.encode(), value.encode()))
    return checked


def resolve(target: Target) -> list[str]:
    """The addresses of the host, asked for this once; raises `Forbidden` unless all of them are public."""
    try:
        found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise Unreachable(f"{target.host} is not known", was_sent=False) from None
    addresses = list(dict.fromkeys(str(one[4][0]) for one in found))
    if not target.is_private_allowed:
        for one in addresses:
            if not is_public(ipaddress.ip_address(one.partition("%")[0])):
                raise Forbidden(f"{target.host} is not in the public internet; only the hub's operator can open it")
    return addresses


def request(
    target: Target,
    method: str,
    *,
    headers: Iterable[tuple[bytes, bytes]] = (),
    body: bytes = b"",
    within_s: float = 10.0,
) -> Answer:
    """Ask once; raises `Forbidden` for where it leads, `Unreachable` for silence. Redirects are answers like others."""
    deadline = time.monotonic() + within_s
    backend = _Pinned(resolve(target), deadline)
    given = list(headers)
    if not any(name.lower() == b"user-agent" for name, _ in given):
        given.append((b"user-agent", b"Marvain"))
    given.append((b"accept-encoding", b"identity"))
    with httpcore.ConnectionPool(
        ssl_context=ssl.create_default_context(), network_backend=backend, http2=False, retries=0
    ) as pool:
        try:
            with pool.stream(
                method, target.url, headers=given, content=body or None, extensions={"timeout": _left(deadline)}
            ) as answer:
                data, is_cut = bytearray(), False
                for chunk in answer.iter_stream():
                    data += chunk
                    if len(data) > ANSWER_MAX or time.monotonic() > deadline:
                        is_cut = True
                        break
                said = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in answer.headers}
                return Answer(answer.status, said, bytes(data[:ANSWER_MAX]), is_cut)
        except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError, OSError) as error:
            why = str(error).strip() or type(error).__name__
            raise Unreachable(f"{target.host}: {why}"[:500], was_sent=backend.is_connected) from None


def _left(deadline: float) -> dict[str, float]:
    left = max(0.1, deadline - time.monotonic())
    return dict.fromkeys(("connect", "read", "write", "pool"), left)


class _Pinned(httpcore.NetworkBackend):
    """Connects to the addresses that were judged, whatever the name says by now; and never longer than the deadline."""

    def __init__(self, addresses: list[str], deadline: float) -> None:
        self._addresses = addresses
        self._deadline = deadline
        self._backend = httpcore.SyncBackend()
        self.is_connected = False

    def connect_tcp(
        self,
        host: str,  # noqa: ARG002  (it was resolved already)
        port: int,
        timeout: float | None = None,  # noqa: ARG002
        local_address: str | None = None,  # noqa: ARG002
        socket_options: Any = None,  # noqa: ARG002
    ) -> httpcore.NetworkStream:
        last: Exception = httpcore.ConnectError("no address")
        for address in self._addresses:
            try:
                stream = self._backend.connect_tcp(address, port, timeout=max(0.1, self._deadline - time.monotonic()))
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                last = error
                continue
            self.is_connected = True
            return _Timed(stream, self._deadline)
        raise last


class _Timed(httpcore.NetworkStream):
    """A stream of which all together ends at the deadline: one byte now and then keeps nobody waiting."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: float) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ARG002
        return self._stream.read(max_bytes, self._left(httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ARG002
        self._stream.write(buffer, self._left(httpcore.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ARG002
    ) -> httpcore.NetworkStream:
        stream = self._stream.start_tls(ssl_context, server_hostname, self._left(httpcore.ConnectTimeout))
        return _Timed(stream, self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)

    def _left(self, late: type[Exception]) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise late("it took too long")
        return left
