"""Looks once a second for what nobody says: silent devices and overdue commands; and tidies up now and then."""

import threading
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import Session

from hub import (
    command_ends,
    enrolment_decisions,
    feed,
    idempotency,
    outbox,
    presence,
    presence_history,
    presence_records,
    proxied,
)
from hub.access import credentials, traffic
from hub.database import Database
from hub.inbox.reply import PROBE_PREFIX
from hub_protocol import messages
from hub_protocol.topics import Topics

log = structlog.get_logger(__name__)

TIDY_EVERY_S: Final = 600.0
# How often it is written down that the hub is there, and looked whether who flapped has come to rest.
WATCH_EVERY: Final = timedelta(seconds=5)
# Devices judged in one transaction.
PAGE: Final = 500
FEED_KEPT: Final = timedelta(days=1)
# A longer pause between two sweeps (Postgres away, the machine asleep, a clock set) means that the hub was not there.
LONGEST_PAUSE: Final = timedelta(seconds=5)
# A code lives for a week at most, and what was enrolled with it may be looked up for a while.
CODES_KEPT: Final = timedelta(days=30)
# A day is what previews look back on; its first hour began up to an hour earlier.
TRAFFIC_KEPT: Final = timedelta(hours=26)
_TOPICS: Final = Topics.below_root()


class Sweeper:
    """`hub_back_at` says since when hub and broker have been there together; None while they are not."""

    def __init__(self, database: Database, hub_back_at: Callable[[], datetime | None]) -> None:
        self._database = database
        self._hub_back_at = hub_back_at
        self._stopping = threading.Event()
        self._swept_at = self._able_since = datetime.now(UTC)
        self._watched_at: datetime | None = None

    def stop(self) -> None:
        self._stopping.set()

    def run(self) -> None:
        """Work until stopped."""
        tidy_at = 0.0
        while not self._stopping.wait(presence.SWEEP_S):
            try:
                self._sweep(datetime.now(UTC))
                if time.monotonic() >= tidy_at:
                    tidy_at = time.monotonic() + TIDY_EVERY_S
                    with self._database.transaction() as session:
                        tidy(session, datetime.now(UTC))
            except SQLAlchemyError as error:
                log.warning("sweeper.database_away", error=type(error).__name__)

    def _sweep(self, now: datetime) -> None:
        with self._database.transaction() as session:
            command_ends.expire(session, now)
            credentials.end_overlaps(session, now)
            enrolment_decisions.expire(session, now)
        # Swept, so Postgres is there. If it was not until now, what devices said meanwhile still waits to be stored.
        if not timedelta() <= now - self._swept_at <= LONGEST_PAUSE:
            self._able_since = now
        self._swept_at = now
        back_at = self._hub_back_at()
        if back_at is None:
            return  # who cannot hear must not judge silence
        if self._watched_at is None or not timedelta() <= now - self._watched_at < WATCH_EVERY:
            self._watched_at = now
            with self._database.transaction() as session:
                presence_history.watch(session, now)
                calm(session, now)
        heard_since = max(back_at, self._able_since)
        with self._database.transaction() as session:
            proxied.lose_sight(session, now, heard_since)
        after: uuid.UUID | None = None
        while True:
            with self._database.transaction() as session:
                after = judge(session, now, heard_since, after=after)
            if after is None:
                return


def judge(
    session: Session, now: datetime, hub_back_at: datetime, *, after: uuid.UUID | None = None
) -> uuid.UUID | None:
    """Draw the verdicts that silence asks for, and send the probes, for one page of devices behind `after`.

    Returns the last device of the page, None when there are no more.
    """
    silent = presence_records.lock_silent(session, now, after=after, limit=PAGE)
    changes = {}
    for known in silent:
        judged, is_probe = presence.silence(known.evidence, now, hub_back_at)
        if judged == known.evidence:
            continue
        changes[known.device_id] = (known, judged)
        if judged.verdict != known.evidence.verdict:
            log.info("presence.silent", handle=known.handle, verdict=judged.verdict, why=judged.why)
        if is_probe:
            expires_at = now + timedelta(seconds=presence.PROBE_WAIT_S)
            topic = _TOPICS.command(known.handle, "ping", f"{PROBE_PREFIX}{uuid.uuid4().hex}")
            outbox.enqueue(session, topic, messages.Command(expires_at=expires_at, epoch=known.evidence.epoch))
    presence_records.save(session, changes)
    return silent[-1].device_id if len(silent) == PAGE else None


def calm(session: Session, now: datetime) -> None:
    """Take back the word that a device flaps, of those that have been quiet for long enough."""
    flapping = presence_records.lock_flapping(session)
    presence_records.save(session, {known.device_id: (known, presence.calm(known.evidence, now)) for known in flapping})


def tidy(session: Session, now: datetime) -> None:
    """Remove what has had its time: old feed entries, credentials of closed pages, ended sessions, links, tokens.

    What agents gathered is the janitor's (hub/retention.py); the audit is kept for good.
    """
    removed = feed.trim(session, now - FEED_KEPT)
    session.execute(
        text("DELETE FROM credentials WHERE kind = 'browser' AND expires_at < :before"),
        {"before": now - timedelta(hours=1)},
    )
    session.execute(text("DELETE FROM user_sessions WHERE expires_at < :now"), {"now": now})
    session.execute(text("DELETE FROM one_time_links WHERE expires_at < :before"), {"before": now - timedelta(days=7)})
    session.execute(
        text("DELETE FROM sign_in_brakes WHERE last_failure_at < :before"), {"before": now - timedelta(days=1)}
    )
    session.execute(
        text("DELETE FROM personal_tokens WHERE expires_at < :before"), {"before": now - timedelta(days=30)}
    )
    enrolment_decisions.forget(session, now - CODES_KEPT)
    presence_history.forget(session, now - presence_history.KEPT)
    idempotency.forget(session, now - idempotency.KEPT)
    traffic.forget(session, now - TRAFFIC_KEPT)
    log.debug("sweeper.tidied", feed_entries=removed)
