"""Shared subscriptions: `$share/<group>/<filter>`, each message to one member of the group, in turn."""

from typing import Final

from broker.embedded.message import Message
from broker.embedded.session import Session


class Group:
    """One group on one filter: its members, each with the QoS granted to it."""

    __slots__ = ("_turn", "members")

    def __init__(self) -> None:
        self.members: dict[Session, int] = {}
        self._turn = 0

    def next_of(self, members: tuple[tuple[Session, int], ...]) -> tuple[Session, int]:
        """Whose turn it is: one that is connected, else, when nobody is, one that will come back."""
        count = len(members)
        for _ in range(count):
            self._turn += 1
            member = members[self._turn % count]
            if member[0].connection is not None:
                return member
        self._turn += 1
        return members[self._turn % count]

    def readers(self, topic: str) -> tuple[tuple[Session, int], ...]:
        """The members that may read the topic."""
        return tuple((session, qos) for session, qos in self.members.items() if session.may_receive(topic))

    def give(self, message: Message) -> None:
        """Give a message that a member took with it when it went away to another one, if there is any."""
        readers = self.readers(message.topic.decode())
        if readers:
            session, qos = self.next_of(readers)
            session.deliver(message, qos, self)


class Turns:
    """The target of a route that is a group: for each message another of those who may have it."""

    __slots__ = ("_group", "_readers")

    # As if something always waited: who is to have the packet is found only with the message.
    queue: Final = (None,)

    def __init__(self, group: Group, readers: tuple[tuple[Session, int], ...]) -> None:
        self._group = group
        self._readers = readers

    @property
    def persistent(self) -> bool:
        return any(session.persistent for session, _ in self._readers)

    def deliver(self, message: Message, granted: int) -> None:
        session, qos = self._group.next_of(self._readers)
        session.deliver(message, min(granted, qos), self._group)

    def deliver_packet(self, packet: bytes) -> None:
        session, _ = self._group.next_of(self._readers)
        session.deliver_packet(packet)
