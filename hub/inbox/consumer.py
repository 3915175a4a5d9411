"""Takes messages in batches, has them stored, and only then acknowledges them to the broker."""

import threading
import time
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import structlog
from psycopg.errors import DeadlockDetected, LockNotAvailable, QueryCanceled, ReadOnlySqlTransaction
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolExhausted

from hub import dead_letters
from hub.database import Database
from hub.inbox import router
from hub.inbox.envelope import Incoming, Outcome
from hub.inbox.gate import Gate
from hub.inbox.tally import Tally
from hub.inbox.waiting import Waiting

log = structlog.get_logger(__name__)

BATCH: Final = 2_000
BATCH_BYTES: Final = 8 * 1024**2
RETRY_S: Final = 0.5
# A transaction costs about as much as forty messages in it. So what nobody waits for may wait for company, so long
# after the batch before: heartbeats and samples of a fleet, and events for as long as nobody sees. All else does not.
PATIENCE_S: Final = {"heartbeat": 0.25, "telemetry": 0.15, "event": 0.08}
# So often the same messages may meet somebody else's lock, or take too long, before they are looked at one by one.
TRIES: Final = 3


class Acknowledger(Protocol):
    """What the consumer needs of the MQTT client."""

    def acknowledge(self, deliveries: list[tuple[int, int, int]], /) -> None: ...


class Consumer:
    """Messages wait in memory until their batch is committed; `on_stored` is called after each commit, then they are
    acknowledged. A batch that the database cannot take now is tried again until it can; a message that fails alone is
    parked with its error. `gate` keeps out who says too much; `tally` counts what came, where the broker does not.
    """

    def __init__(
        self,
        database: Database,
        root: str,
        on_stored: Callable[[Outcome], None],
        tally: Tally | None = None,
        *,
        gate: Gate | None = None,
        waiting: Waiting | None = None,
    ) -> None:
        self._database = database
        self._root = root
        self._prefix = f"{root}/d/"
        self._on_stored = on_stored
        self._tally = tally
        self._gate = gate
        self._waiting = waiting or Waiting()
        self._stopping = threading.Event()
        self.dropped = 0

    def put(self, incoming: Incoming) -> bool:
        """Take a message in; False for one that is set aside and to be acknowledged at once.

        Blocks while QoS 1 finds no room: so the broker's own bounds hold back whoever sends.
        """
        kind = ""
        # What the broker kept is sent all at once after a connect, and nobody's flood.
        if incoming.topic.startswith(self._prefix) and not incoming.retained:
            handle, _, rest = incoming.topic[len(self._prefix) :].partition("/")
            kind = rest.partition("/")[0]
            if self._gate is not None and not self._gate.admits(
                handle, kind, incoming.topic, len(incoming.payload), time.monotonic()
            ):
                return False
        if (
            not self._waiting.put(incoming, is_life=kind == "heartbeat", patience_s=PATIENCE_S.get(kind, 0.0))
            and incoming.delivery[2] == 0
        ):
            self.dropped += 1
            if self.dropped % 1000 == 1:
                log.warning("inbox.overflow", dropped=self.dropped)
        return True

    def stop(self) -> None:
        """Finish the batch at hand; what waits was not acknowledged, so the broker sends it again."""
        self._stopping.set()
        self._waiting.close()

    def run(self, acknowledger: Acknowledger) -> None:
        """Work until stopped."""
        while not self._stopping.is_set():
            # Whatever came while the last batch was stored is the next one: under load batches grow by themselves, and
            # at rest nothing waits for company.
            batch = self._waiting.take(BATCH, BATCH_BYTES, 0.2)
            is_stored = bool(batch) and self._store(batch)
            if is_stored:
                acknowledger.acknowledge([incoming.delivery for incoming in batch])
            if self._tally is not None:
                self._tally.count(batch if is_stored else ())

    def _store(self, batch: Sequence[Incoming]) -> bool:
        """Store a batch, halving it around what fails; False when the hub stops before the database could take it."""
        tries = 0
        while not self._stopping.is_set():
            try:
                with self._database.transaction() as session:
                    outcome = router.process(session, batch, self._root)
            except (DBAPIError, PoolExhausted) as error:
                if _is_in_the_way(error):
                    tries += 1
                elif not _is_away(error):
                    tries = TRIES
                if tries >= TRIES:
                    return self._split(batch, error)
                log.warning("inbox.database_away", waiting=len(self._waiting), error=type(_cause(error)).__name__)
                self._stopping.wait(RETRY_S)
            except Exception as error:  # noqa: BLE001  (whatever one message does must not stop the others)
                return self._split(batch, error)
            else:
                self._tell(outcome)
                return True
        return False

    def _tell(self, outcome: Outcome) -> None:
        if self._gate is not None and outcome.garbage:
            self._gate.garbage(outcome.garbage, time.monotonic())
        try:
            self._on_stored(outcome)
        except Exception:
            # It is stored. What could not be said about it is said when the device sends it again, or never matters.
            log.exception("inbox.not_told")

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
                    dead_letters.park(
                        session,
                        incoming.topic,
                        incoming.payload,
                        f"{type(cause).__name__}: {cause}",
                        incoming.received_at,
                        direction="in",
                        handle=incoming.topic.removeprefix(self._prefix).partition("/")[0],
                    )
            except SQLAlchemyError as failure:
                log.warning("inbox.database_away", error=type(failure).__name__)
                self._stopping.wait(RETRY_S)
            else:
                # Kept here, it need not come again: a device that kept it to be sure may put it aside as well.
                self._tell(router.parked(incoming, self._root))
                return True
        return False


def _cause(error: Exception) -> BaseException:
    return error.orig if isinstance(error, DBAPIError) and error.orig is not None else error


def _is_away(error: DBAPIError | PoolExhausted) -> bool:
    """Whether the server is not there or in no state to store anything; it says nothing about the messages."""
    if isinstance(error, PoolExhausted) or error.connection_invalidated:
        return True
    state = getattr(error.orig, "sqlstate", None)
    if state is None:  # not the server's word: the connection failed, or the driver refused a value
        return isinstance(error, OperationalError | InterfaceError)
    return isinstance(error.orig, ReadOnlySqlTransaction) or str(state)[:2] in ("08", "53", "57", "58")


def _is_in_the_way(error: DBAPIError | PoolExhausted) -> bool:
    """Whether others stood in the way, or it took too long: it may succeed later, unless the messages are the cause."""
    if isinstance(error, PoolExhausted) or error.connection_invalidated:
        return False
    state = str(getattr(error.orig, "sqlstate", None))
    return isinstance(error.orig, DeadlockDetected | LockNotAvailable | QueryCanceled) or state.startswith("40")
