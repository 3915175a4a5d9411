"""What all parts of the broker share: sessions, subscriptions and messages, and what becomes of a message."""

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
from broker.embedded.session import Session
from hub.access import decide
from hub_protocol.catalogue import encode
from hub_protocol.messages import Denied
from hub_protocol.topics import Topics

log = structlog.get_logger(__name__)


class Exchange:
    """Takes messages from those who may send them and gives them to those who may have them.

    `sessions` and `connected` are by username, which is the client id as well.
    """

    def __init__(self, refusals: Refusals, root: str, bounds: Bounds = UNBOUNDED) -> None:
        self.refusals = refusals
        self.traffic = Traffic(bounds)
        self.topics = Topics(root)
        self.router = Router()
        self.retained = Retained()
        # Of the broker's own figures: never stored, and never anybody else's.
        self.figures = Retained()
        # Messages that found no room in sessions that are gone.
        self.dropped = 0
        self.sessions: dict[str, Session] = {}
        self.connected: dict[str, Link] = {}

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

    def tell_denied(self, username: str, action: Action, topic: str, reason: str) -> None:
        """Say to a device on its `denied` topic what was refused and why."""
        where = self.topics.denied(username)
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
        if not session.persistent:
            self.destroy(session)

    def _publish_will(self, session: Session, will: Will) -> None:
        message = Message(will.topic.encode(), will.payload, will.qos)
        if will.retain and not self.retain(will.topic, message, session):
            reason = f"its Will: more than {session.limits.retained} retained topics"
            self.refusals.add(session.username, "publish", will.topic, reason)
        if session.principal.kind != "browser":
            self.traffic.add(session.username, will.topic, 1)
        self.publish(will.topic, message)

    def destroy(self, session: Session) -> None:
        """Forget a session and all that waits for its client."""
        if self.sessions.get(session.username) is session:
            del self.sessions[session.username]
        session.cancel_expiry()
        self.router.unsubscribe_all(session)
        self.dropped += session.overflowed
        if session.overflowed:
            log.warning("session.overflowed", username=session.username, dropped=session.overflowed)


def why_too_long(topic: str) -> str:
    """What is too much of a topic or filter; "" when it is fine."""
    if topic.count("/") >= MAX_LEVELS:
        return f"has at most {MAX_LEVELS} levels here"
    return f"has at most {MAX_TOPIC_BYTES} bytes here" if len(topic.encode()) > MAX_TOPIC_BYTES else ""
