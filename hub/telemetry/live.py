"""New samples for open pages: of devices that somebody looks at, at most four times a second for each stream.

Nothing here is stored or carries a revision: a page that missed something reads the series again.
"""

import threading
import time
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
import psycopg
import structlog
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import Session

from hub.database import Database, Listener
from hub.mqtt import HubClient
from hub.outbox import Message
from hub.telemetry import watches
from hub.telemetry.samples import NewSamples
from hub_protocol.catalogue import encode
from hub_protocol.messages import Feed
from hub_protocol.topics import Topics

log = structlog.get_logger(__name__)

FEED: Final = "telemetry"
KIND: Final = "telemetry.samples"
CHANNEL: Final = "marvain_samples"
TELL_EVERY_S: Final = 0.25
LOOK_EVERY_S: Final = 1.0
ITEMS_PER_MESSAGE: Final = 200
_TOPICS: Final = Topics.below_root()


class News(msgspec.Struct):
    """What a stream has got since a page was told last: the newest sample, and the range of all."""

    agent_id: uuid.UUID
    device_id: uuid.UUID
    stream: str
    at: datetime
    value: float
    min: float
    max: float
    count: int

    def merge(self, later: "News") -> None:
        """Take in what came after."""
        if later.at >= self.at:
            self.at, self.value = later.at, later.value
        self.min, self.max = min(self.min, later.min), max(self.max, later.max)
        self.count += later.count

    def item(self) -> dict[str, Any]:
        """As the feed carries it."""
        facts = msgspec.structs.asdict(self)
        del facts["agent_id"]
        return facts | {"device_id": str(self.device_id)}


def news_of(new: NewSamples) -> News:
    """The same samples as a page is told of them."""
    at, value = max(new.samples)
    values = [one for _, one in new.samples]
    return News(new.agent_id, new.device_id, new.stream, at, value, min(values), max(values), len(values))


def announce(session: Session, new: NewSamples, now: datetime) -> None:
    """Tell the hub of samples that came over HTTP, if anybody looks; once this transaction has committed."""
    if watches.is_watched(session, new.device_id, now):
        payload = msgspec.json.encode(news_of(new)).decode()
        session.execute(text("SELECT pg_notify(:channel, :payload)"), {"channel": CHANNEL, "payload": payload})


class LiveSamples:
    """Collects what the consumer stored, and tells the pages that look."""

    def __init__(self, database: Database, client: HubClient) -> None:
        self._database = database
        self._client = client
        self._lock = threading.Lock()
        self._watched: set[uuid.UUID] = set()
        self._news: dict[tuple[uuid.UUID, str], News] = {}
        self._stopping = threading.Event()
        self._listener: Listener | None = None

    def take(self, stored: Iterable[NewSamples]) -> None:
        """These samples are committed."""
        with self._lock:
            for new in stored:
                if new.device_id in self._watched:
                    self._merge(news_of(new))

    def stop(self) -> None:
        self._stopping.set()

    def run(self) -> None:
        """Work until stopped."""
        look_at = 0.0
        while not self._stopping.wait(TELL_EVERY_S):
            if time.monotonic() >= look_at:
                look_at = time.monotonic() + LOOK_EVERY_S
                self._guarded_look()
            if self._listener is not None and self._watched:
                self._hear_of_http(self._listener)
            self._tell()
        if self._listener is not None:
            self._listener.close()

    def _guarded_look(self) -> None:
        try:
            if self._listener is None:
                self._listener = self._database.listen(CHANNEL)
            with self._database.transaction() as session:
                watched = watches.watched(session, datetime.now(UTC))
        except (SQLAlchemyError, psycopg.OperationalError) as error:
            log.warning("live_samples.database_away", error=type(error).__name__)
            return
        with self._lock:
            self._watched = watched

    def _hear_of_http(self, listener: Listener) -> None:
        for notification in listener.wait(0):
            with self._lock:
                self._merge(msgspec.json.decode(notification.payload, type=News))

    def _merge(self, news: News) -> None:
        known = self._news.get((news.device_id, news.stream))
        if known is None:
            self._news[news.device_id, news.stream] = news
        else:
            known.merge(news)

    def _tell(self) -> None:
        with self._lock:
            news, self._news = self._news, {}
        if not self._client.is_connected:
            return
        by_agent: dict[uuid.UUID, list[dict[str, Any]]] = {}
        for one in news.values():
            by_agent.setdefault(one.agent_id, []).append(one.item())
        for agent_id, items in by_agent.items():
            for start in range(0, len(items), ITEMS_PER_MESSAGE):
                chunk = items[start : start + ITEMS_PER_MESSAGE]
                message = Feed(KIND, str(agent_id), 0, datetime.now(UTC), chunk)
                self._client.send(Message(_TOPICS.feed(str(agent_id), FEED), encode(message), qos=0))
