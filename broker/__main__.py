"""Runs the embedded broker: `python -m broker`, settings from the environment, until SIGTERM or SIGINT."""

import asyncio
import signal
import sys
from collections.abc import Callable
from typing import Final

import psycopg
import structlog
from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError

from broker.embedded import service
from broker.embedded.listener import PortUnavailable
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
    await service.serve(settings, stop)


def main() -> int:
    """Run; the exit code is 0 after a signal, 69 when a port or the database is not to be had, 78 for bad settings."""
    try:
        settings = Settings()
        logs.configure(settings)
    except ValidationError as error:
        for problem in error.errors(include_url=False, include_input=False):
            name = "_".join(str(part) for part in problem["loc"]).upper()
            sys.stderr.write(f"setting MARVAIN_{name}: {problem['msg']}\n")
        return CONFIG
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(_run(settings))
    except PortUnavailable as error:
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


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop  # noqa: PLC0415 - an optional part
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


if __name__ == "__main__":
    sys.exit(main())
