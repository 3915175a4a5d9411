"""What a grant is, and the exact meaning of topics and filters: matching, and covering one filter by another."""

import itertools
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final, Literal

Action = Literal["publish", "subscribe"]

# MQTT 3.1.1, 4.7.3: a topic name or filter is at least one character and at most 65,535 bytes long.
MAX_TOPIC_BYTES: Final = 65_535
# The level that stands for whoever bears a grant, where many bear it.
HANDLE: Final = "{handle}"
_SHARED: Final = "$share/"
_END: Final = object()
_BEARER: Final = object()
_MISUSED_WILDCARD: Final = re.compile(r"#.|[^/]#|[^/]\+|\+[^/]", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Grant:
    """Permission to publish to, or to subscribe to, every topic that `filter` matches.

    `source` says for people where it comes from: "the scope events:write", "every device", "membership of Home".
    """

    action: Action
    filter: str
    source: str

    def __post_init__(self) -> None:
        if not valid_filter(self.filter):
            raise ValueError(f"not a topic filter: {self.filter[:80]!r}")


class Book:
    """Grants of one action, arranged so that finding one that covers a filter does not depend on their number.

    In an open book the level `{handle}` stands for the handle of whoever asks.
    """

    __slots__ = ("_tree",)

    def __init__(self, grants: Iterable[Grant], *, is_open: bool = False) -> None:
        # Level → subtree, and at its end `_END` → the grant; a "#" keeps its grant at once.
        self._tree: dict[Any, Any] = {}
        for grant in grants:
            node = self._tree
            levels: list[Any] = list(_levels(grant.filter))
            last = levels.pop() if levels[-1] == "#" else _END
            for level in levels:
                node = node.setdefault(_BEARER if is_open and level == HANDLE else level, {})
            node.setdefault(last, grant)

    def find(self, asked: str, handle: str = "") -> Grant | None:
        """A grant that covers everything that `asked` (a valid filter or topic) can match; None when there is none.

        `handle` is whose grants they are, of an open book.
        """
        found: Grant | None = _find(self._tree, _levels(asked), 0, handle)
        return found

    def touches(self, asked: str) -> bool:
        """Whether some topic is matched by a grant and by `asked`, a valid filter or topic.

        Where one of them begins with a wildcard it may say so of topics that begin with `$`, which none would match.
        """
        return _touches(self._tree, _levels(asked), 0)


def _find(node: dict[Any, Any], want: list[str], index: int, handle: str) -> Any:
    for at in range(index, len(want)):
        found = node.get("#")
        if found is not None:
            return found
        level = want[at]
        if level == "#":
            return None
        way = node.get(level)
        if level == handle and _BEARER in node:
            # Both the bearer's own level and the same one said in so many words may lead on.
            if way is not None and (found := _find(way, want, at + 1, handle)) is not None:
                return found
            way = node[_BEARER]
        any_level = node.get("+") if at or level[:1] != "$" else None
        if any_level is None or any_level is way:
            if way is None:
                return None
            node = way
            continue
        if way is not None and (found := _find(way, want, at + 1, handle)) is not None:
            return found
        node = any_level
    return node.get("#") or node.get(_END)


def _touches(node: dict[Any, Any], want: list[str], index: int) -> bool:
    if "#" in node:
        return True
    if index == len(want):
        return _END in node
    level = want[index]
    if level == "#":
        return bool(node)
    if level == "+":
        return any(_touches(below, want, index + 1) for name, below in node.items() if name is not _END)
    return any(_touches(node[name], want, index + 1) for name in (level, "+") if name in node)


def split_share(topic_filter: str) -> tuple[str, str]:
    """`$share/<group>/<filter>` as (group, filter); any other filter as ("", itself).

    Raises ValueError when the group is empty or has a wildcard, or when what is shared is no filter.
    """
    if not topic_filter.startswith(_SHARED):
        return "", topic_filter
    group, _, shared = topic_filter.removeprefix(_SHARED).partition("/")
    if not group or "+" in group or "#" in group or not valid_filter(shared) or shared.startswith(_SHARED):
        raise ValueError(f"not a shared subscription: {topic_filter[:80]!r}")
    return group, shared


def valid_topic(topic: str) -> bool:
    """Whether one can publish to `topic`: 1 to 65,535 bytes, no NUL, no wildcard."""
    return _valid_text(topic) and "+" not in topic and "#" not in topic


def valid_filter(text: str) -> bool:
    """Whether one can subscribe to `text`: 1 to 65,535 bytes, no NUL, `+` a whole level, `#` the whole last level."""
    if not _valid_text(text):
        return False
    return ("+" not in text and "#" not in text) or _MISUSED_WILDCARD.search(text) is None


def covers(granted: str, asked: str) -> bool:
    """Whether every topic that `asked` can match is also matched by `granted`; both are valid filters or topics.

    Asked with a plain topic this is ordinary matching. A filter that starts with a wildcard never matches a topic whose
    first level starts with `$` (4.7.2), so `#` does not cover `$SYS/#`.
    """
    if granted == asked:
        return True
    have = _levels(granted)
    want = _levels(asked)
    if have[0] == "+" and want[0].startswith("$"):
        return False
    for index, level in enumerate(have):
        if level == "#":
            return True
        if index == len(want):
            return False
        if want[index] == level:
            continue
        if level != "+" or want[index] == "#":
            return False
    return len(want) == len(have)


def matches(filter_: str, topic: str) -> bool:
    """Whether a subscription to `filter_` receives a message on `topic`."""
    return covers(filter_, topic)


def overlap(one: str, two: str) -> bool:
    """Whether some topic is matched by both of these valid filters."""
    left, right = _levels(one), _levels(two)
    for here, there in ((left[0], right[0]), (right[0], left[0])):
        if here == "+" and there.startswith("$"):
            return False
    for here, there in itertools.zip_longest(left, right):
        if "#" in {here, there}:
            return True
        if here is None or there is None or (here != there and "+" not in {here, there}):
            return False
    return True


def _levels(text: str) -> list[str]:
    """The levels, with the two filters that have another spelling for the same topics brought to one.

    No topic is empty: so `#` matches what `+/#` does, and `/#` what `/+/#` does.
    """
    if text == "#":
        return ["+", "#"]
    if text == "/#":
        return ["", "+", "#"]
    return text.split("/")


def _valid_text(text: str) -> bool:
    if not text or "\0" in text:
        return False
    if len(text) * 4 <= MAX_TOPIC_BYTES:
        return not _has_surrogate(text)
    try:
        return len(text.encode()) <= MAX_TOPIC_BYTES
    except UnicodeEncodeError:
        return False


def _has_surrogate(text: str) -> bool:
    return not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text)
