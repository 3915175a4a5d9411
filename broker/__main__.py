"""Runs the broker of the settings, or what drives it: `python -m broker`, until SIGTERM or SIGINT."""

import asyncio
import signal
import sys
from collections.abc import Awaitable, Callable
from typing import Final

import psycopg
import structlog
from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError

from hub import logs
from hub.errors import HubError
from hub.settings import Settings

log = structlog.get_logger(__name__)

OK: Final = 0
UNAVAILABLE: Final = 69
CONFIG: Final = 78


async def _run(settings: Settings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await _service(settings)(settings, stop)


def _service(settings: Settings) -> Callable[[Settings, asyncio.Event], Awaitable[None]]:
    """Imported when it is asked for: each loads libraries that the others do not need."""
    if settings.broker == "embedded":
        from broker.embedded.service import serve  # noqa: PLC0415

        return serve
    if settings.broker == "external" and settings.broker_adapter == "http":
        from broker.http_auth import serve as serve_http  # noqa: PLC0415

        return serve_http
    from broker.mosquitto.service import serve as serve_mosquitto  # noqa: PLC0415

    return serve_mosquitto


def main() -> int:
    """Run; the exit code is 0 after a signal, 69 when a port or the database is not to be had, 78 for bad settings.

    78 also where Mosquitto is asked for and not installed.
    """
    try:
        settings = Settings()
        logs.configure(settings)
    except ValidationError as error:
        for problem in error.errors(include_url=False, include_input=False):
            name = "_".join(str(part) for part in problem["loc"]).upper()
            sys.stderr.write(f"setting MARVAIN_{name}: {problem['msg']}\n")
        return CONFIG
    try:
        with asyncio.Runner(loop_factory=_loop_factory(settings)) as runner:
            runner.run(_run(settings))
    except OSError as error:
        log.error("broker.cannot_start", reason=str(error))
        return UNAVAILABLE
    except (psycopg.Error, SQLAlchemyError) as error:
        log.error("broker.cannot_start", reason=f"the database is away: {str(error).strip()}")
        return UNAVAILABLE
    except HubError as error:
        log.error("broker.cannot_start", reason=error.message)
        return CONFIG
    log.info("broker.stopped")
    return OK


def _loop_factory(settings: Settings) -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Uvloop for the broker whose data path it is; the others start processes as only the standard loop can."""
    if settings.broker != "embedded":
        return None
    try:
        import uvloop  # noqa: PLC0415 - an optional part
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


if __name__ == "__main__":
    sys.exit(main())
