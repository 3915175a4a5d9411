"""What outlives the broker: persistent sessions and retained messages, as keys and values of the journal.

Keys, numbers big-endian: `S` username → session's number, credential, when its client left. `F` session, filter → QoS.
`E` number of the message → session, QoS, flags, packet identifier (0: not sent), topic, payload. `P` number of the
message → the packet identifier it was sent with later. `L` session, packet identifier → number of a QoS 2 message that
the client has and whose PUBCOMP is missing. `I` session, packet identifier of a QoS 2 message taken and not released.
`R` topic → publisher, QoS, payload.
"""

import struct
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from broker.embedded.appender import Sync
from broker.embedded.journal import Journal
from broker.embedded.message import Message

_SESSION: Final = struct.Struct(">Q16sd")
_NUMBER: Final = struct.Struct(">cQ")
_IDENTIFIER: Final = struct.Struct(">cQH")
_MESSAGE: Final = struct.Struct(">QBBHH")
_ID: Final = struct.Struct(">H")


@dataclass(slots=True)
class StoredSession:
    """A session as it was found; `left_at` is 0.0 when its client was connected.

    `messages` are (number, packet identifier or 0, message or None once only PUBCOMP is missing, QoS), in order.
    """

    username: str
    number: int
    credential_id: uuid.UUID
    left_at: float
    subscriptions: dict[str, int] = field(default_factory=dict)
    messages: list[tuple[int, int, Message | None, int]] = field(default_factory=list)
    incoming: set[int] = field(default_factory=set)


class Store:
    """Writes down changes; `output` tells when they are on disk. Nothing is read after the start."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self._last = 0
        self._sessions: dict[str, StoredSession] = {}
        self._retained: list[tuple[str, Message, str]] = []
        self._understand(journal.loaded)
        journal.loaded = {}

    @classmethod
    def open(cls, folder: Path, *, sync: Sync = "normal") -> Self:
        """Read the store in this folder, which is made when it is missing; raises StoreUnavailable."""
        return cls(Journal(folder, sync))

    def number(self) -> int:
        """A number that none before had: sessions and messages are told apart by it, and ordered."""
        self._last += 1
        return self._last

    def keep(self, username: str, credential_id: uuid.UUID) -> "Keeper":
        """Begin to keep a session, as soon as its client is `admitted`."""
        return Keeper(self.journal, self, username, self.number(), credential_id)

    def keep_on(self, stored: StoredSession) -> "Keeper":
        """Go on with a session that was found."""
        return Keeper(self.journal, self, stored.username, stored.number, stored.credential_id)

    def drop(self, stored: StoredSession) -> None:
        """Forget a session that was found and may not live on."""
        keeper = self.keep_on(stored)
        for number, packet_id, message, _ in stored.messages:
            if message is None:
                keeper.completed(packet_id)
            else:
                keeper.acknowledged(number)
        for packet_id in stored.incoming:
            keeper.released(packet_id)
        for topic_filter in stored.subscriptions:
            keeper.unsubscribed(topic_filter)
        keeper.ended()

    def take_sessions(self) -> list[StoredSession]:
        """The sessions found at the start, once."""
        sessions, self._sessions = self._sessions, {}
        return list(sessions.values())

    def take_retained(self) -> list[tuple[str, Message, str]]:
        """(topic, message, publisher) found at the start, once."""
        retained, self._retained = self._retained, []
        return retained

    def retain(self, topic: str, message: Message, publisher: str) -> None:
        name = publisher.encode()
        value = b"".join((bytes((message.qos,)), _ID.pack(len(name)), name, message.payload))
        self.journal.put(b"R" + topic.encode(), value)

    def unretain(self, topic: str) -> None:
        self.journal.delete(b"R" + topic.encode())

    async def close(self) -> None:
        await self.journal.close()

    # --- reading at the start -----------------------------------------------------------------------------------

    def _understand(self, loaded: dict[bytes, bytes]) -> None:
        for key, value in _of(loaded, b"R"):
            length = _ID.unpack_from(value, 1)[0]
            publisher, payload = value[3 : 3 + length].decode(), value[3 + length :]
            self._retained.append((key[1:].decode(), Message(key[1:], payload, value[0], retain=True), publisher))
        by_number: dict[int, StoredSession] = {}
        for key, value in _of(loaded, b"S"):
            number, credential, left_at = _SESSION.unpack(value)
            name = key[1:].decode()
            self._sessions[name] = by_number[number] = StoredSession(name, number, uuid.UUID(bytes=credential), left_at)
            self._last = max(self._last, number)
        for key, value in _of(loaded, b"F"):
            if session := by_number.get(_NUMBER.unpack_from(key)[1]):
                session.subscriptions[key[_NUMBER.size :].decode()] = value[0]
        for key, _ in _of(loaded, b"I"):
            _, number, packet_id = _IDENTIFIER.unpack(key)
            if session := by_number.get(number):
                session.incoming.add(packet_id)
        self._understand_messages(loaded, by_number)

    def _understand_messages(self, loaded: dict[bytes, bytes], by_number: dict[int, StoredSession]) -> None:
        for key, value in _of(loaded, b"E"):
            entry = _NUMBER.unpack(key)[1]
            number, qos, retain, packet_id, length = _MESSAGE.unpack_from(value)
            sent = loaded.get(b"P" + key[1:])
            packet_id = _ID.unpack(sent)[0] if sent else packet_id
            payload = _MESSAGE.size + length
            message = Message(value[_MESSAGE.size : payload], value[payload:], qos, retain=bool(retain))
            self._last = max(self._last, entry)
            if session := by_number.get(number):
                session.messages.append((entry, packet_id, message, qos))
        for key, value in _of(loaded, b"L"):
            _, number, packet_id = _IDENTIFIER.unpack(key)
            entry = int.from_bytes(value, "big")
            self._last = max(self._last, entry)
            if session := by_number.get(number):
                session.messages.append((entry, packet_id, None, 2))
        for session in by_number.values():
            session.messages.sort(key=lambda message: message[0])


def _of(loaded: dict[bytes, bytes], kind: bytes) -> Iterator[tuple[bytes, bytes]]:
    return ((key, value) for key, value in loaded.items() if key[:1] == kind)


class Keeper:
    """Writes down what happens to one session."""

    __slots__ = ("_credential", "_journal", "_number", "_store", "_username")

    def __init__(self, journal: Journal, store: Store, username: str, number: int, credential_id: uuid.UUID) -> None:
        self._journal = journal
        self._store = store
        self._username = username
        self._number = number
        self._credential = credential_id

    def admitted(self, credential_id: uuid.UUID) -> None:
        """The client is connected, by this credential."""
        self._credential = credential_id
        self._journal.put(b"S" + self._username.encode(), _SESSION.pack(self._number, credential_id.bytes, 0.0))

    def left(self) -> None:
        """The client is away from now on."""
        value = _SESSION.pack(self._number, self._credential.bytes, time.time())
        self._journal.put(b"S" + self._username.encode(), value, urgent=False)

    def ended(self) -> None:
        self._journal.delete(b"S" + self._username.encode())

    def subscribed(self, topic_filter: str, qos: int) -> None:
        self._journal.put(_NUMBER.pack(b"F", self._number) + topic_filter.encode(), bytes((qos,)))

    def unsubscribed(self, topic_filter: str) -> None:
        self._journal.delete(_NUMBER.pack(b"F", self._number) + topic_filter.encode())

    def queued(self, message: Message, qos: int, packet_id: int = 0) -> int:
        """Keep a message, sent with this packet identifier or waiting; its number."""
        number = self._store.number()
        value = _MESSAGE.pack(self._number, qos, message.retain, packet_id, len(message.topic))
        self._journal.put(_NUMBER.pack(b"E", number), b"".join((value, message.topic, message.payload)))
        return number

    def sent(self, number: int, packet_id: int) -> None:
        """A message that waited was sent."""
        self._journal.put(_NUMBER.pack(b"P", number), _ID.pack(packet_id))

    def acknowledged(self, number: int) -> None:
        """The client has the message, or may not have it any more. Forgetting this costs a repeat, so nobody waits."""
        self._journal.delete(_NUMBER.pack(b"E", number), urgent=False)
        self._journal.delete(_NUMBER.pack(b"P", number), urgent=False)

    def received(self, number: int, packet_id: int) -> None:
        """PUBREC: the client has the QoS 2 message, which must not be sent again."""
        self.acknowledged(number)
        self._journal.put(_IDENTIFIER.pack(b"L", self._number, packet_id), number.to_bytes(8, "big"))

    def completed(self, packet_id: int) -> None:
        """PUBCOMP."""
        self._journal.delete(_IDENTIFIER.pack(b"L", self._number, packet_id), urgent=False)

    def took(self, packet_id: int) -> None:
        """A QoS 2 message of the client's was taken; its repeats are not new ones."""
        self._journal.put(_IDENTIFIER.pack(b"I", self._number, packet_id), b"")

    def released(self, packet_id: int) -> None:
        """PUBREL: the next message with this identifier is a new one."""
        self._journal.delete(_IDENTIFIER.pack(b"I", self._number, packet_id))
