"""What a change of grants means, purely: principals before and after in, what they gain and lose out."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from hub.access import decide
from hub.access.grants import Action, covers
from hub.access.principals import Principal

Permission = tuple[Action, str]


@dataclass(frozen=True, slots=True)
class Difference:
    """One principal's. `after` is None when it is no longer let in at all, `before` when it was not until now.

    `gains` and `losses` are grants that no single grant on the other side covers.
    """

    username: str
    before: Principal | None
    after: Principal | None
    gains: tuple[Permission, ...]
    losses: tuple[Permission, ...]

    def loses(self, action: Action) -> list[str]:
        """The filters that are lost for this action."""
        return [filter_ for lost, filter_ in self.losses if lost == action]

    def ends_subscription(self, filter_: str) -> bool:
        """Whether a subscription that is allowed would no longer be."""
        return self._turns(decide.subscribe, filter_)

    def ends_reading(self, topic: str) -> bool:
        """Whether messages on `topic` that are delivered would no longer be."""
        return self._turns(decide.receive, topic)

    def ends_publishing(self, topic: str) -> bool:
        """Whether messages to `topic` that are allowed would be refused."""
        return self._turns(decide.publish, topic)

    def _turns(self, verdict: Callable[[Principal, str], decide.Decision], topic: str) -> bool:
        if self.before is None or not verdict(self.before, topic):
            return False
        return self.after is None or not verdict(self.after, topic)


def between(before: Iterable[Principal], after: Iterable[Principal]) -> dict[str, Difference]:
    """The principals for whom something changes, by username."""
    old = {principal.username: principal for principal in before}
    new = {principal.username: principal for principal in after}
    found = {}
    for username in sorted({*old, *new}):
        had, has = old.get(username), new.get(username)
        difference = Difference(
            username,
            had,
            has,
            gains=tuple(_not_covered(has, had)),
            losses=tuple(_not_covered(had, has)),
        )
        if difference.gains or difference.losses or (username in old) != (username in new):
            found[username] = difference
    return found


class LostFilters:
    """Finds for a topic the principals that lose a filter which matches it, without asking all of them."""

    def __init__(self, lost: Mapping[str, Iterable[str]]) -> None:
        self._by_start: dict[str, list[tuple[str, str]]] = {}
        for username, filters in lost.items():
            for filter_ in filters:
                self._by_start.setdefault(_plain_start(filter_), []).append((username, filter_))

    def starts(self, levels: int) -> list[str]:
        """How the topics that these filters match begin: the first levels, at most so many, up to a wildcard."""
        return list({"/".join(start.split("/")[:levels]) for start in self._by_start})

    def of(self, topic: str) -> set[str]:
        """The usernames."""
        found: set[str] = set()
        for start in _starts(topic):
            found.update(name for name, filter_ in self._by_start.get(start, ()) if covers(filter_, topic))
        return found


def _not_covered(ours: Principal | None, theirs: Principal | None) -> Iterator[Permission]:
    for action, filter_ in dict.fromkeys((grant.action, grant.filter) for grant in ours.grants) if ours else ():
        if theirs is None or not theirs.may(action, filter_):
            yield action, filter_


def _plain_start(filter_: str) -> str:
    """The levels before the first wildcard."""
    levels = filter_.split("/")
    plain = next((index for index, level in enumerate(levels) if level in {"+", "#"}), len(levels))
    return "/".join(levels[:plain])


def _starts(topic: str) -> Iterator[str]:
    levels = topic.split("/")
    return ("/".join(levels[:count]) for count in range(len(levels) + 1))
