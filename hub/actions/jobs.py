"""The runner, a part of the hub service: takes jobs as they are put, several at a time, each in a thread."""

import asyncio
import threading
import uuid
from datetime import UTC, datetime
from typing import Final

import procrastinate
import psycopg
import structlog
from psycopg_pool import PoolTimeout
from sqlalchemy.exc import SQLAlchemyError

from hub.actions import execution, queue, sweep
from hub.database import KEEPALIVE, Database, libpq_url
from hub.settings import Settings

log = structlog.get_logger(__name__)

AT_ONCE: Final = 8
SWEEP_EVERY_S: Final = 1.0
RETRY_S: Final = 0.5
# NOTIFY wakes it at once; this is for what was put while it was not listening.
LOOK_AGAIN_S: Final = 2.0
# What is at hand may end by itself; beyond that its lease runs out, and the next hub takes it up.
STOP_WITHIN_S: Final = 10.0


class Runner:
    """Two threads: `run` works, `watch` sweeps. A Postgres that is away delays both and ends neither."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._settings = settings
        self._stopping = threading.Event()
        # What the hub before this one had at hand is told apart from our own before anything is begun.
        self._taken_over = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._working: asyncio.Task[None] | None = None

    def stop(self) -> None:
        self._stopping.set()
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._end)

    def run(self) -> None:
        """Work until stopped, once `watch` has taken over."""
        while not self._taken_over.wait(RETRY_S):
            if self._stopping.is_set():
                return
        asyncio.run(self._run())

    def watch(self) -> None:
        """Sweep until stopped; at first what the hub before this one left in the middle."""
        while True:
            try:
                if not self._taken_over.is_set():
                    with self._database.transaction() as session:
                        sweep.take_over(session)
                    self._taken_over.set()
                self._sweep()
            except SQLAlchemyError as error:
                log.warning("actions.database_away", error=type(error).__name__)
            if self._stopping.wait(SWEEP_EVERY_S):
                return

    def _sweep(self) -> None:
        is_more = True
        while is_more and not self._stopping.is_set():
            with self._database.transaction() as session:
                is_more = sweep.sweep(session, datetime.now(UTC))

    def _end(self) -> None:
        if self._working is not None:
            self._working.cancel()

    async def _run(self) -> None:
        self._loop = asyncio.get_running_loop()
        while not self._stopping.is_set():
            self._working = asyncio.create_task(self._work())
            try:
                await self._working
            except asyncio.CancelledError:
                return
            except (psycopg.Error, procrastinate.exceptions.ConnectorException, PoolTimeout, OSError) as error:
                log.warning("actions.database_away", error=type(error).__name__)
                await asyncio.sleep(RETRY_S)

    async def _work(self) -> None:
        connector = procrastinate.PsycopgConnector(
            conninfo=libpq_url(self._database.url), kwargs=dict(KEEPALIVE), min_size=1, max_size=4
        )
        app = procrastinate.App(connector=connector)

        @app.task(name=queue.TASK, queue=queue.QUEUE)
        def run(action_id: str) -> None:
            self._do(uuid.UUID(action_id))

        async with app.open_async():
            await app.run_worker_async(
                queues=[queue.QUEUE],
                concurrency=AT_ONCE,
                name="hub",
                install_signal_handlers=False,
                delete_jobs="always",
                fetch_job_polling_interval=LOOK_AGAIN_S,
                shutdown_graceful_timeout=STOP_WITHIN_S,
            )

    def _do(self, action_id: uuid.UUID) -> None:
        try:
            execution.run(self._database, self._settings, action_id)
        except SQLAlchemyError as error:
            # Before the claim nothing is lost, the sweep puts it again; behind it the lease runs out.
            log.warning("action.database_away", action_id=str(action_id), error=type(error).__name__)
