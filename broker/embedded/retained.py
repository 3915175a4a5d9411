"""The last retained message of every topic."""

import itertools
from collections.abc import Iterator
from typing import Final

from broker.embedded.limits import Limits
from broker.embedded.message import Message
from broker.embedded.store import Store
from broker.embedded.trees import TopicTree

# Topics that are remembered as changed until somebody asks for them; after more than that, everything may have.
MOST_CHANGED: Final = 20_000


class Retained:
    """Retained messages by topic, each with the name of its publisher, whose topics and bytes are bounded.

    `overlooked` when more changed since `forget_changed` than is remembered.
    """

    def __init__(self, store: Store | None = None) -> None:
        self._store = store
        self._messages: TopicTree[tuple[Message, str]] = TopicTree()
        # Topics that were stored or deleted since they were last asked for.
        self._changed: set[str] = set()
        self.overlooked = False
        self._topics_of: dict[str, set[str]] = {}
        self._bytes_of: dict[str, int] = {}
        for topic, message, publisher in store.take_retained() if store is not None else ():
            self._enter(topic, message, publisher)

    def __len__(self) -> int:
        return len(self._messages)

    def store(self, topic: str, message: Message, publisher: str, limits: Limits) -> str:
        """Keep the message in the place of the topic's last one; returns why not, or ""."""
        earlier = self._messages.get(topic)
        topics, size = len(self._topics_of.get(publisher, ())), self._bytes_of.get(publisher, 0)
        if earlier is not None and earlier[1] == publisher:
            topics, size = topics - 1, size - _size(earlier[0])
        if topics >= limits.retained:
            return f"more than {limits.retained} retained topics"
        if size + _size(message) > limits.retained_bytes:
            return f"more than {limits.retained_bytes} bytes in retained messages"
        self._remove(topic)
        self._enter(topic, message, publisher)
        if self._store is not None:
            self._store.retain(topic, message, publisher)
        return ""

    def delete(self, topic: str) -> None:
        if self._remove(topic) and self._store is not None:
            self._store.unretain(topic)

    def match(self, topic_filter: str) -> Iterator[tuple[str, Message]]:
        """(topic, message) of every topic that the filter matches."""
        return ((topic, message) for topic, (message, _) in self._messages.match(topic_filter))

    def delete_of(self, publisher: str) -> list[str]:
        """Delete what this publisher retained; returns the topics."""
        topics = list(self._topics_of.get(publisher, ()))
        for topic in topics:
            self.delete(topic)
        return topics

    @property
    def publishers(self) -> list[str]:
        """Everybody who retained something."""
        return list(self._topics_of)

    def get(self, topic: str) -> tuple[Message, str] | None:
        """The topic's message and who published it."""
        return self._messages.get(topic)

    def first(self, most: int) -> list[tuple[str, Message, str]]:
        """So many topics, each with its message and who published it."""
        found = ((topic, message, name) for topic, (message, name) in self._messages.match("#"))
        return list(itertools.islice(found, most))

    def take_changed(self, most: int) -> list[str]:
        """Topics that were stored or deleted since the last call; those beyond `most` are left for the next."""
        taken = list(itertools.islice(self._changed, most))
        self._changed.difference_update(taken)
        return taken

    def forget_changed(self) -> None:
        """Whoever asks next has seen everything."""
        self._changed.clear()
        self.overlooked = False

    def _note(self, topic: str) -> None:
        if len(self._changed) < MOST_CHANGED:
            self._changed.add(topic)
        elif topic not in self._changed:
            self.overlooked = True

    def _enter(self, topic: str, message: Message, publisher: str) -> None:
        self._note(topic)
        self._messages.set(topic, (message, publisher))
        self._topics_of.setdefault(publisher, set()).add(topic)
        self._bytes_of[publisher] = self._bytes_of.get(publisher, 0) + _size(message)

    def _remove(self, topic: str) -> bool:
        gone = self._messages.pop(topic)
        if gone is None:
            return False
        self._note(topic)
        message, publisher = gone
        self._topics_of[publisher].remove(topic)
        self._bytes_of[publisher] -= _size(message)
        if not self._topics_of[publisher]:
            del self._topics_of[publisher], self._bytes_of[publisher]
        return True


def _size(message: Message) -> int:
    return len(message.topic) + len(message.payload)
