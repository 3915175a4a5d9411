"""The broker itself: sessions and connections joined, messages published, principals kept to what they may do."""

import asyncio
from datetime import UTC, datetime
from typing import Literal

import structlog

from broker.embedded import packets
from broker.embedded.admission import Admitted, Authority, Rejected
from broker.embedded.connection import Connection
from broker.embedded.limits import CLOSE_TIMEOUT_S, MAX_LEVELS, MAX_STRANGERS, MAX_TOPIC_BYTES
from broker.embedded.message import Message
from broker.embedded.packets import Connect, MalformedPacket, Will
from broker.embedded.refusals import Refusals
from broker.embedded.retained import Retained
from broker.embedded.routing import Router
from broker.embedded.session import Session
from hub.access import decide
from hub.access.changes import EVERYBODY, Change
from hub_protocol.catalogue import encode
from hub_protocol.messages import Denied
from hub_protocol.topics import Topics

log = structlog.get_logger(__name__)

REVIEW_AGAIN_S = 1.0


class Broker:
    """Everything that the connections share. Runs in one event loop and is touched from nowhere else."""

    def __init__(self, authority: Authority, refusals: Refusals, root: str) -> None:
        self.loop = asyncio.get_running_loop()
        self.authority = authority
        self.refusals = refusals
        self.topics = Topics(root)
        self.router = Router()
        self.retained = Retained()
        self.sessions: dict[str, Session] = {}
        self.connections: set[Connection] = set()
        # Those that have sent no CONNECT yet, the oldest first.
        self.strangers: dict[Connection, None] = {}
        self.admissions: set[asyncio.Task[None]] = set()
        self._connected: dict[str, Connection] = {}
        self._expiries: dict[str, asyncio.TimerHandle] = {}
        self._reviews: set[asyncio.Task[None]] = set()
        self._woken: list[Connection] = []
        self._all_gone = asyncio.Event()

    # --- writing, once per turn ---------------------------------------------------------------------------------

    def wake(self, connection: Connection) -> None:
        if not self._woken:
            self.loop.call_soon(self._flush)
        self._woken.append(connection)

    def _flush(self) -> None:
        woken, self._woken = self._woken, []
        for connection in woken:
            if connection.state != "closed":
                connection.flush()

    # --- coming and going ---------------------------------------------------------------------------------------

    def greet(self, connection: Connection) -> None:
        """A connection was made. Where too many say nothing the oldest goes: whoever means it speaks at once."""
        self.connections.add(connection)
        self.strangers[connection] = None
        if len(self.strangers) > MAX_STRANGERS:
            next(iter(self.strangers)).crowded_out()

    async def admit(self, connection: Connection, connect: Connect) -> None:
        """Decide on a CONNECT. No session is touched before everything about it is allowed."""
        username = connect.username or ""
        try:
            password = (connect.password or b"").decode()
        except UnicodeDecodeError:
            password = ""
        admitted = await self.authority.admit(username, password)
        if connection.state != "admitting":
            return
        if isinstance(admitted, Rejected):
            self.refusals.add(username, "connect", "", admitted.reason, stranger=True)
            connection.refuse(admitted.code, admitted.reason)
            return
        principal = admitted.principal
        will_topic = connect.will.topic if connect.will else None
        verdict = decide.connect(principal, connect.client_id, will_topic)
        if not verdict:
            self._refuse(connection, connect, will_topic or "", verdict.reason, verdict.code)
            return
        too_long = _too_long(will_topic or "")
        if too_long:
            reason = f"its Will is not allowed: a topic {too_long}"
            self._refuse(connection, connect, will_topic or "", reason, decide.NOT_AUTHORIZED)
            return
        self._join(connection, connect, admitted)

    def _refuse(self, connection: Connection, connect: Connect, topic: str, reason: str, code: int) -> None:
        self.refusals.add(connect.username or "", "connect", topic, reason)
        connection.refuse(code, reason)

    def _join(self, connection: Connection, connect: Connect, admitted: Admitted) -> None:
        principal = admitted.principal
        username = principal.username
        other = self._connected.get(username)
        if other is not None:
            other.close("the same client connected again", publish_will=True)
        session = self.sessions.get(username)
        if session is not None and connect.clean:
            self._destroy(session)
            session = None
        present = session is not None
        if session is None:
            # A browser's name is used once, so nobody would ever come back for its session.
            persistent = not connect.clean and principal.kind != "browser"
            session = Session(principal, admitted.credential_id, persistent=persistent)
            self.sessions[username] = session
        session.credential_id = admitted.credential_id
        self._connected[username] = connection
        connection.opened(session, connect.will, connect.keep_alive_s, session_present=present)
        self._bind(session, admitted)
        session.forget_unreadable()
        session.attach(connection)
        log.info("session.opened", username=username, peer=connection.peer, over=connection.kind, resumed=present)
        connection.resume()

    def leave(self, connection: Connection, session: Session, will: Will | None, reason: str) -> None:
        """A connection has ended; called once for each that was open."""
        if self._connected.get(session.username) is connection:
            del self._connected[session.username]
        session.detach()
        log.info("session.closed", username=session.username, reason=reason, will=will is not None)
        if will is not None:
            verdict = decide.publish(session.principal, will.topic)
            if verdict:
                self._publish_will(session, will)
            else:
                self.refusals.add(session.username, "publish", will.topic, f"its Will: {verdict.reason}")
        if not session.persistent:
            self._destroy(session)

    def _publish_will(self, session: Session, will: Will) -> None:
        message = Message(will.topic.encode(), will.payload, will.qos)
        if will.retain and not self.retain(will.topic, message, session):
            reason = f"its Will: more than {session.limits.retained} retained topics"
            self.refusals.add(session.username, "publish", will.topic, reason)
        self.publish(will.topic, message)

    def _destroy(self, session: Session) -> None:
        if self.sessions.get(session.username) is session:
            del self.sessions[session.username]
            expiry = self._expiries.pop(session.username, None)
            if expiry is not None:
                expiry.cancel()
        self.router.unsubscribe_all(session)
        if session.overflowed:
            log.warning("session.overflowed", username=session.username, dropped=session.overflowed)

    # --- messages -----------------------------------------------------------------------------------------------

    def publish(self, topic: str, message: Message) -> None:
        """Route a message that was allowed already, or is the broker's own."""
        for session, granted in self.router.route(topic).targets:
            session.deliver(message, granted)

    def retain(self, topic: str, message: Message, publisher: Session) -> bool:
        """Keep or, when it is empty, delete the topic's retained message; False when there is no room for it."""
        if not message.payload:
            self.retained.delete(topic)
            return True
        kept = Message(message.topic, message.payload, message.qos, retain=True)
        return self.retained.store(topic, kept, publisher.username, publisher.limits.retained)

    def subscribe(self, connection: Connection, session: Session, packet_id: int, asked: list[tuple[str, int]]) -> None:
        """Grant or refuse each filter, answer, then send what is retained there."""
        if len(asked) > session.limits.subscriptions:
            raise MalformedPacket(f"SUBSCRIBE: more than {session.limits.subscriptions} topic filters at once")
        codes: list[int] = []
        granted: list[tuple[str, int]] = []
        for topic_filter, qos in asked:
            verdict = decide.subscribe(session.principal, topic_filter)
            reason = "" if verdict else verdict.reason
            if not reason and (too_long := _too_long(topic_filter)):
                reason = f"a topic filter {too_long}"
            if not reason and topic_filter not in session.subscriptions:
                most = session.limits.subscriptions
                if len(session.subscriptions) >= most:
                    reason = f"more than {most} subscriptions"
            if reason:
                codes.append(packets.SUBACK_FAILURE)
                self.refusals.add(session.username, "subscribe", topic_filter, reason)
                connection.tell_denied("subscribe", topic_filter, reason)
            else:
                codes.append(qos)
                granted.append((topic_filter, qos))
                self.router.subscribe(session, topic_filter, qos)
        connection.answer(packets.suback(packet_id, codes))
        for topic_filter, qos in granted:
            for topic, message in list(self.retained.match(topic_filter)):
                if session.may_receive(topic):
                    session.deliver(message, qos)

    def tell_denied(
        self, username: str, action: Literal["connect", "publish", "subscribe"], topic: str, reason: str
    ) -> None:
        """Say to a device on its `denied` topic what was refused and why."""
        where = self.topics.denied(username)
        payload = encode(Denied(action, topic[:1_000], reason[:1_000]))
        self.publish(where, Message(where.encode(), payload, 0))

    # --- changes ------------------------------------------------------------------------------------------------

    def changed(self, change: Change) -> None:
        """Something about a principal, or about everybody, was changed in the database."""
        if change.username == EVERYBODY:
            self.review_all()
        elif change.kind in {"revoked", "ended"}:
            self.expel(change.username, change.reason or f"this access was {change.kind}", purge=True)
        else:
            # After a rotation the new secret may be in use already: look which one let the session in.
            self._review_soon(change.username, change.reason)

    def review_all(self) -> None:
        """Look at every session again: notifications may have been missed."""
        for username in list(self.sessions):
            self._review_soon(username, "")

    def _review_soon(self, username: str, told: str) -> None:
        session = self.sessions.get(username)
        if session is None:
            return
        task = self.loop.create_task(self._review(session, told))
        self._reviews.add(task)
        task.add_done_callback(self._reviews.discard)

    async def _review(self, session: Session, told: str) -> None:
        while True:
            credential_id = session.credential_id
            verdict = await self.authority.review(session.username, credential_id)
            if self.sessions.get(session.username) is not session:
                return
            if session.credential_id != credential_id:
                # Meanwhile the client came back with another secret: what became of the old one is not about it.
                continue
            if isinstance(verdict, Admitted) or verdict.code != decide.SERVER_UNAVAILABLE:
                break
            await asyncio.sleep(REVIEW_AGAIN_S)
        if isinstance(verdict, Rejected):
            self.expel(session.username, told or verdict.reason, purge=False)
        else:
            self._bind(session, verdict)

    def _bind(self, session: Session, admitted: Admitted) -> None:
        """Let the session have exactly what the principal may do now."""
        earlier, session.principal = session.principal, admitted.principal
        connection = self._connected.get(session.username)
        if earlier.grants != admitted.principal.grants:
            if connection is not None:
                connection.routes.clear()
            for topic_filter in list(session.subscriptions):
                verdict = decide.subscribe(admitted.principal, topic_filter)
                if verdict:
                    self.router.forget(topic_filter)
                else:
                    self.router.unsubscribe(session, topic_filter)
                    self.refusals.add(session.username, "subscribe", topic_filter, f"taken away: {verdict.reason}")
                    if connection is not None:
                        connection.tell_denied("subscribe", topic_filter, f"taken away: {verdict.reason}")
            session.forget_unreadable()
        expiry = self._expiries.pop(session.username, None)
        if expiry is not None:
            expiry.cancel()
        if admitted.principal.expires_at is not None:
            left = (admitted.principal.expires_at - datetime.now(UTC)).total_seconds()
            self._expiries[session.username] = self.loop.call_later(
                max(0.0, left), self.expel, session.username, "this credential ran out; ask for a new one"
            )

    def expel(self, username: str, reason: str, *, purge: bool = False) -> None:
        """End a session at once, connected or not: told why, its Will unpublished; `purge` what it retained, too."""
        connection = self._connected.get(username)
        session = self.sessions.get(username)
        if purge:
            self.retained.delete_of(username)
        if session is None:
            return
        log.info("session.expelled", username=username, reason=reason)
        self.refusals.add(username, "connect", "", f"disconnected: {reason}")
        if connection is not None:
            if session.principal.kind == "device":
                self.tell_denied(username, "connect", "", reason)
            connection.close(reason, publish_will=False)
        # The hub's own messages wait for it through a change of its password; nobody else's session is kept.
        if session.principal.kind != "hub":
            self._destroy(session)

    # --- the end ------------------------------------------------------------------------------------------------

    async def close(self) -> None:
        """Close every connection. Wills stay unpublished: it is the broker that goes, not the clients."""
        for task in (*self.admissions, *self._reviews):
            task.cancel()
        for connection in list(self.connections):
            connection.close("the broker is stopping", publish_will=False)
        if self.connections:
            self._all_gone.clear()
            try:
                async with asyncio.timeout(2 * CLOSE_TIMEOUT_S):
                    await self._all_gone.wait()
            except TimeoutError:
                log.warning("broker.connections_left", count=len(self.connections))
        for expiry in self._expiries.values():
            expiry.cancel()

    def gone(self, connection: Connection) -> None:
        """A connection's transport is closed."""
        self.connections.discard(connection)
        if not self.connections:
            self._all_gone.set()


def _too_long(topic: str) -> str:
    """What is too much of a topic or filter; "" when it is fine."""
    if topic.count("/") >= MAX_LEVELS:
        return f"has at most {MAX_LEVELS} levels here"
    return f"has at most {MAX_TOPIC_BYTES} bytes here" if len(topic.encode()) > MAX_TOPIC_BYTES else ""
