"""The embedded broker as a service: database, listeners, store and reports put together, until told to stop."""

import asyncio
import functools
import resource
import signal
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, Final

import structlog
from amqtt.contexts import ListenerType

from broker.embedded import heap, tls
from broker.embedded.authority import DatabaseAuthority
from broker.embedded.broker import Broker
from broker.embedded.limits import Bounds
from broker.embedded.listener import Server, listen, listener
from broker.embedded.refusals import Refusals
from broker.embedded.reporter import KIND, Reporter
from broker.embedded.store import Store
from broker.embedded.system import System
from broker.embedded.tls import Certificate
from hub.access import projection
from hub.access.changes import Change
from hub.database import Database
from hub.settings import Settings

log = structlog.get_logger(__name__)

# Threads that ask the database; each holds a connection while it asks.
_THREADS: Final = 4
# Descriptors that clients may not have: those of the store's files, of the database, of the log.
_RESERVED: Final = 64
_FEW_DESCRIPTORS: Final = 1_024
_VERSION: Final = version("marvain")


async def serve(settings: Settings, stop: asyncio.Event) -> None:
    """Run until `stop` is set.

    Raises PortUnavailable, StoreUnavailable, SQLAlchemyError or psycopg.Error when it cannot start, and HubError for
    settings that do not fit. SIGHUP has it read its certificate again.
    """
    certificate = tls.certificate(settings.tls_cert_file, settings.tls_key_file)
    database = Database(
        settings.database_url, pool_size=_THREADS + 1, statement_timeout_s=10.0, application_name="marvain broker"
    )
    executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="database")
    authority = DatabaseAuthority(database, executor, settings.root)
    refusals = Refusals(database, executor)
    broker: Broker | None = None

    def changed(change: Change) -> None:
        if broker is not None:
            broker.changed(change)

    def review_all() -> None:
        if broker is not None:
            broker.review_all()

    try:
        await asyncio.to_thread(_announce, database)
        # Changes are heard before the store's sessions are asked about, so that none falls between.
        await asyncio.to_thread(authority.start, changed, review_all)
        store = await asyncio.to_thread(_open_store, settings)
        bounds = replace(Bounds.of(settings), connections=_room())
        broker = Broker(authority, refusals, settings.root, bounds, store, settings.broker_session_expiry_s)
        reporter = Reporter(broker, database, executor, functools.partial(_state, settings, broker))
        refusals.start()
        await _serve(settings, broker, reporter, certificate, stop)
    finally:
        await authority.close()
        await refusals.close()
        executor.shutdown()
        database.close()


async def _serve(
    settings: Settings, broker: Broker, reporter: Reporter, certificate: Certificate | None, stop: asyncio.Event
) -> None:
    system = System(broker)
    servers: list[Server] = []
    try:
        system.start()
        for kind, port in ((ListenerType.TCP, settings.mqtt_port), (ListenerType.WS, settings.ws_port)):
            servers.append(await listen(broker, listener(kind, settings.broker_host, port), certificate))
        reporter.start()
        if certificate is not None:
            broker.loop.add_signal_handler(signal.SIGHUP, certificate.reload)
        log.info(
            "broker.ready",
            host=settings.broker_host,
            mqtt_port=settings.mqtt_port,
            ws_port=settings.ws_port,
            tls=certificate is not None,
            store=str(settings.broker_store or ""),
        )
        heap.settle()
        stopped = broker.loop.create_task(stop.wait())
        await asyncio.wait({stopped, broker.restoring}, return_when=asyncio.FIRST_COMPLETED)
        if broker.restoring.done():
            # Raises what went wrong: without its sessions nobody would ever be admitted.
            await broker.restoring
        await stopped
        log.info("broker.stopping", connections=len(broker.connections))
    finally:
        for server in servers:
            server.close()
        system.close()
        await broker.close()
        await reporter.close()


def _open_store(settings: Settings) -> Store | None:
    folder = settings.broker_store
    return Store.open(folder, sync=settings.broker_sync) if folder is not None else None


def _room() -> int:
    """How many connections there is room for: what the system allows, less what the store and the database need."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard == resource.RLIM_INFINITY:
        return 0
    if hard < _FEW_DESCRIPTORS:
        log.warning("broker.few_descriptors", limit=hard)
    return max(1, hard - _RESERVED)


def _announce(database: Database) -> None:
    """Say which broker runs: one that asks the database itself, and needs no secrets carried to it."""
    with database.transaction() as session:
        projection.publish_key(session, KIND, None, datetime.now(UTC))


def _state(settings: Settings, broker: Broker) -> dict[str, Any]:
    """What people see of the broker itself."""
    exchange = broker.exchange
    return {
        "version": _VERSION,
        "tls": settings.tls_cert_file is not None,
        "store": settings.broker_store is not None,
        "connections": len(broker.connections),
        "sessions": len(exchange.sessions),
        "connected": len(exchange.connected),
        "retained": len(exchange.retained),
        "held": exchange.traffic.held,
    }
