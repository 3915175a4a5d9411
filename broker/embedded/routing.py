"""Who receives a message: found once per topic and remembered until a subscription that matters changes."""

from typing import Final

from broker.embedded.session import Session
from broker.embedded.trees import FilterTree, TopicTree

MAX_ROUTES: Final = 50_000


class Route:
    """Where messages of one topic go. Whoever holds a route must look whether it is still `live`.

    `refused` is set for a publisher's own route alone: why this topic is not routed for it.
    """

    __slots__ = ("live", "refused", "targets")

    def __init__(self, targets: tuple[tuple[Session, int], ...], refused: str = "") -> None:
        self.live = True
        self.targets = targets
        self.refused = refused


class Router:
    """All subscriptions, and the routes that follow from them."""

    def __init__(self) -> None:
        self._filters: FilterTree[Session] = FilterTree()
        self._routes: TopicTree[Route] = TopicTree()

    def subscribe(self, session: Session, topic_filter: str, qos: int) -> None:
        session.subscriptions[topic_filter] = qos
        self._filters.add(topic_filter, session, qos)
        self.forget(topic_filter)

    def unsubscribe(self, session: Session, topic_filter: str) -> None:
        if session.subscriptions.pop(topic_filter, None) is not None:
            self._filters.remove(topic_filter, session)
            self.forget(topic_filter)

    def unsubscribe_all(self, session: Session) -> None:
        for topic_filter in list(session.subscriptions):
            self.unsubscribe(session, topic_filter)

    def forget(self, topic_filter: str) -> None:
        """Find anew the routes of all topics that the filter matches."""
        gone = list(self._routes.match(topic_filter))
        for topic, route in gone:
            route.live = False
            self._routes.pop(topic)

    def route(self, topic: str) -> Route:
        """The route of a valid topic; a subscriber who may not read it is left out, whatever it subscribed to."""
        route = self._routes.get(topic)
        if route is None:
            if len(self._routes) >= MAX_ROUTES:
                self.forget("#")
                self.forget("$SYS/#")
            matched = self._filters.match(topic)
            route = Route(tuple((session, qos) for session, qos in matched.items() if session.may_receive(topic)))
            self._routes.set(topic, route)
        return route
