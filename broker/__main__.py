"""Runs the embedded broker: `python -m broker`, settings from the environment, until SIGTERM or SIGINT."""

import asyncio
import signal
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import psycopg
import structlog
from amqtt.contexts import ListenerType
from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError

from broker.embedded.authority import DatabaseAuthority
from broker.embedded.broker import Broker
from broker.embedded.listener import PortUnavailable, listen, listener
from broker.embedded.refusals import Refusals
from hub import logs
from hub.database import Database
from hub.errors import HubError
from hub.settings import Settings

log = structlog.get_logger(__name__)

OK: Final = 0
UNAVAILABLE: Final = 69
CONFIG: Final = 78
# Threads that ask the database; each holds a connection while it asks.
_THREADS: Final = 4


async def serve(settings: Settings, stop: asyncio.Event) -> None:
    """Run until `stop` is set; raises PortUnavailable, SQLAlchemyError or psycopg.Error when it cannot start."""
    database = Database(
        settings.database_url, pool_size=_THREADS + 1, statement_timeout_s=10.0, application_name="marvain broker"
    )
    executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="database")
    authority = DatabaseAuthority(database, executor, settings.root)
    refusals = Refusals(database, executor)
    broker = Broker(authority, refusals, settings.root)
    servers: list[asyncio.Server] = []
    try:
        await asyncio.to_thread(authority.start, broker.changed, broker.review_all)
        for kind, port in ((ListenerType.TCP, settings.mqtt_port), (ListenerType.WS, settings.ws_port)):
            servers.append(await listen(broker, listener(kind, settings.broker_host, port)))
        refusals.start()
        log.info("broker.ready", host=settings.broker_host, mqtt_port=settings.mqtt_port, ws_port=settings.ws_port)
        await stop.wait()
        log.info("broker.stopping", connections=len(broker.connections))
    finally:
        for server in servers:
            server.close()
        await broker.close()
        await authority.close()
        await refusals.close()
        executor.shutdown()
        database.close()


async def _run(settings: Settings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await serve(settings, stop)


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
