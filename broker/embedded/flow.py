"""What goes through: counted per connection, and per publisher and topic, at next to no cost for the reading loop."""

from collections import OrderedDict
from collections.abc import Iterable
from typing import Final

from broker.embedded.limits import Bounds
from broker.embedded.pace import Pace
from broker.embedded.routing import Route
from hub.access.principals import Principal

# Different (publisher, topic) that are kept until they are reported; more are counted without their topics.
MOST_TOPICS: Final = 20_000
MOST_NAMES: Final = 20_000


class Way:
    """One topic of one publisher: where its messages go now, and how many went there."""

    __slots__ = ("count", "route")

    def __init__(self, route: Route) -> None:
        self.route = route
        self.count = 0


class Flow:
    """Of one connection, or of all that are gone: packets and bytes each way; acknowledgements are no messages."""

    __slots__ = ("acknowledged", "answered", "bytes_in", "bytes_out", "controls", "packets_out", "published")

    def __init__(self) -> None:
        self.published = 0
        self.controls = 0
        self.acknowledged = 0
        self.bytes_in = 0
        self.packets_out = 0
        self.answered = 0
        self.bytes_out = 0

    @property
    def packets_in(self) -> int:
        """Every packet that the client sent."""
        return self.published + self.controls + self.acknowledged

    @property
    def delivered(self) -> int:
        """Messages that were sent to the client, repeated ones each time."""
        return max(0, self.packets_out - self.answered)

    def add(self, other: "Flow") -> None:
        """Take what another has counted into this sum."""
        for name in self.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


class Traffic:
    """What each device and integration published since it was last asked; and how fast each may go on."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._counts: dict[tuple[str, str], int] = {}
        self._paces: OrderedDict[str, Pace] = OrderedDict()
        self.gone = Flow()

    def pace(self, principal: Principal, now: float) -> Pace | None:
        """The client's tokens, the same ones when it comes back; None for those whom nothing bounds."""
        if not self._bounds.messages_per_second or principal.kind not in {"device", "integration"}:
            return None
        pace = self._paces.get(principal.username)
        if pace is None:
            pace = self._paces[principal.username] = Pace(self._bounds, now)
            if len(self._paces) > MOST_NAMES:
                self._paces.popitem(last=False)
        self._paces.move_to_end(principal.username)
        return pace

    @property
    def held(self) -> int:
        """How many of the clients that are remembered ever had to wait."""
        return sum(pace.held for pace in self._paces.values())

    def collect(self, principal: Principal, ways: Iterable[tuple[bytes, Way]]) -> None:
        """Take over what was counted on these ways."""
        if principal.kind in {"device", "integration"}:
            for topic, way in ways:
                if way.count:
                    if not way.route.refused:
                        self.add(principal.username, topic.decode(), way.count)
                    way.count = 0

    def add(self, username: str, topic: str, count: int) -> None:
        """Count so many messages on a topic."""
        key = (username, topic)
        if key not in self._counts and len(self._counts) >= MOST_TOPICS:
            key = (username, "")
        self._counts[key] = self._counts.get(key, 0) + count

    def take(self) -> dict[tuple[str, str], int]:
        """What was published since the last call, by (username, topic)."""
        counts, self._counts = self._counts, {}
        return counts

    def put_back(self, counts: dict[tuple[str, str], int]) -> None:
        """What was taken could not be reported: it is counted again, as far as there is room."""
        for (username, topic), count in counts.items():
            self.add(username, topic, count)
