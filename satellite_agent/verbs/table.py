"""The verbs of one satellite: those it always has, and those that its own config opened and the hub left on."""

from collections.abc import Collection, Iterable

from hub_protocol.messages import Verb as Announced
from satellite_agent.verbs.verb import Verb


class Table:
    """What the hub asks for can only narrow: a verb that the config file did not open is not there at all."""

    def __init__(self, fixed: Iterable[Verb], opened: Iterable[Verb] = ()) -> None:
        self._fixed = {verb.name: verb for verb in fixed}
        self._opened = {verb.name: verb for verb in opened}
        self._on = frozenset(self._opened)

    @property
    def opened(self) -> list[str]:
        """The verbs that can be switched, by name."""
        return sorted(self._opened)

    def knows(self, name: str) -> bool:
        return name in self._fixed or name in self._opened

    def narrow(self, names: Collection[str] | None) -> None:
        """Leave on these of the opened verbs; None: all."""
        self._on = frozenset(self._opened if names is None else self._opened.keys() & set(names))

    def find(self, name: str) -> Verb | None:
        return self._fixed.get(name) or (self._opened[name] if name in self._on else None)

    def in_force(self) -> list[Verb]:
        return [*self._fixed.values(), *(verb for name, verb in self._opened.items() if name in self._on)]

    def announced(self) -> list[Announced]:
        """All verbs in force, as `hello` tells them."""
        return [verb.announced() for verb in self.in_force()]
