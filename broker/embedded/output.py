"""Gathers the connections' writes of a turn of the loop; what tells of something to be kept waits until it is kept."""

import asyncio
from collections.abc import Callable

from broker.embedded.journal import Journal
from broker.embedded.link import Link


class Output:
    """Without a journal, or while nothing is to be written there, a turn's output leaves at the turn's end.

    `kept` is called with False when the journal cannot be written any more, and with True when it can again.
    """

    def __init__(self, journal: Journal | None, kept: Callable[[bool], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._journal = journal
        self._kept = kept
        self._woken: list[Link] = []
        self._held: list[Link] = []
        self._scheduled = False
        self._writing = False
        self._keeps = True
        if journal is not None:
            journal.start(self._schedule, self._commit)

    @property
    def holding(self) -> bool:
        """Whether nothing may leave now."""
        return self._journal is not None and self._journal.holding

    def wake(self, connection: Link) -> None:
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
        self._journal.write(lambda kept: self._written(sealed, kept))

    def _written(self, sealed: list[tuple[Link, bytes]], kept: bool) -> None:  # noqa: FBT001
        self._writing = False
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
