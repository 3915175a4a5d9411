"""Gathers the connections' writes of a turn of the loop; what tells of something to be kept waits until it is kept."""

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

import structlog

from broker.embedded.journal import Journal

log = structlog.get_logger(__name__)

# A disk that takes longer for one write has something wrong with it, and whoever waits for it should be told.
_PATIENCE_S: Final = 5.0


class Waiting(Protocol):
    """What has something to say that must wait: until the turn ends, or until it is true for good."""

    def flush(self) -> None:
        """Nothing more to wait for."""
        ...

    def seal(self) -> bytes:
        """Hand over what was gathered, which leaves by `written` only when it is true for good."""
        ...

    def written(self, data: bytes) -> None:
        """What was sealed may leave."""
        ...

    def unwritten(self) -> None:
        """What was sealed may never leave."""
        ...


class Output:
    """Without a journal, or while nothing is to be written there, a turn's output leaves at the turn's end.

    `kept` is called with False when the journal cannot be written any more, and with True when it can again.
    """

    def __init__(self, journal: Journal | None, kept: Callable[[bool], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._journal = journal
        self._kept = kept
        self._woken: list[Waiting] = []
        self._held: list[Waiting] = []
        self._slow: asyncio.TimerHandle | None = None
        self._scheduled = False
        self._writing = False
        self._keeps = True
        if journal is not None:
            journal.start(self._schedule, self._commit)

    @property
    def holding(self) -> bool:
        """Whether nothing may leave now."""
        return self._journal is not None and self._journal.holding

    def wake(self, connection: Waiting) -> None:
        """Flush the connection at the end of this turn of the loop, or once what it says is true for good."""
        self._woken.append(connection)
        if not self._scheduled:
            self._schedule()

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._scheduled = False
        woken, self._woken = self._woken, []
        if self.holding:
            self._held += woken
            self._commit()
        else:
            for connection in woken:
                connection.flush()

    def _commit(self) -> None:
        if self._journal is None or self._writing:
            return
        self._writing = True
        sealed = [(connection, connection.seal()) for connection in self._held]
        self._held = []
        self._slow = self._loop.call_later(_PATIENCE_S, self._stalled)
        self._journal.write(lambda kept: self._written(sealed, kept))

    def _stalled(self) -> None:
        log.error("store.stalled", seconds=_PATIENCE_S, waiting=len(self._held))

    def _written(self, sealed: list[tuple[Waiting, bytes]], kept: bool) -> None:  # noqa: FBT001
        self._writing = False
        if self._slow is not None:
            self._slow.cancel()
        if kept:
            for connection, data in sealed:
                connection.written(data)
        else:
            for connection in [*(connection for connection, _ in sealed), *self._held]:
                connection.unwritten()
            self._held = []
        if kept is not self._keeps:
            self._keeps = kept
            self._kept(kept)
        if self.holding:
            self._commit()
        else:
            held, self._held = self._held, []
            for connection in held:
                connection.flush()
