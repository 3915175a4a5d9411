"""Mosquitto as a service: ours as a child, or one that runs elsewhere, kept at what the database says until stopped."""

import asyncio
import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

import psycopg
import structlog
from sqlalchemy.exc import SQLAlchemyError

from broker.embedded import tls
from broker.embedded.refusals import Refusals
from broker.mosquitto import server
from broker.mosquitto.adapter import LOOK_EVERY_S, Adapter
from broker.mosquitto.control import BrokerAway, Control
from broker.mosquitto.document import ADAPTER, render
from broker.mosquitto.flow import Flow
from broker.mosquitto.journal import Journal
from broker.mosquitto.sealing import Unsealer
from broker.mosquitto.sessions import Sessions
from broker.mosquitto.watcher import Watcher
from hub.access import live_sessions, projection
from hub.database import Database
from hub.errors import HubError, Invalid
from hub.settings import Settings

log = structlog.get_logger(__name__)

FIRST_PAUSE_S: Final = 0.2
LAST_PAUSE_S: Final = 10.0
# Who lived this long had a good start: the back-off begins anew.
GOOD_LIFE_S: Final = 30.0
_FLUSH_EVERY_S: Final = 1.0
# How late at most something refused is told.
_PUSH_EVERY_S: Final = 0.25
# On a busy machine an edit does not wait longer for what its log tells of sessions.
_CATCH_UP_S: Final = 0.1
_CHUNK: Final = 2**18


async def serve(settings: Settings, stop: asyncio.Event, look_every_s: float = LOOK_EVERY_S) -> None:
    """Run until `stop` is set.

    Raises HubError when the settings do not fit or Mosquitto is missing or cannot start, and what the database raises
    when it is away at the start.
    """
    if settings.broker == "mosquitto":
        # For its messages: a file that is missing or does not fit is named before anything starts.
        tls.certificate(settings.tls_cert_file, settings.tls_key_file)
    service = _Private(settings, look_every_s) if settings.broker == "mosquitto" else _External(settings, look_every_s)
    try:
        await service.run(stop)
    finally:
        await service.close()


class _Lives:
    """One life after another, with a pause between them that grows while they are short."""

    def __init__(self, settings: Settings, look_every_s: float) -> None:
        self.settings = settings
        self.look_every_s = look_every_s
        self.database = Database(
            settings.database_url, pool_size=3, statement_timeout_s=10.0, application_name="marvain broker"
        )
        self.executor = ThreadPoolExecutor(2, thread_name_prefix="database")
        self.refusals = Refusals(self.database, self.executor)
        self.was_ready = False

    async def run(self, stop: asyncio.Event) -> None:
        self.refusals.start()
        pause = FIRST_PAUSE_S
        while not stop.is_set():
            began = time.monotonic()
            try:
                await self.live(stop)
            except (HubError, OSError, psycopg.Error, SQLAlchemyError) as error:
                # What never worked is for the caller to say; what worked before is tried again.
                if not self.was_ready and not isinstance(error, BrokerAway):
                    raise
                log.warning("mosquitto.interrupted", reason=_words(error), again_in_s=pause)
            if stop.is_set():
                return
            if time.monotonic() - began > GOOD_LIFE_S:
                pause = FIRST_PAUSE_S
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), pause)
            pause = min(pause * 2, LAST_PAUSE_S)

    async def live(self, stop: asyncio.Event) -> None:
        raise NotImplementedError

    async def close(self) -> None:
        await self.refusals.close()
        self.executor.shutdown()
        self.database.close()

    def say_ready(self, **facts: object) -> None:
        self.was_ready = True
        log.info(
            "broker.ready",
            host=self.settings.broker_host,
            mqtt_port=self.settings.mqtt_port,
            ws_port=self.settings.ws_port,
            tls=self.settings.tls_cert_file is not None,
            **facts,
        )


class _Private(_Lives):
    """A Mosquitto of our own."""

    def __init__(self, settings: Settings, look_every_s: float) -> None:
        super().__init__(settings, look_every_s)
        self.server = server.Server(settings, server.find())
        self.unsealer = Unsealer(self.server.store if settings.broker_store is not None else None)

    async def live(self, stop: asyncio.Event) -> None:
        """From a full rendering to the end of the process, of the adapter, or of all."""
        settings, sessions, journal = self.settings, Sessions(self.settings.ws_port), Journal()
        adapter = Adapter(
            "mosquitto",
            settings,
            self.database,
            self.unsealer,
            sessions.subscriptions,
            lambda name: not sessions.is_connected(name),
            self.look_every_s,
        )
        watcher: Watcher | None = None
        tasks: list[asyncio.Task[object]] = []
        control = working = None
        try:
            accounts = await asyncio.to_thread(adapter.begin)
            password = secrets.token_urlsafe(32)
            document = await asyncio.to_thread(render, accounts.values(), settings.root, {ADAPTER: password})
            output = await self.server.start(document)
            adapter.rendered()
            control = Control(settings.mqtt_host, settings.mqtt_port, ADAPTER, password, settings.tls_cert_file)
            flow = Flow(control.tell) if settings.mosquitto_refusals else None
            watcher = Watcher(adapter, control, sessions, journal, self.refusals, flow)
            reading = asyncio.create_task(_read(output, watcher))
            tasks.append(reading)
            if not await self.server.until_listening():
                raise server.DidNotStart(f"Mosquitto does not start: {' | '.join(journal.words) or 'it said nothing'}")
            await asyncio.to_thread(control.open)
            await self._report(live_sessions.replace_all, [])
            watcher.open()
            self.say_ready(mosquitto_pid=self.server.process.pid if self.server.process else 0)
            if flow is not None:
                adapter.catch_up = lambda: flow.catch_up(_CATCH_UP_S)
                tasks.append(asyncio.create_task(_push(flow)))
            working = asyncio.create_task(asyncio.to_thread(adapter.work, control))
            tasks.append(working)
            tasks.append(asyncio.create_task(self._flush(sessions)))
            stopping = asyncio.create_task(stop.wait())
            tasks.append(stopping)
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done - {stopping}:
                task.result()
            if stopping not in done:
                raise BrokerAway(f"Mosquitto has ended: {' | '.join(journal.words) or 'it said nothing'}")
        finally:
            adapter.close()
            if control is not None:
                control.close()
            await self.server.stop()
            for task in tasks:
                # The adapter's ends by itself, and must have ended before another begins.
                if task is not working:
                    task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _flush(self, sessions: Sessions) -> object:
        while True:
            await asyncio.sleep(_FLUSH_EVERY_S)
            changed, gone = sessions.collect()
            if changed or gone:
                await self._report(live_sessions.report, changed, gone)

    async def _report(self, what: object, *facts: object) -> None:
        def write() -> None:
            with self.database.transaction() as session:
                what(session, *facts, datetime.now(UTC))  # type: ignore[operator]

        try:
            await asyncio.get_running_loop().run_in_executor(self.executor, write)
        except (SQLAlchemyError, psycopg.Error) as error:
            log.warning("mosquitto.sessions_not_written", error=type(error).__name__)

    async def close(self) -> None:
        # Whoever issues a credential while no broker runs need not seal it: the next start reads the hashes.
        with suppress(SQLAlchemyError, psycopg.Error):
            await asyncio.to_thread(self._withdraw)
        await super().close()
        self.server.close()

    def _withdraw(self) -> None:
        with self.database.transaction() as session:
            projection.publish_key(session, "mosquitto", None, datetime.now(UTC))


class _External(_Lives):
    """A Mosquitto that runs elsewhere: driven, never started."""

    def __init__(self, settings: Settings, look_every_s: float) -> None:
        super().__init__(settings, look_every_s)
        if settings.broker_admin_password_file is None:
            raise Invalid(
                "MARVAIN_BROKER=external needs MARVAIN_BROKER_ADMIN_PASSWORD_FILE: a file with the password of"
                f" {settings.broker_admin_username} at that broker",
                field="broker_admin_password_file",
            )
        try:
            self.password = settings.broker_admin_password_file.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise Invalid(
                f"MARVAIN_BROKER_ADMIN_PASSWORD_FILE: {settings.broker_admin_password_file}: {error.strerror}",
                field="broker_admin_password_file",
            ) from None
        if settings.broker_store is not None:
            settings.broker_store.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.unsealer = Unsealer(settings.broker_store)

    async def live(self, stop: asyncio.Event) -> None:
        """From a full comparison to the loss of the connection, or to the end of all."""
        settings = self.settings
        adapter = Adapter(
            "external", settings, self.database, self.unsealer, lambda _: None, lambda _: False, self.look_every_s
        )
        control = Control(
            settings.mqtt_host,
            settings.mqtt_port,
            settings.broker_admin_username,
            self.password,
            settings.tls_cert_file,
        )
        working: asyncio.Task[None] | None = None
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.to_thread(adapter.begin)
            await asyncio.to_thread(control.open)
            working = asyncio.create_task(asyncio.to_thread(adapter.work, control, self.say_ready))
            done, _ = await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if working in done:
                working.result()
        finally:
            stopping.cancel()
            adapter.close()
            await asyncio.to_thread(control.close)
            if working is not None:
                await asyncio.gather(working, return_exceptions=True)


async def _push(flow: Flow) -> object:
    while True:
        await asyncio.sleep(_PUSH_EVERY_S)
        flow.push()


async def _read(output: asyncio.StreamReader, watcher: Watcher) -> object:
    """The log, until the process ends."""
    while chunk := await output.read(_CHUNK):
        watcher.take(chunk)
    return None


def _words(error: Exception) -> str:
    return str(error) if isinstance(error, HubError | OSError) else type(error).__name__
