"""The broker as a whole: its parts put together, its connections counted, its end."""

import asyncio

import structlog

from broker.embedded.admission import Authority
from broker.embedded.admissions import Admissions
from broker.embedded.exchange import SESSION_EXPIRY_S, Exchange
from broker.embedded.guard import Guard
from broker.embedded.limits import CLOSE_TIMEOUT_S, UNBOUNDED, Bounds
from broker.embedded.link import Link
from broker.embedded.output import Output
from broker.embedded.refusals import Refusals
from broker.embedded.restoring import restore
from broker.embedded.reviews import Reviews
from broker.embedded.store import Store
from hub.access.changes import Change

log = structlog.get_logger(__name__)


class Broker:
    """Runs in one event loop and is touched from nowhere else. Without a `store` a restart forgets everything."""

    def __init__(
        self,
        authority: Authority,
        refusals: Refusals,
        root: str,
        bounds: Bounds = UNBOUNDED,
        store: Store | None = None,
        session_expiry_s: float = SESSION_EXPIRY_S,
    ) -> None:
        self.loop = asyncio.get_running_loop()
        self.refusals = refusals
        self.bounds = bounds
        self.guard = Guard(bounds)
        self.exchange = Exchange(refusals, root, bounds, store, session_expiry_s)
        self.output = Output(store.journal if store is not None else None, self.exchange.keeping)
        self.reviews = Reviews(self.exchange, authority)
        self.admissions = Admissions(self.exchange, self.reviews, authority, self.guard)
        self.connections: set[Link] = set()
        self._all_gone = asyncio.Event()
        # Whoever runs the broker must look whether it fails: then nobody is ever admitted.
        self.restoring = self.loop.create_task(restore(self.exchange, self.reviews, authority))

    def changed(self, change: Change) -> None:
        """Something about a principal, or about everybody, was changed in the database."""
        self.reviews.changed(change)

    def review_all(self) -> None:
        """Look at every session and retained topic again: notifications may have been missed."""
        self.reviews.news_missed()

    def greet(self, connection: Link) -> None:
        """A connection was made."""
        self.connections.add(connection)
        if not connection.counted:
            if not self.welcomes(connection.address):
                connection.turn_away("too many connections from its address")
                return
            connection.counted = True
        self.admissions.greet(connection)

    def welcomes(self, address: str) -> bool:
        """Whether there is room for one more connection from this address, which is then counted."""
        too_many = self.guard.opened(address)
        if too_many:
            self.refusals.add("", "connect", "", too_many, stranger=True)
        return not too_many

    def gone(self, connection: Link) -> None:
        """A connection's transport is closed."""
        self.connections.discard(connection)
        self.exchange.traffic.gone.add(connection.flow)
        if connection.counted:
            self.guard.closed(connection.address)
        if not self.connections:
            self._all_gone.set()

    async def close(self) -> None:
        """Close every connection. Wills stay unpublished: it is the broker that goes, not the clients."""
        self.restoring.cancel()
        self.admissions.close()
        self.reviews.close()
        for connection in list(self.connections):
            connection.close("the broker is stopping", publish_will=False)
        if self.connections:
            self._all_gone.clear()
            try:
                async with asyncio.timeout(2 * CLOSE_TIMEOUT_S):
                    await self._all_gone.wait()
            except TimeoutError:
                log.warning("broker.connections_left", count=len(self.connections))
        if self.exchange.store is not None:
            await self.exchange.store.close()
