"""The jobs of telemetry: partitions made ahead, samples condensed, and what has had its time dropped."""

import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog
from sqlalchemy.exc import OperationalError, SQLAlchemyError

from hub.database import Database
from hub.settings import Settings
from hub.telemetry import partitions, rollups, streams, watches
from hub.telemetry.tiers import TIERS

log = structlog.get_logger(__name__)

CONDENSE_EVERY_S: Final = 60.0
TIDY_EVERY_S: Final = 600.0
# What is dropped was condensed before: a job that was late has this long to catch up.
GRACE: Final = timedelta(hours=1)


class Upkeep:
    """One thread beside the inbox; its transactions are short, so that neither waits long for the other."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self._database = database
        self._kept = {
            "raw": timedelta(days=settings.telemetry_raw_days),
            "minutes": timedelta(days=settings.telemetry_minutes_days),
            "hours": timedelta(days=settings.telemetry_hours_days),
        }
        self._stopping = threading.Event()

    def stop(self) -> None:
        self._stopping.set()

    def run(self) -> None:
        """Work until stopped, at once and then every minute."""
        tidy_at = 0.0
        while True:
            try:
                now = datetime.now(UTC)
                condense(self._database, now, self._stopping)
                if time.monotonic() >= tidy_at:
                    tidy_at = time.monotonic() + TIDY_EVERY_S
                    tidy(self._database, now, self._kept, self._stopping)
            except SQLAlchemyError as error:
                log.warning("telemetry.database_away", error=type(error).__name__)
            if self._stopping.wait(CONDENSE_EVERY_S):
                return


def condense(database: Database, now: datetime, stopping: threading.Event) -> int:
    """Make partitions ahead and down-sample all that has to be; returns how many hours of streams that were."""
    with database.transaction() as session:
        partitions.make_ahead(session, now)
    total = 0
    while not stopping.is_set():
        with database.transaction() as session:
            done = rollups.downsample(session)
        total += done
        if done < rollups.AT_ONCE:
            break
    return total


def tidy(database: Database, now: datetime, kept: Mapping[str, timedelta], stopping: threading.Event) -> None:
    """Drop what is older than `kept` (by the name of the tier), and remove what deleted streams left behind."""
    for tier in TIERS.values():
        with database.transaction() as session:
            old = partitions.outdated(session, tier, now - kept[tier.name] - GRACE)
        for partition in old:
            try:
                with database.transaction() as session:
                    partitions.drop(session, partition)
            except OperationalError as error:
                log.info("telemetry.partition_in_use", partition=partition.name, error=type(error.orig).__name__)
            else:
                log.info("telemetry.partition_dropped", partition=partition.name)
    with database.transaction() as session:
        watches.forget(session, now)
        streams.forget_silent(session, now - max(kept.values()))
    more = True
    while more and not stopping.is_set():
        with database.transaction() as session:
            more = streams.purge(session)
