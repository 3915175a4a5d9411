"""Tells Postgres what the broker does: sessions, retained topics, traffic and its own state, as far as they changed."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import psycopg
import structlog
from sqlalchemy.exc import SQLAlchemyError

from broker.embedded.broker import Broker
from broker.embedded.link import Link
from broker.embedded.session import Session
from hub.access import live_sessions, projection, traffic
from hub.access.live_sessions import SessionReport
from hub.database import Database

log = structlog.get_logger(__name__)

KIND: Final = "embedded"
EVERY_S: Final = 1.0
# What only counts is told less often than what came or went.
COUNTS_EVERY_S: Final = 3.0
# Rows of one report; what is more comes with the next.
MOST_SESSIONS: Final = 500
MOST_TOPICS: Final = 2_000
# While more topics change than that, all of them are told anew, and not more often than this.
RETAINED_EVERY_S: Final = 10.0
# A full report, at the start and after Postgres was away, holds no more than that.
MOST_IN_FULL: Final = 50_000
# Sessions that are looked at before others get their turn of the loop.
_AT_ONCE: Final = 500


@dataclass(slots=True)
class Told:
    """What was last told of a session; `state` is what is told at once, `counts` what can wait.

    While `glance` is the same, nothing has changed: it is cheap to make, for most sessions are idle most of the time.
    """

    glance: tuple[object, ...]
    state: tuple[object, ...]
    counts: tuple[int, ...]
    at: float
    received: int
    sent: int
    moving: bool


@dataclass(slots=True)
class Report:
    """What one transaction writes. `full`: nothing else is there afterwards; `all_retained`: no other topics are."""

    full: bool
    all_retained: bool
    sessions: list[SessionReport]
    gone: list[str]
    retained: list[tuple[str, str, int]]
    deleted: list[str]
    traffic: dict[tuple[str, str], int]
    detail: dict[str, Any] | None


class Reporter:
    """Looks once a second and writes in a worker thread. While Postgres is away nothing piles up: it is told anew."""

    def __init__(
        self, broker: Broker, database: Database, executor: Executor, detail: Callable[[], dict[str, Any]]
    ) -> None:
        self._broker = broker
        self._exchange = broker.exchange
        self._database = database
        self._executor = executor
        self._detail = detail
        self._told: dict[str, Told] = {}
        # How much of each open connection's traffic was collected.
        self._collected: dict[Link, int] = {}
        self._full = True
        self._counted_at = float("-inf")
        self._retained_at = float("-inf")
        self._closing = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Say what is left, that nobody is connected any more, and stop."""
        self._closing.set()
        if self._task is not None:
            await self._task

    async def _run(self) -> None:
        while True:
            closing = self._closing.is_set()
            try:
                await self._tell(await self._look(closing))
            except Exception:
                # Reports are worth less than what they report on.
                log.exception("reporter.failed")
                self._full = True
            if closing:
                return
            try:
                async with asyncio.timeout(EVERY_S):
                    await self._closing.wait()
            except TimeoutError:
                pass

    # --- looking ------------------------------------------------------------------------------------------------

    async def _look(self, closing: bool) -> Report:  # noqa: FBT001
        now = time.monotonic()
        # At the end everybody's departure is told at once.
        full, self._full = self._full or closing, False
        if full:
            self._told.clear()
        due = await self._due(now, MOST_IN_FULL if full else MOST_SESSIONS)
        sessions = [
            _report(there, self._exchange.connected.get(username), latest, self._told.get(username))
            for username, latest in due
            if (there := self._exchange.sessions.get(username)) is not None
        ]
        self._told |= due
        gone = [username for username in self._told if username not in self._exchange.sessions]
        for username in gone:
            del self._told[username]
        all_retained = full or (self._exchange.retained.overlooked and now - self._retained_at >= RETAINED_EVERY_S)
        if all_retained:
            self._retained_at = now
        retained, deleted = self._look_at_retained(full=all_retained)
        report = Report(full, all_retained, sessions, gone, retained, deleted, {}, None)
        if closing or now - self._counted_at >= COUNTS_EVERY_S:
            self._counted_at = now
            self._collected = {link: seen for link, seen in self._collected.items() if link in self._broker.connections}
            report.traffic = self._exchange.traffic.take()
            report.detail = self._detail()
        return report

    async def _due(self, now: float, most: int) -> list[tuple[str, Told]]:
        """Whose turn it is: who came or went, then whose counts were told longest ago."""
        urgent: list[tuple[str, Told]] = []
        patient: list[tuple[str, Told]] = []
        for index, (username, session) in enumerate(list(self._exchange.sessions.items())):
            if index % _AT_ONCE == _AT_ONCE - 1:
                await asyncio.sleep(0)
            link = self._exchange.connected.get(username)
            before = self._told.get(username)
            glance = _glance(session, link)
            if before is not None and before.glance == glance and not before.moving:
                continue
            if link is not None:
                self._collect(link, session)
            latest = _observe(session, link, glance, now, before)
            if before is None or before.state != latest.state:
                urgent.append((username, latest))
            elif before.counts == latest.counts and not before.moving:
                before.glance = glance
            elif now - before.at >= COUNTS_EVERY_S:
                patient.append((username, latest))
        patient.sort(key=lambda one: self._told[one[0]].at)
        return (urgent + patient)[:most]

    def _collect(self, link: Link, session: Session) -> None:
        published = link.flow.published
        if self._collected.get(link, 0) != published:
            self._collected[link] = published
            self._exchange.traffic.collect(session.principal, link.routes.items())

    def _look_at_retained(self, *, full: bool) -> tuple[list[tuple[str, str, int]], list[str]]:
        """Topics with (publisher, bytes of the payload), and those that are gone."""
        retained = self._exchange.retained
        if full:
            retained.forget_changed()
            return [(topic, name, len(message.payload)) for topic, message, name in retained.first(MOST_IN_FULL)], []
        stored: list[tuple[str, str, int]] = []
        deleted: list[str] = []
        for topic in retained.take_changed(MOST_TOPICS):
            kept = retained.get(topic)
            if kept is None:
                deleted.append(topic)
            else:
                stored.append((topic, kept[1], len(kept[0].payload)))
        return stored, deleted

    # --- telling ------------------------------------------------------------------------------------------------

    async def _tell(self, report: Report) -> None:
        try:
            await asyncio.get_running_loop().run_in_executor(self._executor, self._write, report)
        except (SQLAlchemyError, psycopg.Error) as error:
            log.warning("reporter.database_away", error=type(error).__name__)
            self._full = True
            self._exchange.traffic.put_back(report.traffic)

    def _write(self, report: Report) -> None:
        now = datetime.now(UTC)
        topics = report.all_retained or report.retained or report.deleted
        if not (report.full or report.sessions or report.gone or topics or report.detail):
            return
        with self._database.transaction() as session:
            if report.full:
                live_sessions.replace_all(session, report.sessions, now)
            else:
                live_sessions.report(session, report.sessions, report.gone, now)
            if report.all_retained:
                live_sessions.replace_retained(session, report.retained, now)
            else:
                live_sessions.retained(session, report.retained, report.deleted, now)
            if report.traffic:
                traffic.record(session, report.traffic, now)
            if report.detail is not None:
                projection.report(session, KIND, report.detail, now)


def _glance(session: Session, link: Link | None) -> tuple[object, ...]:
    waiting = (len(session.subscriptions), len(session.queue), len(session.inflight), session.overflowed)
    if link is None:
        return waiting
    flow = link.flow
    # A subscription that takes the place of another came with a packet, which was counted.
    return (*waiting, link.opened_at, flow.published, flow.controls, flow.packets_out)


def _observe(session: Session, link: Link | None, glance: tuple[object, ...], now: float, before: Told | None) -> Told:
    opened_at = link.opened_at if link is not None else None
    state = (opened_at, session.persistent, tuple(session.subscriptions.items()))
    received = link.flow.published if link is not None else 0
    sent = link.flow.delivered if link is not None else 0
    counts = (received, sent, len(session.queue), len(session.inflight), session.overflowed)
    moving = before is not None and (received, sent) != (before.received, before.sent)
    return Told(glance, state, counts, now, received, sent, moving)


def _report(session: Session, link: Link | None, latest: Told, before: Told | None) -> SessionReport:
    passed = latest.at - before.at if before is not None else 0.0
    # After a reconnect the counts begin anew, and so do the rates.
    same = before is not None and passed > 0 and before.received <= latest.received and before.sent <= latest.sent
    return SessionReport(
        username=session.username,
        connected=link is not None,
        address=link.address if link is not None else "",
        transport=link.kind if link is not None else "",
        connected_at=link.opened_at if link is not None else None,
        persistent=session.persistent,
        keep_alive_s=link.keep_alive_s if link is not None else 0,
        subscriptions=list(session.subscriptions.items()),
        queued=len(session.queue),
        queued_bytes=session.queue_bytes,
        inflight=len(session.inflight),
        dropped=session.overflowed,
        received=latest.received,
        sent=latest.sent,
        received_per_s=(latest.received - before.received) / passed if same and before is not None else 0.0,
        sent_per_s=(latest.sent - before.sent) / passed if same and before is not None else 0.0,
    )
