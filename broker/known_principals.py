"""Principals as they are now, remembered between questions and forgotten as soon as the database says they changed."""

import threading
from datetime import UTC, datetime
from typing import Final

import structlog

from hub.access import changes, principals
from hub.access.changes import EVERYBODY
from hub.access.principals import Principal
from hub.database import Database, Listener

log = structlog.get_logger(__name__)

MOST_KEPT: Final = 20_000
# Of one listener's wait; close() ends it at once, so it bounds nothing but the idle turns.
_WAIT_S: Final = 30.0


class KnownPrincipals:
    """Answers from memory while it hears of every change; asks the database whenever it does not.

    Used from many threads. A principal that was read before a change is never kept after it.
    """

    def __init__(self, database: Database, root: str) -> None:
        self._database = database
        self._root = root
        self._lock = threading.Lock()
        self._known: dict[str, Principal] = {}
        self._changes = 0
        self._listener: Listener | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to listen; raises psycopg.OperationalError when the database is away."""
        self._listener = self._database.listen(changes.CHANNEL)
        self._thread = threading.Thread(target=self._hear, args=(self._listener,), name="access changes", daemon=True)
        self._thread.start()

    def close(self) -> None:
        listener, thread = self._listener, self._thread
        if listener is not None and thread is not None:
            self._listener = None
            listener.close()
            thread.join()

    def get(self, username: str) -> Principal | None:
        """The principal as it is now; None when there is none. Raises SQLAlchemyError when that cannot be known."""
        now = datetime.now(UTC)
        with self._lock:
            known = self._known.get(username) if self._hears() else None
            before = self._changes
        if known is not None and (known.expires_at is None or known.expires_at > now):
            return known
        with self._database.transaction() as session:
            principal = principals.load(session, username, self._root, now)
        if principal is not None:
            with self._lock:
                if before == self._changes and self._hears():
                    if len(self._known) >= MOST_KEPT:
                        self._known.clear()
                    self._known[username] = principal
        return principal

    def _hears(self) -> bool:
        return self._listener is not None and self._listener.connected

    def _hear(self, listener: Listener) -> None:
        while self._listener is listener:
            heard = listener.wait(_WAIT_S)
            with self._lock:
                for notification in heard:
                    self._changes += 1
                    for change in changes.read_all(notification.payload):
                        if change.username == EVERYBODY:
                            self._known.clear()
                        else:
                            self._known.pop(change.username, None)
                if listener.reconnected or not listener.connected:
                    self._changes += 1
                    self._known.clear()
