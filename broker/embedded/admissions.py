"""From a CONNECT to a session: nothing of a session is touched before everything about the CONNECT is allowed."""

import asyncio
from typing import Final

import structlog

from broker.embedded.admission import Admitted, Authority, Rejected
from broker.embedded.exchange import Exchange, give, why_too_long
from broker.embedded.guard import Guard
from broker.embedded.limits import MAX_ADMISSIONS, MAX_STRANGERS
from broker.embedded.link import Link
from broker.embedded.packets import Connect
from broker.embedded.reviews import Reviews
from broker.embedded.session import Session
from hub.access import decide

log = structlog.get_logger(__name__)

_BUSY: Final = "too many connections wait to be admitted"


class Admissions:
    """Strangers, those whose CONNECT is being decided, and the only way to a session."""

    def __init__(self, exchange: Exchange, reviews: Reviews, authority: Authority, guard: Guard) -> None:
        self._exchange = exchange
        self._reviews = reviews
        self._authority = authority
        self._guard = guard
        self._loop = asyncio.get_running_loop()
        # Those that have sent no CONNECT yet, the oldest first.
        self._strangers: dict[Link, None] = {}
        self._open: set[asyncio.Task[None]] = set()

    def greet(self, connection: Link) -> None:
        """A connection was made. Where too many say nothing the oldest goes: whoever means it speaks at once."""
        self._strangers[connection] = None
        if len(self._strangers) > MAX_STRANGERS:
            next(iter(self._strangers)).crowded_out()

    def forget(self, connection: Link) -> None:
        """The connection has sent its CONNECT, or has ended."""
        self._strangers.pop(connection, None)

    def admit(self, connection: Link, connect: Connect) -> None:
        """Begin to decide on a CONNECT that names its user; the connection reads nothing meanwhile."""
        if len(self._open) >= MAX_ADMISSIONS:
            connection.refuse(decide.SERVER_UNAVAILABLE, _BUSY)
            return
        connection.state = "admitting"
        task = self._loop.create_task(self._admit(connection, connect))
        self._open.add(task)
        task.add_done_callback(self._open.discard)

    async def _admit(self, connection: Link, connect: Connect) -> None:
        username = connect.username or ""
        try:
            password = (connect.password or b"").decode()
        except UnicodeDecodeError:
            password = ""
        # Nobody may come before the session that waits for it.
        await self._exchange.ready.wait()
        admitted = await self._authority.admit(username, password)
        if isinstance(admitted, Admitted):
            self._guard.succeeded(connection.address, username)
        elif admitted.code == decide.BAD_CREDENTIALS:
            self._guard.failed(connection.address, username)
        if connection.state != "admitting":
            return
        if isinstance(admitted, Rejected):
            self._exchange.refusals.add(username, "connect", "", admitted.reason, stranger=True)
            connection.refuse(admitted.code, admitted.reason)
            return
        principal = admitted.principal
        will_topic = connect.will.topic if connect.will else None
        verdict = decide.connect(principal, connect.client_id, will_topic)
        if not verdict:
            self._refuse(connection, connect, will_topic or "", verdict.reason, verdict.code)
            return
        too_long = why_too_long(will_topic or "")
        if too_long:
            reason = f"its Will is not allowed: a topic {too_long}"
            self._refuse(connection, connect, will_topic or "", reason, decide.NOT_AUTHORIZED)
            return
        stored = self._exchange.sessions.get(principal.username)
        if not self._exchange.keeps and (not connect.clean or (stored is not None and stored.keeper is not None)):
            connection.refuse(decide.SERVER_UNAVAILABLE, "its session would have to be stored, and cannot be now")
            return
        self._join(connection, connect, admitted)

    def _refuse(self, connection: Link, connect: Connect, topic: str, reason: str, code: int) -> None:
        self._exchange.refusals.add(connect.username or "", "connect", topic, reason)
        connection.refuse(code, reason)

    def _join(self, connection: Link, connect: Connect, admitted: Admitted) -> None:
        exchange = self._exchange
        principal = admitted.principal
        username = principal.username
        other = exchange.connected.get(username)
        if other is not None:
            other.close("the same client connected again", publish_will=True)
        session = exchange.sessions.get(username)
        if session is not None and connect.clean:
            exchange.destroy(session)
            session = None
        present = session is not None
        if session is None:
            # A browser's name is used once, so nobody would ever come back for its session.
            persistent = not connect.clean and principal.kind != "browser"
            store = exchange.store if persistent else None
            keeper = store.keep(username, admitted.credential_id) if store is not None else None
            session = Session(principal, admitted.credential_id, persistent=persistent, keeper=keeper)
            exchange.sessions[username] = session
        session.credential_id = admitted.credential_id
        exchange.connected[username] = connection
        connection.opened(session, connect.will, connect.keep_alive_s, session_present=present)
        self._reviews.bind(session, admitted)
        give(session.forget_unreadable())
        session.attach(connection)
        log.info("session.opened", username=username, peer=connection.peer, over=connection.kind, resumed=present)
        connection.resume()

    def close(self) -> None:
        """Nobody more is admitted."""
        for task in self._open:
            task.cancel()
