"""What must be true of a broker at every moment, and of every byte that it sends."""
# ruff: noqa: SLF001 - its bookkeeping is looked at from within

from dataclasses import dataclass, field
from typing import Any

from broker.embedded.broker import Broker
from broker.embedded.limits import LIMITS
from broker.embedded.routing import Route
from broker.embedded.session import Session
from broker.embedded.sharing import Turns
from broker.embedded.store import Store
from hub.access import decide
from hub.access.grants import matches, split_share

FROM_SERVER = {2: 0, 4: 0, 5: 0, 6: 2, 7: 0, 9: 0, 11: 0, 13: 0}


@dataclass(slots=True)
class Message:
    """A PUBLISH as it came."""

    topic: bytes
    payload: bytes
    qos: int
    dup: bool
    retain: bool


@dataclass
class Heard:
    """What one client was sent on one connection. `owed` are identifiers that wait for an answer of the client."""

    messages: list[Message] = field(default_factory=list)
    owed: list[int] = field(default_factory=list)
    last: dict[tuple[bytes, bytes], int] = field(default_factory=dict)
    rest: bytes = b""
    frames: bytes = b""
    packets: int = 0

    def take(self, data: bytes) -> None:
        """Take whole packets from the stream; raises AssertionError when they are not what a server may send."""
        data = self.rest + data
        at = 0
        while (whole := _whole(data, at)) is not None:
            head, start, stop = whole
            self.packets += 1
            assert (self.packets == 1) == (head >> 4 == 2), "CONNACK is the first packet and comes once"
            if head >> 4 == 3:
                self._message(head, data[start:stop])
            else:
                assert FROM_SERVER.get(head >> 4) == head & 15, f"a server sends no packet that begins with {head:#x}"
                if head >> 4 == 6:
                    self._owe(int.from_bytes(data[start:stop], "big"))
            at = stop
        self.rest = data[at:]

    def _owe(self, packet_id: int) -> None:
        assert packet_id
        if packet_id not in self.owed:
            self.owed.append(packet_id)

    def _message(self, head: int, body: bytes) -> None:
        size = int.from_bytes(body[:2], "big")
        qos = head >> 1 & 3
        got = Message(body[2 : 2 + size], body[2 + size + (2 if qos else 0) :], qos, bool(head & 8), bool(head & 1))
        assert qos < 3
        assert qos or not got.dup, "DUP at QoS 0"
        self.messages.append(got)
        if qos:
            self._owe(int.from_bytes(body[2 + size : 4 + size], "big"))
        number, by, publisher = got.payload[1:20].partition(b" by ")
        if by and got.payload[:1] == b"#" and not got.retain and not got.topic.startswith(b"h/"):
            # Numbers grow with the time of sending: nothing is overtaken, nothing comes twice on one connection.
            key = (got.topic, publisher.partition(b" ")[0])
            assert int(number) > self.last.get(key, 0), f"{got.topic!r}: {number!r} is out of order"
            self.last[key] = int(number)


def _whole(data: bytes, at: int) -> tuple[int, int, int] | None:
    """(first byte, begin and end of the body) of the packet at `at`; None when it is not all there."""
    start, shift, size = at + 1, 0, 0
    while True:
        if start >= len(data):
            return None
        size |= (data[start] & 127) << shift
        start += 1
        if data[start - 1] < 128:
            break
        shift += 7
        assert shift < 28, "a remaining length of five bytes"
    assert start == at + 2 or data[start - 1], "a remaining length that is longer than it needs to be"
    return (data[at], start, start + size) if start + size <= len(data) else None


def unframed(heard: Heard, data: bytes) -> bytes:
    """The MQTT within a server's WebSocket frames."""
    data = heard.frames + data
    inner, at = b"", 0
    while len(data) - at >= 2:
        size, start = data[at + 1], at + 2
        assert size < 128, "a server masks nothing"
        if size >= 126:
            width = 2 if size == 126 else 8
            size, start = int.from_bytes(data[start : start + width], "big"), start + width
        if len(data) < start + size:
            break
        opcode = data[at] & 15
        assert opcode in {2, 8, 9, 10}, f"a frame of kind {opcode}"
        inner += data[start : start + size] if opcode == 2 else b""
        at = start + size
    heard.frames = data[at:]
    return inner


def check(broker: Broker) -> None:
    """Raises AssertionError when the bookkeeping of the broker does not hold together."""
    exchange = broker.exchange
    for name, session in exchange.sessions.items():
        assert session.username == name
        assert session.persistent or name in exchange.connected, f"{name}: a clean session without a connection"
        _check_session(session)
    for name, link in exchange.connected.items():
        assert link.state == "open", f"{name}: connected and {link.state}"
        assert link.session is exchange.sessions.get(name)
        assert link.session is not None
        assert link.session.connection is link
        assert len(link.routes) <= link.session.limits.routes
        for topic, way in link.routes.items():
            allowed = decide.publish(link.session.principal, topic.decode()).allowed
            assert allowed or way.route.refused or not way.route.live, f"{name} goes on publishing to {topic!r}"
    for link in broker.connections:
        assert (link.session is not None) == (link.state == "open")
        assert link.state != "open" or exchange.connected.get(link.session.username) is link
        session = link.session
        # What waits for a peer that does not read: its messages, the answers it asked for, and one message on top.
        most = session.limits.out_bytes if session else 1_000
        assert link.out_bytes <= most + 256 * 1024 + 100_000, f"{link.out_bytes} bytes wait for a peer"
        assert len(link._partial) <= 2 * link.max_packet_bytes  # type: ignore[attr-defined]
    _check_router(broker)
    _check_retained(broker)


def _check_session(session: Session) -> None:
    limits = session.limits
    assert len(session.inflight) <= limits.window, f"{len(session.inflight)} in flight"
    assert all(0 < packet_id < 65_536 for packet_id in session.inflight)
    assert len(session.queue) <= limits.queue_messages
    assert session.queue_bytes == sum(entry[0].size for entry in session.queue), "the queue's bytes are miscounted"
    assert session.queue_bytes <= limits.queue_bytes
    assert len(session.subscriptions) <= limits.subscriptions
    waiting = [sent[0] for sent in session.inflight.values() if sent is not None]
    for message in (*waiting, *(entry[0] for entry in session.queue)):
        assert session.may_receive(message.topic.decode()), f"{message.topic!r} waits for one who may not read it"
    if session.connection is not None and session.queue:
        full = len(session.inflight) >= limits.window or session.connection.out_bytes > 0
        assert full, "messages wait for no reason"


def _check_router(broker: Broker) -> None:
    router, sessions = broker.exchange.router, broker.exchange.sessions
    expected: dict[tuple[str, int], int] = {}
    for session in sessions.values():
        for name, qos in session.subscriptions.items():
            group, shared = split_share(name)
            if group:
                members = router._groups[group, shared].members
                assert members[session] == qos
                expected[shared, id(router._groups[group, shared])] = 2
            else:
                expected[name, id(session)] = qos
    filters = {(name, id(subscriber)): qos for name, subscriber, qos in _filters(router._filters._root, ())}
    assert filters == expected, "the tree of filters does not hold the subscriptions of the sessions"
    for (group, shared), members in ((key, group.members) for key, group in router._groups.items()):
        assert members, "an empty group"
        for session in members:
            assert sessions.get(session.username) is session, "a member of a group is no session any more"
            assert f"$share/{group}/{shared}" in session.subscriptions
    for everything in ("#", "$SYS/#"):
        for topic, route in router._routes.match(everything):
            assert route.live
            _check_route(broker, topic, route)


def _check_route(broker: Broker, topic: str, route: Route) -> None:
    should: dict[str, int] = {}
    groups = set()
    for session in broker.exchange.sessions.values():
        if session.may_receive(topic):
            for name, qos in session.subscriptions.items():
                group, shared = split_share(name)
                if matches(shared, topic):
                    if group:
                        groups.add((group, shared))
                    else:
                        should[session.username] = max(qos, should.get(session.username, 0))
    found = {target.username: qos for target, qos in route.targets if isinstance(target, Session)}
    assert found == should, f"the route of {topic} is old"
    turns = [target for target, _ in route.targets if isinstance(target, Turns)]
    assert len(turns) == len(groups), f"the route of {topic} has other groups"
    for turn in turns:
        readers = {session.username: qos for session, qos in turn._readers}
        now = {session.username: qos for session, qos in turn._group.members.items() if session.may_receive(topic)}
        assert readers == now, f"the members of a group for {topic} are old"


def _filters(node: Any, path: tuple[str, ...]) -> Any:
    for session, qos in (node.value or {}).items():
        yield "/".join(path), session, qos
    assert node.value or node.children or not path, "a dead end in the tree of filters"
    for level, below in node.children.items():
        yield from _filters(below, (*path, level))


def _check_retained(broker: Broker) -> None:
    retained = broker.exchange.retained
    count: dict[str, tuple[int, int]] = {}
    for everything in ("#", "$SYS/#"):
        for topic, (message, publisher) in retained._messages.match(everything):
            assert message.retain
            assert message.payload
            topics, size = count.get(publisher, (0, 0))
            count[publisher] = (topics + 1, size + len(topic.encode()) + len(message.payload))
    kept = {name: (len(topics), retained._bytes_of[name]) for name, topics in retained._topics_of.items()}
    assert count == kept, "retained messages are miscounted"
    assert len(retained) == sum(topics for topics, _ in count.values())
    limits = LIMITS["device"]
    assert all(topics <= limits.retained and size <= limits.retained_bytes for topics, size in count.values())


def check_end(broker: Broker, staying: set[str]) -> None:
    """All clients but these have gone: nothing of them is left but what they asked to be kept."""
    exchange = broker.exchange
    assert set(exchange.connected) == staying
    assert len(broker.connections) == len(staying)
    assert not broker.admissions._strangers
    assert all(session.persistent or name in staying for name, session in exchange.sessions.items())


def kept_in_memory(broker: Broker) -> dict[str, Any]:
    """What would have to be found again: by session its subscriptions, what it took, what it is owed; the retained."""
    kept: dict[str, Any] = {}
    for name, session in broker.exchange.sessions.items():
        if session.persistent:
            owed = sorted(
                (i, sent and (sent[0].topic, sent[0].payload, sent[1])) for i, sent in session.inflight.items()
            )
            waiting = [(entry[0].topic, entry[0].payload, entry[1]) for entry in session.queue if entry[1]]
            kept[name] = (dict(session.subscriptions), set(session.incoming), owed, waiting)
    kept[""] = sorted(
        (topic, message.payload, message.qos, publisher)
        for everything in ("#", "$SYS/#")
        for topic, (message, publisher) in broker.exchange.retained._messages.match(everything)
    )
    return kept


def check_store(store: Store, kept: dict[str, Any]) -> None:
    """Raises AssertionError unless the store holds just what was in memory."""
    found: dict[str, Any] = {}
    for stored in store.take_sessions():
        owed = sorted(
            (i, message and (message.topic, message.payload, qos)) for _, i, message, qos in stored.messages if i
        )
        waiting = [(message.topic, message.payload, qos) for _, i, message, qos in stored.messages if not i and message]
        found[stored.username] = (dict(stored.subscriptions), set(stored.incoming), owed, waiting)
    found[""] = sorted((topic, message.payload, message.qos, name) for topic, message, name in store.take_retained())
    assert found == kept, f"the store holds {found}, the memory {kept}"
