"""Runs the web app: `python -m web`, settings from the environment (MARVAIN_…)."""

import contextlib
import errno
import os
import signal
import socket
import sys
from types import FrameType

import structlog
import uvicorn
from psycopg import OperationalError
from pydantic import ValidationError

from hub import logs, migrations
from hub.errors import HubError
from hub.settings import Settings
from web.app import create_app

log = structlog.get_logger("web")


class Server(uvicorn.Server):
    """uvicorn, which says in our log when it is ready."""

    def __init__(self, config: uvicorn.Config, address: str) -> None:
        super().__init__(config)
        self._address = address

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Open for business, then say so."""
        await super().startup(sockets=sockets)
        if self.started:
            log.info("web.ready", address=self._address)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002  uvicorn's signature
        """Stop in order. uvicorn would raise the signal once more at the end; for us it is the ordinary way to end."""
        if self.should_exit and sig == signal.SIGINT:
            self.force_exit = True
        self.should_exit = True


def main() -> int:
    """Serve until told to stop. Exit codes: 0 stopped, 69 a part or the port is not there, 78 settings or schema."""
    try:
        settings = Settings()
    except ValidationError as error:
        for fault in error.errors():
            name = "_".join(str(part) for part in fault["loc"]).upper()
            sys.stderr.write(f"MARVAIN_{name}: {fault['msg']}\n")
        return os.EX_CONFIG
    logs.configure(settings)
    try:
        migrations.check(settings.database_url)
    except HubError as error:
        log.error("web.cannot_start", reason=error.message)
        return os.EX_CONFIG
    except OperationalError as error:
        log.error("web.cannot_start", reason="the database does not answer", error=str(error).strip())
        return os.EX_UNAVAILABLE
    try:
        listener = _listen(settings)
    except OSError as error:
        taken = error.errno == errno.EADDRINUSE
        reason = "the port is taken; set MARVAIN_WEB_PORT to another" if taken else str(error)
        log.error("web.cannot_start", reason=reason, host=settings.web_host, port=settings.web_port)
        return os.EX_UNAVAILABLE
    config = uvicorn.Config(
        create_app(settings),
        log_config=None,
        log_level="warning",
        access_log=False,
        server_header=False,
        # Without declared proxies the X-Forwarded-… headers are anybody's and count for nothing.
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=settings.trusted_proxies,
        timeout_graceful_shutdown=5,
        timeout_keep_alive=30,
        ws_max_size=1_048_576,
        # What goes through is a few bytes at a time, and mostly bound for this machine.
        ws_per_message_deflate=False,
    )
    host, port = listener.getsockname()[:2]
    server = Server(config, f"http://{f'[{host}]' if ':' in host else host}:{port}")
    with contextlib.suppress(KeyboardInterrupt):
        server.run(sockets=[listener])
    log.info("web.stopped")
    return os.EX_OK


def _listen(settings: Settings) -> socket.socket:
    """Bound here rather than by uvicorn, so that a port that is taken is our message and our exit code."""
    family, kind, protocol, _, address = socket.getaddrinfo(
        settings.web_host, settings.web_port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    return listener


if __name__ == "__main__":
    sys.exit(main())
