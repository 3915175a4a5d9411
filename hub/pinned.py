"""TLS to our own broker: hub and web trust exactly the certificate of the settings, whatever name it was made for."""

import re
import socket
import ssl
from pathlib import Path
from typing import Final

_FIRST: Final = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


class Pinned:
    """A certificate file, read again when it has changed: the broker takes a new one without a restart."""

    def __init__(self, cert_file: Path) -> None:
        self._file = cert_file
        self._seen: tuple[int, int, int] | None = None
        self._context: ssl.SSLContext | None = None

    def context(self) -> ssl.SSLContext:
        """A client's context that trusts the file's first certificate alone; raises OSError when it is not usable.

        The others of the file are those that signed it. Whatever else they signed must not be taken for our broker.
        """
        stat = self._file.stat()
        seen = (stat.st_ino, stat.st_mtime_ns, stat.st_size)
        if self._context is None or seen != self._seen:
            self._context, self._seen = _trusting(self._file), seen
        return self._context


class PinnedContext(ssl.SSLContext):
    """For libraries that take one context for ever: each connection is wrapped by that of `pinned` at the time."""

    pinned: Pinned

    def wrap_socket(  # type: ignore[override]  # what our one caller passes
        self, sock: socket.socket, *, server_hostname: str | None = None, do_handshake_on_connect: bool = True
    ) -> ssl.SSLSocket:
        """As the library's own, with the certificate that the file holds now."""
        return self.pinned.context().wrap_socket(
            sock, server_hostname=server_hostname, do_handshake_on_connect=do_handshake_on_connect
        )


def for_paho(cert_file: Path) -> PinnedContext:
    """A context for a client that reconnects by itself."""
    context = PinnedContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.pinned = Pinned(cert_file)
    return context


def _trusting(cert_file: Path) -> ssl.SSLContext:
    try:
        found = _FIRST.search(cert_file.read_text(encoding="ascii"))
        if found is None:
            raise ssl.SSLError(f"{cert_file} holds no certificate")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.check_hostname = False
        # It is trusted itself, whoever signed it.
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.load_verify_locations(cadata=found.group())
    except ValueError:
        raise ssl.SSLError(f"{cert_file} holds no certificate") from None
    return context
