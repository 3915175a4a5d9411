"""The embedded broker as a service: database, listeners, store and reports put together, until told to stop."""

import asyncio
import signal
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import structlog
from amqtt.contexts import ListenerType

from broker.embedded import tls
from broker.embedded.authority import DatabaseAuthority
from broker.embedded.broker import Broker
from broker.embedded.limits import Bounds
from broker.embedded.listener import Server, listen, listener
from broker.embedded.refusals import Refusals
from broker.embedded.system import System
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
    servers: list[Server] = []
    if certificate is not None:
        loop.add_signal_handler(signal.SIGHUP, certificate.reload)
    try:
        await asyncio.to_thread(authority.start, broker.changed, broker.review_all)
        system.start()
        for kind, port in ((ListenerType.TCP, settings.mqtt_port), (ListenerType.WS, settings.ws_port)):
            servers.append(await listen(broker, listener(kind, settings.broker_host, port), certificate))
        refusals.start()
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
        executor.shutdown()
        database.close()
