"""The pulse of open pages: when devices were last heard, batched, and a tick that proves that the line is live.

Nothing here is stored, carries a revision of its own, or is sent for agents that nobody looks at.
"""

import threading
import time
import uuid
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final

import psycopg
import structlog
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from hub.database import Database, Listener
from hub.mqtt import HubClient
from hub.outbox import Message
from hub.reporting import HEARD_CHANNEL
from hub_protocol.catalogue import encode
from hub_protocol.messages import Feed
from hub_protocol.topics import Topics

log = structlog.get_logger(__name__)

HEARD_EVERY_S: Final = 1.0
TICK_EVERY_S: Final = 5.0
HEARD_PER_MESSAGE: Final = 500
_TOPICS: Final = Topics.below_root()


class Pulse:
    """Collects what the consumer heard, and tells it to the agents with an open page."""

    def __init__(self, database: Database, client: HubClient) -> None:
        self._database = database
        self._client = client
        self._lock = threading.Lock()
        self._heard: dict[uuid.UUID, dict[uuid.UUID, datetime]] = {}
        self._watched: dict[uuid.UUID, int] = {}
        self._stopping = threading.Event()
        self._listener: Listener | None = None

    def hear(self, heard: Iterable[tuple[uuid.UUID, uuid.UUID, datetime]]) -> None:
        """Devices were heard: (agent, device, when)."""
        with self._lock:
            for agent_id, device_id, at in heard:
                if agent_id in self._watched:
                    self._heard.setdefault(agent_id, {})[device_id] = at

    def stop(self) -> None:
        self._stopping.set()

    def run(self) -> None:
        """Work until stopped."""
        tick_at = 0.0
        while not self._stopping.wait(HEARD_EVERY_S):
            is_tick = time.monotonic() >= tick_at
            if is_tick:
                tick_at = time.monotonic() + TICK_EVERY_S
            try:
                self._look_who_watches()
                self._hear_of_http()
            except (SQLAlchemyError, psycopg.OperationalError) as error:
                log.warning("pulse.database_away", error=type(error).__name__)
                continue
            if self._client.is_connected:
                self._beat(is_tick=is_tick)
        if self._listener is not None:
            self._listener.close()

    def _hear_of_http(self) -> None:
        """Take what the web heard over HTTP since the last time."""
        if self._listener is None:
            self._listener = self._database.listen(HEARD_CHANNEL)
        for notification in self._listener.wait(0):
            agent_id, device_id, at = notification.payload.split()
            self.hear([(uuid.UUID(agent_id), uuid.UUID(device_id), datetime.fromisoformat(at))])

    def _look_who_watches(self) -> None:
        with self._database.transaction() as session:
            rows = session.execute(
                text(
                    "SELECT DISTINCT m.agent_id, coalesce(f.rev, 0) FROM credentials AS c "
                    "JOIN user_sessions AS s USING (session_id) JOIN agent_memberships AS m USING (user_id) "
                    "LEFT JOIN feed_revisions AS f ON f.agent_id = m.agent_id "
                    "WHERE c.kind = 'browser' AND c.expires_at > now() AND m.revoked_at IS NULL"
                )
            ).all()
        with self._lock:
            self._watched = {row[0]: int(row[1]) for row in rows}

    def _beat(self, *, is_tick: bool) -> None:
        with self._lock:
            heard, self._heard = self._heard, {}
            watched = dict(self._watched)
        for agent_id, rev in watched.items():
            items = [
                {"device_id": str(device_id), "last_heard_at": at} for device_id, at in heard.get(agent_id, {}).items()
            ]
            for start in range(0, len(items), HEARD_PER_MESSAGE):
                self._say(agent_id, "presence.heard", rev, items[start : start + HEARD_PER_MESSAGE])
            if is_tick:
                self._say(agent_id, "tick", rev, [])

    def _say(self, agent_id: uuid.UUID, kind: str, rev: int, items: list[dict[str, Any]]) -> None:
        message = Feed(kind, str(agent_id), rev, datetime.now(UTC), items)
        self._client.send(Message(_TOPICS.feed(str(agent_id), "presence"), encode(message), qos=0))
