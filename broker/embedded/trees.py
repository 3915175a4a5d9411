"""Two trees by topic level: filters that one finds by a topic, and topics that one finds by a filter.

Both are walked without recursion, so that a deep topic costs time and never the stack.
"""

from collections.abc import Iterator
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class _Node(Generic[V]):
    __slots__ = ("children", "value")

    def __init__(self) -> None:
        self.children: dict[str, _Node[V]] = {}
        self.value: V | None = None


def _find(root: _Node[V], path: list[str]) -> _Node[V] | None:
    node: _Node[V] | None = root
    for level in path:
        node = node.children.get(level) if node else None
    return node


def _make(root: _Node[V], path: list[str]) -> _Node[V]:
    node = root
    for level in path:
        below = node.children.get(level)
        if below is None:
            below = node.children[level] = _Node()
        node = below
    return node


def _prune(root: _Node[V], path: list[str]) -> None:
    """Drop what no longer leads to a value, from the leaf upwards."""
    trail = [root]
    for level in path:
        trail.append(trail[-1].children[level])
    for depth in range(len(path), 0, -1):
        if trail[depth].children or trail[depth].value is not None:
            return
        del trail[depth - 1].children[path[depth - 1]]


class FilterTree(Generic[K]):
    """Filters, each with subscribers `K` and the QoS granted to each; the cost of a match is that of the path."""

    def __init__(self) -> None:
        self._root: _Node[dict[K, int]] = _Node()

    def add(self, topic_filter: str, subscriber: K, qos: int) -> None:
        node = _make(self._root, topic_filter.split("/"))
        if node.value is None:
            node.value = {}
        node.value[subscriber] = qos

    def remove(self, topic_filter: str, subscriber: K) -> None:
        path = topic_filter.split("/")
        node = _find(self._root, path)
        if node is None or node.value is None:
            return
        node.value.pop(subscriber, None)
        if not node.value:
            node.value = None
            _prune(self._root, path)

    def match(self, topic: str) -> dict[K, int]:
        """Who receives a message on `topic`, once each, with the highest QoS that one of its filters was granted."""
        found: dict[K, int] = {}
        levels = topic.split("/")
        stack: list[tuple[_Node[dict[K, int]], int]] = [(self._root, 0)]
        while stack:
            node, depth = stack.pop()
            children = node.children
            # 4.7.2-1: a wildcard in the first level does not match a topic that starts with $.
            wild = depth > 0 or not topic.startswith("$")
            if wild and (rest := children.get("#")) is not None:
                _merge(found, rest.value)
            if depth == len(levels):
                _merge(found, node.value)
                continue
            if (exact := children.get(levels[depth])) is not None:
                stack.append((exact, depth + 1))
            if wild and (any_one := children.get("+")) is not None:
                stack.append((any_one, depth + 1))
        return found


def _merge(found: dict[K, int], subscribers: dict[K, int] | None) -> None:
    if subscribers:
        for subscriber, qos in subscribers.items():
            if found.get(subscriber, -1) < qos:
                found[subscriber] = qos


class TopicTree(Generic[V]):
    """Topics, each with one value; the cost of a match is that of the part of the tree which the filter reaches."""

    def __init__(self) -> None:
        self._root: _Node[tuple[str, V]] = _Node()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def get(self, topic: str) -> V | None:
        node = _find(self._root, topic.split("/"))
        return node.value[1] if node is not None and node.value is not None else None

    def set(self, topic: str, value: V) -> None:
        node = _make(self._root, topic.split("/"))
        if node.value is None:
            self._count += 1
        node.value = (topic, value)

    def pop(self, topic: str) -> V | None:
        path = topic.split("/")
        node = _find(self._root, path)
        if node is None or node.value is None:
            return None
        value = node.value[1]
        node.value = None
        self._count -= 1
        _prune(self._root, path)
        return value

    def match(self, topic_filter: str) -> Iterator[tuple[str, V]]:
        """Every topic that the filter matches, with its value; the tree must not be changed meanwhile."""
        levels = topic_filter.split("/")
        stack: list[tuple[_Node[tuple[str, V]], int]] = [(self._root, 0)]
        while stack:
            node, depth = stack.pop()
            if depth >= len(levels):
                if node.value is not None:
                    yield node.value
                continue
            level = levels[depth]
            if level == "#":
                if node.value is not None:
                    yield node.value
                top = node is self._root
                stack.extend((child, depth) for name, child in node.children.items() if not top or name[:1] != "$")
            elif level == "+":
                stack.extend((child, depth + 1) for name, child in node.children.items() if depth or name[:1] != "$")
            elif (exact := node.children.get(level)) is not None:
                stack.append((exact, depth + 1))
