"""Publishes the outbox: wakes on NOTIFY, takes rows in order, and forgets them once the broker has acknowledged."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

import psycopg
import structlog
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import Session

from hub import commands, dead_letters, outbox
from hub.database import Database
from hub.mqtt import BrokerAway, HubClient

log = structlog.get_logger(__name__)

BATCH: Final = 500
# NOTIFY wakes the publisher at once; this is for what was written while nobody listened.
LOOK_AGAIN_S: Final = 2.0
RETRY_S: Final = 0.5
# So often a message is tried alone, while the broker takes others, before it is parked.
TRIES: Final = 3


class Publisher:
    """One thread listens, another publishes; a dead broker delays a message and loses none."""

    def __init__(self, database: Database, client: HubClient) -> None:
        self._database = database
        self._client = client
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._republish = threading.Event()
        self._batch = BATCH
        self._suspect = 0  # the outbox id of a message that failed alone
        self._tries = 0

    def wake(self) -> None:
        """There may be something to publish."""
        self._wake.set()

    def republish(self) -> None:
        """The broker has forgotten what was retained: say all of it again."""
        self._republish.set()
        self._wake.set()

    def stop(self) -> None:
        self._stopping.set()
        self._wake.set()

    def listen(self) -> None:
        """Turn notifications into wake-ups until stopped."""
        while not self._stopping.is_set():
            try:
                listener = self._database.listen(outbox.CHANNEL)
            except psycopg.OperationalError as error:  # away at the very start; afterwards it comes back by itself
                log.warning("outbox.database_away", error=type(error).__name__)
                self._stopping.wait(RETRY_S)
                continue
            with listener:
                self._wake.set()
                while not self._stopping.is_set():
                    if listener.wait(1.0) or listener.reconnected:
                        self._wake.set()

    def run(self) -> None:
        """Publish until stopped, then once more for what was written last."""
        while not self._stopping.is_set():
            self._wake.wait(LOOK_AGAIN_S)
            self._wake.clear()
            self._guarded(self._drain)
        if self._client.is_connected:
            self._guarded(self._drain)

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BrokerAway as error:
            log.info("outbox.waits", reason=error.message)
            self._retry_later()
        except SQLAlchemyError as error:
            log.warning("outbox.database_away", error=type(error).__name__)
            self._retry_later()

    def _retry_later(self) -> None:
        self._stopping.wait(RETRY_S)
        self._wake.set()

    def _drain(self) -> None:
        if not self._client.wait_connected(LOOK_AGAIN_S):
            return
        if self._republish.is_set():
            self._republish.clear()
            try:
                self._restore()
            except (BrokerAway, SQLAlchemyError):
                self._republish.set()
                raise
        while self._publish_some():
            pass

    def _restore(self) -> None:
        with self._database.transaction() as session:
            retained = outbox.retained(session)
        for start in range(0, len(retained), BATCH):
            self._client.publish(retained[start : start + BATCH])
        log.info("outbox.republished", topics=len(retained))

    def _publish_some(self) -> bool:
        """Publish a batch; returns whether there may be more.

        A broker hangs up for a message that it does not want (too large for it, say), and the same message fails again
        after every reconnect. Batches shrink around it until it is alone; then it is parked and the rest goes on.
        """
        if self._suspect:
            self._client.say_online()  # a broker that takes nothing at all says nothing about one message
        with self._database.transaction() as session:
            # Should Postgres crash before this is on its disk, the messages are there again and are published again:
            # at least once is what is promised. So nobody who waits for these rows waits for the disk.
            session.execute(text("SET LOCAL synchronous_commit = off"))
            claimed = outbox.claim(session, self._batch)
            if not claimed:
                self._suspect = 0
                return False
            if claimed[0].outbox_id == self._suspect and self._tries >= TRIES:
                self._park(session, claimed[0])
                log.error("outbox.parked", topic=claimed[0].topic, tries=TRIES)
                is_full = True
            else:
                is_full = len(claimed) == self._batch
                self._publish(session, claimed)
        self._suspect = 0
        self._batch = min(BATCH, self._batch * 2)
        return is_full

    def _publish(self, session: Session, claimed: list[outbox.Message]) -> None:
        ids = [one.command_id for one in claimed if one.command_id]
        open_ids = commands.worth_sending(session, ids, datetime.now(UTC))
        messages = [one for one in claimed if one.command_id is None or one.command_id in open_ids]
        try:
            times = self._client.publish(messages)
        except BrokerAway:
            self._blame(claimed)
            raise
        sent = [(one.command_id, at) for one, at in zip(messages, times, strict=True) if one.command_id]
        if sent:
            commands.mark_sent(session, sent)

    def _park(self, session: Session, message: outbox.Message) -> None:
        """Keep a message that can never be published among the dead letters, so that it stands in nobody's way."""
        kind, _, rest = message.topic.partition("/")
        dead_letters.park(
            session,
            message.topic,
            message.payload,
            f"the broker did not take it in {TRIES} tries",
            datetime.now(UTC),
            direction="out",
            handle=rest.partition("/")[0] if kind == "d" else "",
            retain=message.retain,
        )

    def _blame(self, claimed: list[outbox.Message]) -> None:
        self._batch = max(1, len(claimed) // 8)
        if len(claimed) == 1:
            self._tries = self._tries + 1 if claimed[0].outbox_id == self._suspect else 1
            self._suspect = claimed[0].outbox_id
