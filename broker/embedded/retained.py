"""The last retained message of every topic."""

from collections import Counter
from collections.abc import Iterator

from broker.embedded.message import Message
from broker.embedded.trees import TopicTree


class Retained:
    """Retained messages by topic, each with the name of its publisher, whose number of topics is bounded."""

    def __init__(self) -> None:
        self._messages: TopicTree[tuple[Message, str]] = TopicTree()
        self._of_publisher: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._messages)

    def store(self, topic: str, message: Message, publisher: str, most: int) -> bool:
        """Keep the message in the place of the topic's last one; False when its publisher holds `most` topics."""
        earlier = self._messages.get(topic)
        if (earlier is None or earlier[1] != publisher) and self._of_publisher[publisher] >= most:
            return False
        self.delete(topic)
        self._messages.set(topic, (message, publisher))
        self._of_publisher[publisher] += 1
        return True

    def delete(self, topic: str) -> None:
        gone = self._messages.pop(topic)
        if gone is not None:
            self._of_publisher[gone[1]] -= 1
            if not self._of_publisher[gone[1]]:
                del self._of_publisher[gone[1]]

    def match(self, topic_filter: str) -> Iterator[tuple[str, Message]]:
        """(topic, message) of every topic that the filter matches."""
        return ((topic, message) for topic, (message, _) in self._messages.match(topic_filter))

    def delete_of(self, publisher: str) -> list[str]:
        """Delete what this publisher retained; returns the topics."""
        if not self._of_publisher[publisher]:
            del self._of_publisher[publisher]
            return []
        topics = [
            topic
            for everything in ("#", "$SYS/#")
            for topic, (_, name) in self._messages.match(everything)
            if name == publisher
        ]
        for topic in topics:
            self.delete(topic)
        return topics
