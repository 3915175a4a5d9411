"""The embedded broker as a service: database, listeners, store and reports put together, until told to stop."""

import asyncio
import signal
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, Final

import structlog
from amqtt.contexts import ListenerType

from broker.embedded import tls
from broker.embedded.authority import DatabaseAuthority
from broker.embedded.broker import Broker
from broker.embedded.limits import Bounds
from broker.embedded.listener import Server, listen, listener
from broker.embedded.refusals import Refusals
from broker.embedded.reporter import KIND, Reporter
from broker.embedded.system import System
from hub.access import projection
from hub.database import Database
from hub.settings import Settings

log = structlog.get_logger(__name__)

# Threads that ask the database; each holds a connection while it asks.
_THREADS: Final = 4


async def serve(settings: Settings, stop: asyncio.Event) -> None:
    """Run until `stop` is set.

    Raises PortUnavailable, SQLAlchemyError or psycopg.Error when it cannot start, and HubError for settings that do
    not fit. SIGHUP has it read its certificate again.
    """
    certificate = tls.certificate(settings.tls_cert_file, settings.tls_key_file)
    loop = asyncio.get_running_loop()
    database = Database(
        settings.database_url, pool_size=_THREADS + 1, statement_timeout_s=10.0, application_name="marvain broker"
    )
    executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="database")
    authority = DatabaseAuthority(database, executor, settings.root)
    refusals = Refusals(database, executor)
    broker = Broker(authority, refusals, settings.root, Bounds.of(settings))
    system = System(broker)
    reporter = Reporter(broker, database, executor, lambda: _state(settings, broker))
    servers: list[Server] = []
    if certificate is not None:
        loop.add_signal_handler(signal.SIGHUP, certificate.reload)
    try:
        await asyncio.to_thread(_announce, database)
        await asyncio.to_thread(authority.start, broker.changed, broker.review_all)
        system.start()
        for kind, port in ((ListenerType.TCP, settings.mqtt_port), (ListenerType.WS, settings.ws_port)):
            servers.append(await listen(broker, listener(kind, settings.broker_host, port), certificate))
        refusals.start()
        reporter.start()
        log.info(
            "broker.ready",
            host=settings.broker_host,
            mqtt_port=settings.mqtt_port,
            ws_port=settings.ws_port,
            tls=certificate is not None,
        )
        await stop.wait()
        log.info("broker.stopping", connections=len(broker.connections))
    finally:
        for server in servers:
            server.close()
        system.close()
        await broker.close()
        await authority.close()
        await refusals.close()
        await reporter.close()
        executor.shutdown()
        database.close()


def _announce(database: Database) -> None:
    """Say which broker runs: one that asks the database itself, and needs no secrets carried to it."""
    with database.transaction() as session:
        projection.publish_key(session, KIND, None, datetime.now(UTC))


def _state(settings: Settings, broker: Broker) -> dict[str, Any]:
    """What people see of the broker itself."""
    exchange = broker.exchange
    return {
        "version": version("marvain"),
        "tls": settings.tls_cert_file is not None,
        "store": settings.broker_store is not None,
        "connections": len(broker.connections),
        "sessions": len(exchange.sessions),
        "connected": len(exchange.connected),
        "retained": len(exchange.retained),
        "held": exchange.traffic.held,
    }
