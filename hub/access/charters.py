"""What principals who are alike may do, held once for all of them: a principal's grants are a charter and its handle.

Devices with the same scopes and roles of one agent differ in their handle alone. Ten thousand of them share one small
tree of levels, which stays in the processor's cache, and being admitted costs them no grants of their own.
"""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import overload
from weakref import WeakValueDictionary

from hub.access.grants import HANDLE, Action, Book, Grant


class Charter:
    """Grants in which the level `{handle}` stands for whoever bears them; looked up in without being written out.

    `fill` writes them out for a handle: that is what they mean, and the look-up agrees with it. Without it they are
    somebody's own and mean what they say, braces as well.
    """

    __slots__ = ("__weakref__", "_books", "_fill", "_grants")

    def __init__(self, grants: Iterable[Grant], fill: Callable[[str], tuple[Grant, ...]] | None = None) -> None:
        self._grants = tuple(grants)
        self._fill = fill
        self._books: dict[Action, Book] = {}

    def book(self, action: Action) -> Book:
        """The grants of one action, arranged for looking up when first asked for."""
        book = self._books.get(action)
        if book is None:
            of_action = (grant for grant in self._grants if grant.action == action)
            book = self._books[action] = Book(of_action, is_open=self._fill is not None)
        return book

    def written_out(self, handle: str) -> tuple[Grant, ...]:
        """All grants of the bearer with this handle."""
        return self._grants if self._fill is None else self._fill(handle)

    def written_for(self, grant: Grant, handle: str) -> Grant:
        """What one of its grants is to that bearer."""
        if self._fill is None:
            return grant
        levels = (handle if level == HANDLE else level for level in grant.filter.split("/"))
        return replace(grant, filter="/".join(levels))


class Granted(Sequence[Grant]):
    """All grants of one principal, written out only for who reads them."""

    __slots__ = ("_charter", "_handle")

    def __init__(self, charter: Charter, handle: str = "") -> None:
        self._charter = charter
        self._handle = handle

    @classmethod
    def of(cls, grants: Sequence[Grant]) -> "Granted":
        """These grants, written out already."""
        return grants if isinstance(grants, Granted) else cls(Charter(grants))

    def may(self, action: Action, asked: str) -> bool:
        """Whether one of them covers everything that `asked` (a valid filter or topic) can match."""
        return self._charter.book(action).find(asked, self._handle) is not None

    def find(self, action: Action, asked: str) -> Grant | None:
        """The one that does, written out; None when there is none."""
        found = self._charter.book(action).find(asked, self._handle)
        return found and self._charter.written_for(found, self._handle)

    @overload
    def __getitem__(self, index: int) -> Grant: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[Grant, ...]: ...

    def __getitem__(self, index: int | slice) -> Grant | tuple[Grant, ...]:
        return self._all()[index]

    def __iter__(self) -> Iterator[Grant]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, Granted):
            return NotImplemented
        return (self._charter is other._charter and self._handle == other._handle) or self._all() == other._all()

    def __hash__(self) -> int:
        return hash(self._all())

    def __repr__(self) -> str:
        return repr(self._all())

    def _all(self) -> tuple[Grant, ...]:
        return self._charter.written_out(self._handle)


class Charters:
    """Those that somebody bears now, each held once, whoever asks from whichever thread."""

    def __init__(self) -> None:
        self._known: WeakValueDictionary[object, Charter] = WeakValueDictionary()
        self._lock = threading.Lock()

    def one(self, what: object, make: Callable[[], Charter]) -> Charter:
        """The charter that follows from `what`: all that decides about it, hashable."""
        with self._lock:
            charter = self._known.get(what)
            if charter is None:
                charter = self._known[what] = make()
            return charter
