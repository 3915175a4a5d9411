"""Principals from Postgres: admitted in worker threads, looked at again when the database says what changed."""

import asyncio
import threading
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Final

import psycopg
import structlog
from sqlalchemy.exc import SQLAlchemyError
from sqlmodel import Session

from broker.embedded.admission import Admitted, Rejected
from hub.access import changes, credentials, principals
from hub.access.changes import EVERYBODY, Change
from hub.access.credentials import Authenticated, Refused
from hub.access.decide import NOT_AUTHORIZED, SERVER_UNAVAILABLE
from hub.database import Database, Listener

log = structlog.get_logger(__name__)

# Of one listener's wait; close() ends it at once, so it bounds nothing but the idle turns.
_WAIT_S: Final = 30.0
_UNAVAILABLE: Final = Rejected("the database is away, so nobody can be admitted", SERVER_UNAVAILABLE)


class DatabaseAuthority:
    """Admits by `hub.access` and hears of changes by LISTEN.

    A change that arrives while somebody is being admitted makes the admission start again, so that no verdict from
    before the change survives it.
    """

    def __init__(self, database: Database, executor: ThreadPoolExecutor, root: str) -> None:
        self._database = database
        self._executor = executor
        self._root = root
        self._loop = asyncio.get_running_loop()
        # How many changes were heard, and the number of the last one of each name while questions are open.
        self._changes = 0
        self._changed: dict[str, int] = {}
        self._asking = 0
        self._listener: Listener | None = None
        self._thread: threading.Thread | None = None

    def start(self, changed: Callable[[Change], None], review_all: Callable[[], None]) -> None:
        """Begin to listen; raises psycopg.OperationalError when the database is away."""
        listener = self._database.listen(changes.CHANNEL)
        self._listener = listener
        self._thread = threading.Thread(
            target=self._hear, args=(listener, changed, review_all), name="access changes", daemon=True
        )
        self._thread.start()

    async def close(self) -> None:
        listener, thread = self._listener, self._thread
        if listener is not None and thread is not None:
            self._listener = None
            await asyncio.to_thread(listener.close)
            await asyncio.to_thread(thread.join)

    async def admit(self, username: str, password: str) -> Admitted | Rejected:
        return await self._ask(username, self._admit, password)

    async def review(self, username: str, credential_id: uuid.UUID) -> Admitted | Rejected:
        return await self._ask(username, self._review, credential_id)

    async def _ask(
        self, username: str, question: Callable[..., Admitted | Rejected], secret: object
    ) -> Admitted | Rejected:
        self._asking += 1
        try:
            while True:
                before = self._changes
                verdict = await self._loop.run_in_executor(self._executor, question, username, secret)
                if max(self._changed.get(username, 0), self._changed.get(EVERYBODY, 0)) <= before:
                    return verdict
        except (SQLAlchemyError, psycopg.Error) as error:
            log.warning("authority.database_away", error=type(error).__name__)
            return _UNAVAILABLE
        finally:
            self._asking -= 1
            if not self._asking:
                self._changed.clear()

    def _admit(self, username: str, password: str) -> Admitted | Rejected:
        now = datetime.now(UTC)
        with self._database.transaction() as session:
            return self._verdict(session, credentials.authenticate(session, username, password, now), now)

    def _review(self, username: str, credential_id: uuid.UUID) -> Admitted | Rejected:
        now = datetime.now(UTC)
        with self._database.transaction() as session:
            verdict = credentials.recheck(session, credential_id, now)
            if isinstance(verdict, Authenticated) and verdict.username != username:
                return Rejected("this credential belongs to another name", NOT_AUTHORIZED)
            return self._verdict(session, verdict, now)

    def _verdict(self, session: Session, verdict: Authenticated | Refused, now: datetime) -> Admitted | Rejected:
        if isinstance(verdict, Refused):
            return Rejected(verdict.reason, verdict.code)
        principal = principals.load(session, verdict.username, self._root, now)
        if principal is None:
            return Rejected("this access has ended", NOT_AUTHORIZED)
        return Admitted(principal, verdict.credential_id)

    # --- the listener's thread ----------------------------------------------------------------------------------

    def _hear(self, listener: Listener, changed: Callable[[Change], None], review_all: Callable[[], None]) -> None:
        while self._listener is listener:
            for notification in listener.wait(_WAIT_S):
                change = changes.read(notification.payload)
                if change is None:
                    log.warning("authority.odd_notification", length=len(notification.payload))
                else:
                    self._tell(change.username, changed, change)
            if listener.reconnected:
                self._tell(EVERYBODY, review_all)

    def _tell(self, username: str, what: Callable[..., None], *args: object) -> None:
        def run() -> None:
            self._changes += 1
            if self._asking:
                self._changed[username] = self._changes
            what(*args)

        if self._listener is not None:
            self._loop.call_soon_threadsafe(run)
