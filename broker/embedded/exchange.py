"""What all parts of the broker share: sessions, subscriptions and messages, and what becomes of a message."""

import asyncio
from typing import Final

import structlog

from broker.embedded import packets
from broker.embedded.flow import Traffic
from broker.embedded.limits import MAX_LEVELS, MAX_TOPIC_BYTES, UNBOUNDED, Bounds
from broker.embedded.link import Action, Link
from broker.embedded.message import Message
from broker.embedded.packets import MalformedPacket, Will
from broker.embedded.refusals import Refusals
from broker.embedded.retained import Retained
from broker.embedded.routing import Router
from broker.embedded.session import Session, Sharing
from broker.embedded.store import Store
from hub.access import decide
from hub.access.principals import Principal
from hub_protocol.catalogue import encode
from hub_protocol.messages import Denied

log = structlog.get_logger(__name__)


# How long the session of an absent client is kept, unless a setting says otherwise.
SESSION_EXPIRY_S: Final = 7 * 24 * 3600.0


class CannotKeep(Exception):
    """What arrived would have to outlive the broker, and cannot be written now: it is not acknowledged."""


class Exchange:
    """Takes messages from those who may send them and gives them to those who may have them.

    `sessions` and `connected` are by username, which is the client id as well. `ready` once the sessions that the
    store held are back. While not `keeps`, the store cannot be written, and what would have to be kept is not taken.
    """

    def __init__(
        self,
        refusals: Refusals,
        root: str,
        bounds: Bounds = UNBOUNDED,
        store: Store | None = None,
        session_expiry_s: float = SESSION_EXPIRY_S,
    ) -> None:
        self.root = root
        self._loop = asyncio.get_running_loop()
        self.store = store
        self.session_expiry_s = session_expiry_s
        self.ready = asyncio.Event()
        self.keeps = True
        self.refusals = refusals
        self.traffic = Traffic(bounds)
        self.router = Router()
        self.retained = Retained(store)
        # Of the broker's own figures: never stored, and never anybody else's.
        self.figures = Retained()
        # Messages that found no room in sessions that are gone.
        self.dropped = 0
        self.sessions: dict[str, Session] = {}
        self.connected: dict[str, Link] = {}

    # --- messages -----------------------------------------------------------------------------------------------

    def publish(self, topic: str, message: Message) -> None:
        """Route a message that was allowed already, or is the broker's own."""
        for target, granted in self.router.route(topic).targets:
            target.deliver(message, granted)

    def retain(self, topic: str, message: Message, publisher: Session) -> str:
        """Keep or, when it is empty, delete the topic's retained message; returns why it may not be kept, or ""."""
        if not message.payload:
            self.retained.delete(topic)
            return ""
        kept = Message(message.topic, message.payload, message.qos, retain=True)
        return self.retained.store(topic, kept, publisher.username, publisher.limits)

    def keeping(self, keeps: bool) -> None:  # noqa: FBT001 - the one fact that is told
        """The store can or cannot be written from now on; those for whom it must be are sent away meanwhile."""
        self.keeps = keeps
        self.router.forget_all()
        if not keeps:
            for session in [session for session in self.sessions.values() if session.keeper is not None]:
                connection = self.connected.get(session.username)
                if connection is not None:
                    connection.close("the broker cannot store anything now", publish_will=True)

    def tell_denied(self, principal: Principal, action: Action, topic: str, reason: str) -> None:
        """Say to a device or an integration on its `denied` topic what was refused and why."""
        where = principal.denied_topic
        if where:
            payload = encode(Denied(action, topic[:1_000], reason[:1_000]))
            self.publish(where, Message(where.encode(), payload, 0))

    # --- subscriptions ------------------------------------------------------------------------------------------

    def subscribe(self, connection: Link, session: Session, packet_id: int, asked: list[tuple[str, int]]) -> None:
        """Grant or refuse each filter, answer, then send what is retained there."""
        if len(asked) > session.limits.subscriptions:
            raise MalformedPacket(f"SUBSCRIBE: more than {session.limits.subscriptions} topic filters at once")
        codes: list[int] = []
        granted: list[tuple[str, int]] = []
        for topic_filter, qos in asked:
            reason = self._why_not(session, topic_filter)
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
            if topic_filter.startswith("$share/"):
                continue
            for topic, message in [*self.retained.match(topic_filter), *self.figures.match(topic_filter)]:
                if session.may_receive(topic):
                    session.deliver(message, qos)

    def _why_not(self, session: Session, topic_filter: str) -> str:
        """Why the session may not have this subscription; "" when it may."""
        verdict = decide.subscribe(session.principal, topic_filter)
        if not verdict:
            return verdict.reason
        if too_long := why_too_long(topic_filter):
            return f"a topic filter {too_long}"
        most = session.limits.subscriptions
        if topic_filter not in session.subscriptions and len(session.subscriptions) >= most:
            return f"more than {most} subscriptions"
        return ""

    # --- sessions -----------------------------------------------------------------------------------------------

    def leave(self, connection: Link, session: Session, will: Will | None, reason: str) -> None:
        """A connection has ended; called once for each that was open."""
        if self.connected.get(session.username) is connection:
            del self.connected[session.username]
        session.detach()
        log.info("session.closed", username=session.username, reason=reason, will=will is not None)
        if will is not None:
            verdict = decide.publish(session.principal, will.topic)
            if verdict:
                self._publish_will(session, will)
            else:
                self.refusals.add(session.username, "publish", will.topic, f"its Will: {verdict.reason}")
        if session.persistent:
            self.await_return(session, self.session_expiry_s)
        else:
            self.destroy(session)

    def await_return(self, session: Session, left_s: float) -> None:
        """Keep the session of an absent client for so long."""
        session.cancel_absence()
        session.absence = self._loop.call_later(max(0.0, left_s), self._stayed_away, session)

    def _stayed_away(self, session: Session) -> None:
        log.info("session.stayed_away", username=session.username, waiting=len(session.queue) + len(session.inflight))
        self.destroy(session)

    def _publish_will(self, session: Session, will: Will) -> None:
        message = Message(will.topic.encode(), will.payload, will.qos)
        if will.retain and (reason := self.retain(will.topic, message, session)):
            self.refusals.add(session.username, "publish", will.topic, f"its Will: {reason}")
        if session.principal.kind in {"device", "integration"}:
            self.traffic.add(session.username, will.topic, 1)
        self.publish(will.topic, message)

    def destroy(self, session: Session) -> None:
        """Forget a session and all that waits for its client, once."""
        if self.sessions.get(session.username) is not session:
            return
        del self.sessions[session.username]
        unread = session.end()
        self.router.unsubscribe_all(session)
        give(unread)
        self.dropped += session.overflowed
        if session.overflowed:
            log.warning("session.overflowed", username=session.username, dropped=session.overflowed)


def give(unread: list[tuple[Sharing, Message]]) -> None:
    """Give what one member of a shared subscription leaves behind to others."""
    for sharing, message in unread:
        sharing.give(message)


def why_too_long(topic: str) -> str:
    """What is too much of a topic or filter; "" when it is fine."""
    if topic.count("/") >= MAX_LEVELS:
        return f"has at most {MAX_LEVELS} levels here"
    return f"has at most {MAX_TOPIC_BYTES} bytes here" if len(topic.encode()) > MAX_TOPIC_BYTES else ""
