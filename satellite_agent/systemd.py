"""What systemd is told: that the satellite is ready, that it still moves, and how it is (sd_notify, in a few lines)."""

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Final

log = logging.getLogger(__name__)

_STATUS_EVERY_S: Final = 30.0


class Systemd:
    """Without NOTIFY_SOCKET in the environment nothing is told to anybody."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        # An abstract socket's name begins with a zero byte, which the environment writes as @.
        self._address = "\0" + address[1:] if address.startswith("@") else address
        watchdog, pid = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", "")
        is_ours = watchdog.isdecimal() and pid in ("", str(os.getpid()))
        self._every_s = min(_STATUS_EVERY_S, int(watchdog) / 2e6) if is_ours and int(watchdog) else _STATUS_EVERY_S

    def tell(self, *lines: str) -> None:
        """Send lines such as READY=1; that they cannot be sent is no fault of the satellite's work."""
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as link:
                link.connect(self._address)
                link.sendall("\n".join(lines).encode())
        except OSError as error:
            log.debug("systemd cannot be told %s: %s", lines, error)

    async def keep_telling(self, status: Callable[[], str]) -> None:
        """Until cancelled. It runs in the loop that does everything: when that stands still, systemd hears nothing."""
        if not self._address:
            return
        while True:
            self.tell("WATCHDOG=1", f"STATUS={status()}")
            await asyncio.sleep(self._every_s)

    @contextlib.asynccontextmanager
    async def told(self, status: Callable[[], str]) -> AsyncIterator[None]:
        """Ready while the context lasts."""
        self.tell("READY=1", f"STATUS={status()}")
        telling = asyncio.create_task(self.keep_telling(status))
        try:
            yield
        finally:
            telling.cancel()
            self.tell("STOPPING=1")
