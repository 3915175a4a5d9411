"""Principals from Postgres: admitted in worker threads, looked at again when the database says what changed."""

import asyncio
import threading
import uuid
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Final, TypeVar

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
_OF_ANOTHER: Final = Refused("this credential belongs to another name", NOT_AUTHORIZED)
# Names in one transaction: of reviews, and of admissions, where each costs the checking of a secret as well.
_MOST_AT_ONCE: Final = 500
_MOST_ADMITTED: Final = 100
# Transactions of admissions under way at once; whoever comes meanwhile waits for the next and shares it with others.
_ADMITTING: Final = 2

T = TypeVar("T")


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
        self._waiting: deque[tuple[str, str, asyncio.Future[tuple[Admitted | Rejected, int]]]] = deque()
        self._admitting: set[asyncio.Task[None]] = set()
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
        while True:
            verdict: asyncio.Future[tuple[Admitted | Rejected, int]] = self._loop.create_future()
            self._waiting.append((username, password, verdict))
            if len(self._admitting) < _ADMITTING:
                task = self._loop.create_task(self._admit_the_waiting())
                self._admitting.add(task)
                task.add_done_callback(self._admitting.discard)
            admitted, at = await verdict
            # A change may have been heard between the verdict and this turn of the loop, when nobody asked any more.
            if at == self._changes:
                return admitted

    async def review_many(self, asked: Sequence[tuple[str, uuid.UUID]]) -> dict[str, Admitted | Rejected]:
        verdicts: dict[str, Admitted | Rejected] = {}
        for start in range(0, len(asked), _MOST_AT_ONCE):
            verdicts |= await self._ask(dict(asked[start : start + _MOST_AT_ONCE]), self._review)
        return verdicts

    async def ended(self, usernames: Sequence[str]) -> list[str] | None:
        found: list[str] = []
        for start in range(0, len(usernames), _MOST_AT_ONCE):
            names = usernames[start : start + _MOST_AT_ONCE]
            try:
                there = await self._loop.run_in_executor(self._executor, self._still_there, names)
            except (SQLAlchemyError, psycopg.Error) as error:
                log.warning("authority.database_away", error=type(error).__name__)
                return None
            found += [name for name in names if name not in there]
        return found

    def _still_there(self, names: Sequence[str]) -> set[str]:
        with self._database.transaction() as session:
            return set(principals.load_many(session, names, self._root, datetime.now(UTC)))

    async def _admit_the_waiting(self) -> None:
        """Many at once: after a restart of the broker everybody knocks in the same second."""
        while self._waiting:
            secrets: dict[str, str] = {}
            verdicts: dict[str, asyncio.Future[tuple[Admitted | Rejected, int]]] = {}
            while self._waiting and len(secrets) < _MOST_ADMITTED and self._waiting[0][0] not in secrets:
                username, secrets[username], verdicts[username] = self._waiting.popleft()
            judged: dict[str, Admitted | Rejected] = {}
            try:
                judged = await self._ask(secrets, self._admit)
            finally:
                for name, verdict in verdicts.items():
                    if not verdict.done():
                        verdict.set_result((judged.get(name, _UNAVAILABLE), self._changes))

    async def _ask(
        self, about: dict[str, T], question: Callable[[dict[str, T]], dict[str, Admitted | Rejected]]
    ) -> dict[str, Admitted | Rejected]:
        """The verdict on each name; what changed while it was asked about is asked about again."""
        verdicts: dict[str, Admitted | Rejected] = {}
        self._asking += 1
        try:
            while about:
                before = self._changes
                verdicts |= await self._loop.run_in_executor(self._executor, question, about)
                if self._changed.get(EVERYBODY, 0) <= before:
                    about = {name: what for name, what in about.items() if self._changed.get(name, 0) > before}
        except (SQLAlchemyError, psycopg.Error) as error:
            log.warning("authority.database_away", error=type(error).__name__)
            verdicts |= dict.fromkeys(about, _UNAVAILABLE)
        finally:
            self._asking -= 1
            if not self._asking:
                self._changed.clear()
        return verdicts

    def _admit(self, about: dict[str, str]) -> dict[str, Admitted | Rejected]:
        now = datetime.now(UTC)
        with self._database.transaction() as session:
            verdicts = credentials.authenticate_many(session, list(about.items()), now)
            return self._judge(session, dict(zip(about, verdicts, strict=True)), now)

    def _review(self, about: dict[str, uuid.UUID]) -> dict[str, Admitted | Rejected]:
        now = datetime.now(UTC)
        with self._database.transaction() as session:
            known = credentials.recheck_many(session, list(about.values()), now)
            verdicts: dict[str, Authenticated | Refused] = {}
            for name, credential_id in about.items():
                verdict = known[credential_id]
                other = isinstance(verdict, Authenticated) and verdict.username != name
                verdicts[name] = _OF_ANOTHER if other else verdict
            return self._judge(session, verdicts, now)

    def _judge(
        self, session: Session, verdicts: dict[str, Authenticated | Refused], now: datetime
    ) -> dict[str, Admitted | Rejected]:
        """Those who are who they say they are, with what they may do now."""
        good = [name for name, verdict in verdicts.items() if isinstance(verdict, Authenticated)]
        loaded = principals.load_many(session, good, self._root, now) if good else {}
        judged: dict[str, Admitted | Rejected] = {}
        for name, verdict in verdicts.items():
            if isinstance(verdict, Refused):
                judged[name] = Rejected(verdict.reason, verdict.code)
            elif (principal := loaded.get(name)) is None:
                judged[name] = Rejected("this access has ended", NOT_AUTHORIZED)
            else:
                judged[name] = Admitted(principal, verdict.credential_id)
        return judged

    # --- the listener's thread ----------------------------------------------------------------------------------

    def _hear(self, listener: Listener, changed: Callable[[Change], None], review_all: Callable[[], None]) -> None:
        while self._listener is listener:
            for notification in listener.wait(_WAIT_S):
                told = changes.read_all(notification.payload)
                if not told:
                    log.warning("authority.odd_notification", length=len(notification.payload))
                for change in told:
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
