"""Who receives a message: found once per topic and remembered until a subscription that matters changes."""

from typing import Final, Protocol

from broker.embedded.message import Message
from broker.embedded.session import Session
from broker.embedded.sharing import Group, Turns
from broker.embedded.trees import FilterTree, TopicTree
from hub.access.grants import split_share

# Routes that are remembered, and the levels of their topics in all: each level that is nobody else's takes room.
MAX_ROUTES: Final = 50_000
MAX_ROUTED_LEVELS: Final = 400_000


class Target(Protocol):
    """A session, or a group of which one has its turn. While `queue` holds something, messages go behind that."""

    @property
    def queue(self) -> object: ...

    @property
    def persistent(self) -> bool: ...

    def deliver(self, message: Message, granted: int) -> None: ...

    def deliver_packet(self, packet: bytes) -> None: ...


class Route:
    """Where messages of one topic go. Whoever holds a route must look whether it is still `live`.

    `refused` is set for a publisher's own route alone: why this topic is not routed for it.
    """

    __slots__ = ("live", "refused", "targets")

    def __init__(self, targets: tuple[tuple[Target, int], ...], refused: str = "") -> None:
        self.live = True
        self.targets = targets
        self.refused = refused


class Router:
    """All subscriptions, and the routes that follow from them."""

    def __init__(self) -> None:
        self._filters: FilterTree[Session | Group] = FilterTree()
        self._groups: dict[tuple[str, str], Group] = {}
        self._routes: TopicTree[Route] = TopicTree()
        self._levels = 0

    def subscribe(self, session: Session, topic_filter: str, qos: int) -> None:
        """Add a subscription, shared or not, or give it a new QoS; the filter must be valid."""
        name, shared = split_share(topic_filter)
        session.subscriptions[topic_filter] = qos
        if session.keeper is not None:
            session.keeper.subscribed(topic_filter, qos)
        if name:
            group = self._groups.setdefault((name, shared), Group())
            group.members[session] = qos
            self._filters.add(shared, group, 2)
        else:
            self._filters.add(shared, session, qos)
        self._forget(shared)

    def unsubscribe(self, session: Session, topic_filter: str) -> None:
        if session.subscriptions.pop(topic_filter, None) is None:
            return
        if session.keeper is not None:
            session.keeper.unsubscribed(topic_filter)
        name, shared = split_share(topic_filter)
        if name:
            group = self._groups[name, shared]
            del group.members[session]
            if not group.members:
                del self._groups[name, shared]
                self._filters.remove(shared, group)
        else:
            self._filters.remove(shared, session)
        self._forget(shared)

    def unsubscribe_all(self, session: Session) -> None:
        for topic_filter in list(session.subscriptions):
            self.unsubscribe(session, topic_filter)

    def forget(self, topic_filter: str) -> None:
        """Find anew the routes of all topics that the subscription's filter matches."""
        self._forget(split_share(topic_filter)[1])

    def forget_all(self) -> None:
        self._forget("#")
        self._forget("$SYS/#")

    def _forget(self, topic_filter: str) -> None:
        gone = list(self._routes.match(topic_filter))
        for topic, route in gone:
            route.live = False
            self._routes.pop(topic)
            self._levels -= topic.count("/") + 1

    def route(self, topic: str) -> Route:
        """The route of a valid topic; a subscriber who may not read it is left out, whatever it subscribed to."""
        route = self._routes.get(topic)
        if route is None:
            if len(self._routes) >= MAX_ROUTES or self._levels >= MAX_ROUTED_LEVELS:
                self.forget_all()
            targets: list[tuple[Target, int]] = []
            for subscriber, qos in self._filters.match(topic).items():
                if isinstance(subscriber, Session):
                    if subscriber.may_receive(topic):
                        targets.append((subscriber, qos))
                elif readers := subscriber.readers(topic):
                    targets.append((Turns(subscriber, readers), qos))
            route = Route(tuple(targets))
            self._routes.set(topic, route)
            self._levels += topic.count("/") + 1
        return route
