"""Takes messages in batches, has them stored, and only then acknowledges them to the broker."""

import queue
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final, Protocol

import structlog
from psycopg.errors import DeadlockDetected, LockNotAvailable, QueryCanceled, ReadOnlySqlTransaction
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolExhausted

from hub.database import Database
from hub.inbox import router
from hub.inbox.envelope import Incoming, Outcome
from hub.inbox.tally import Tally

log = structlog.get_logger(__name__)

BATCH: Final = 500
# What arrives unasked (QoS 0) while the hub cannot keep up is bounded here; QoS 1 is bounded by the broker's window.
WAITING_MAX: Final = 50_000
RETRY_S: Final = 0.5


class Acknowledger(Protocol):
    """What the consumer needs of the MQTT client."""

    def acknowledge(self, deliveries: list[tuple[int, int, int]], /) -> None: ...


class Consumer:
    """Messages wait in memory until their batch is committed; `on_stored` is called after each commit, then they are
    acknowledged. A batch that the database cannot take now is tried again until it can; a message that fails alone is
    parked with its error. `tally` counts what came, where the broker does not.
    """

    def __init__(
        self, database: Database, root: str, on_stored: Callable[[Outcome], None], tally: Tally | None = None
    ) -> None:
        self._database = database
        self._root = root
        self._on_stored = on_stored
        self._tally = tally
        self._waiting: queue.SimpleQueue[Incoming] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self.dropped = 0

    def put(self, incoming: Incoming) -> None:
        """Take a message in; never blocks."""
        if incoming.delivery[2] == 0 and self._waiting.qsize() > WAITING_MAX:
            self.dropped += 1
            if self.dropped % 1000 == 1:
                log.warning("inbox.overflow", dropped=self.dropped)
            return
        self._waiting.put(incoming)

    def stop(self) -> None:
        """Finish the batch at hand; what waits was not acknowledged, so the broker sends it again."""
        self._stopping.set()

    def run(self, acknowledger: Acknowledger) -> None:
        """Work until stopped."""
        while not self._stopping.is_set():
            batch = self._take()
            is_stored = bool(batch) and self._store(batch)
            if is_stored:
                acknowledger.acknowledge([incoming.delivery for incoming in batch])
            if self._tally is not None:
                self._tally.count(batch if is_stored else ())

    def _take(self) -> list[Incoming]:
        try:
            batch = [self._waiting.get(timeout=0.2)]
        except queue.Empty:
            return []
        # Whatever came while the last batch was stored is the next one: under load batches grow by themselves, and at
        # rest nothing waits for company.
        while len(batch) < BATCH:
            try:
                batch.append(self._waiting.get_nowait())
            except queue.Empty:
                break
        return batch

    def _store(self, batch: Sequence[Incoming]) -> bool:
        """Store a batch, halving it around what fails; False when the hub stops before the database could take it."""
        while not self._stopping.is_set():
            try:
                with self._database.transaction() as session:
                    outcome = router.process(session, batch, self._root)
            except (DBAPIError, PoolExhausted) as error:
                if not _is_passing(error):
                    return self._split(batch, error)
                log.warning("inbox.database_away", waiting=self._waiting.qsize(), error=type(_cause(error)).__name__)
                self._stopping.wait(RETRY_S)
            except Exception as error:  # noqa: BLE001  (whatever one message does must not stop the others)
                return self._split(batch, error)
            else:
                self._on_stored(outcome)
                return True
        return False

    def _split(self, batch: Sequence[Incoming], error: Exception) -> bool:
        if len(batch) > 1:
            half = len(batch) // 2
            return self._store(batch[:half]) and self._store(batch[half:])
        return self._park(batch[0], error)

    def _park(self, incoming: Incoming, error: Exception) -> bool:
        cause = _cause(error)
        log.error("inbox.parked", topic=incoming.topic[:200], error=type(cause).__name__)
        while not self._stopping.is_set():
            try:
                with self._database.transaction() as session:
                    session.execute(
                        text(
                            "INSERT INTO dead_letters (topic, payload, error, received_at, parked_at) "
                            "VALUES (:topic, :payload, :error, :received_at, :now)"
                        ),
                        {
                            "topic": incoming.topic.replace("\0", "�"),
                            "payload": incoming.payload,
                            "error": f"{type(cause).__name__}: {cause}"[:2000].replace("\0", "�"),
                            "received_at": incoming.received_at,
                            "now": datetime.now(UTC),
                        },
                    )
            except SQLAlchemyError as failure:
                log.warning("inbox.database_away", error=type(failure).__name__)
                self._stopping.wait(RETRY_S)
            else:
                # Kept here, it need not come again: a device that kept it to be sure may put it aside as well.
                self._on_stored(router.parked(incoming, self._root))
                return True
        return False


def _cause(error: Exception) -> BaseException:
    return error.orig if isinstance(error, DBAPIError) and error.orig is not None else error


def _is_passing(error: DBAPIError | PoolExhausted) -> bool:
    """Whether the same batch may succeed later: the database was away, or others stood in the way."""
    if isinstance(error, PoolExhausted) or error.connection_invalidated:
        return True
    state = getattr(error.orig, "sqlstate", None)
    if state is None:  # not the server's word: the connection failed, or the driver refused a value
        return isinstance(error, OperationalError | InterfaceError)
    return isinstance(error.orig, DeadlockDetected | LockNotAvailable | QueryCanceled | ReadOnlySqlTransaction) or str(
        state
    )[:2] in ("08", "40", "53", "57", "58")
