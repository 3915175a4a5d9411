"""Which topics a filter matches: levels, wildcards, empty levels, characters, and topics that begin with $."""

import asyncio
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from amqtt.contexts import ListenerType

from broker.embedded.admission import Admitted, Rejected
from broker.embedded.broker import Broker
from broker.embedded.listener import listen, listener
from broker.embedded.message import Message
from broker.embedded.refusals import Refusals
from hub.access.grants import Grant
from hub.access.principals import Principal

Venue = Any

# Filter, topics that it matches, topics that it does not; all below one that is the device's own.
TABLE = [
    ("a", ["a"], ["A", "b", "a/", "/a", "aa", "a/a"]),
    ("a/b", ["a/b"], ["a", "a/", "a/b/", "a//b", "a/b/c"]),
    ("#", ["a", "a/b", "a/b/c", "/", "a/", "//", "$x", "a/$x"], []),
    ("a/#", ["a", "a/", "a/b", "a/b/c", "a//"], ["b", "aa", "/a", "b/a"]),
    ("a/+", ["a/", "a/b", "a/$b"], ["a", "a/b/c", "a//", "b/a"]),
    ("+", ["a", "$x", "bcd"], ["a/", "/a", "a/b"]),
    ("+/+", ["a/b", "/", "a/", "/b"], ["a", "a/b/c", "//"]),
    ("+/b/#", ["a/b", "a/b/c", "/b", "/b/c/d"], ["a", "a/c", "b", "a//b"]),
    ("/a", ["/a"], ["a", "//a", "/a/"]),
    ("/+", ["/", "/a"], ["a", "a/", "//"]),
    ("a//b", ["a//b"], ["a/b", "a/x/b", "a///b"]),
    ("a/+/b", ["a//b", "a/x/b"], ["a/b", "a/x/y/b", "a/x/"]),
    ("a/", ["a/"], ["a", "a//", "a/b"]),
    ("$x", ["$x"], ["x", "$"]),
    ("a b", ["a b"], ["ab", "a%20b", "a  b"]),
    ("accounts", ["accounts"], ["Accounts", "ACCOUNTS"]),
]


@pytest.mark.statement("MQTT-4.7.1-2", "MQTT-4.7.1-3", "MQTT-3.3.2-3", "MQTT-4.7.3-4")
@pytest.mark.parametrize(("name", "matching", "others"), TABLE, ids=[row[0] for row in TABLE])
def test_the_table(venue: Venue, name: str, matching: list[str], others: list[str]) -> None:
    hub, client = venue.hub(), venue.client()
    client.subscribe((client.topic("cmd", "t", name), 0))
    topics = [client.topic("cmd", "t", topic) for topic in (*others, *matching)]
    for topic in topics:
        hub.send(venue.wire.publish(topic, b"x"))
    hub.collect()
    assert [got.topic for got in client.messages()] == topics[len(others) :]


@pytest.mark.statement("MQTT-4.7.1-2")
def test_number_sign_matches_the_level_above(venue: Venue) -> None:
    hub, client = venue.hub(), venue.client()
    client.subscribe((client.topic("cmd", "#"), 0))
    hub.publish(client.topic("cmd"), b"parent")
    assert [got.payload for got in client.messages()] == [b"parent"]


@pytest.mark.statement("MQTT-4.7.3-4")
@pytest.mark.parametrize(
    ("one", "other"), [("é", "e\u0301"), ("ß", "ss"), ("K", "\u212a"), ("a", "\uff41"), ("ﬁ", "fi")]
)
def test_characters_are_compared_as_they_are(venue: Venue, one: str, other: str) -> None:
    hub, client = venue.hub(), venue.client()
    client.subscribe((client.topic("cmd", one), 0))
    hub.publish(client.topic("cmd", other), b"other")
    hub.publish(client.topic("cmd", one), b"one")
    assert [got.payload for got in client.messages()] == [b"one"]


class Anyone:
    """Everybody may use every topic, also those that begin with $."""

    async def admit(self, username: str, _password: str) -> Admitted | Rejected:
        grants = tuple(
            Grant(action, name, "being anyone") for action in ("publish", "subscribe") for name in ("#", "$ours/#")
        )
        return Admitted(Principal(username, "device", grants, "marvain/v1"), uuid.UUID(int=0))

    async def review(self, username: str, _credential_id: uuid.UUID) -> Admitted | Rejected:
        return await self.admit(username, "")

    async def review_many(self, asked: list[tuple[str, uuid.UUID]]) -> dict[str, Admitted | Rejected]:
        return {username: await self.admit(username, "") for username, _ in asked}

    async def ended(self, _usernames: list[str]) -> list[str] | None:
        return []


@dataclass
class Open:
    """A broker where `anyone` may use every topic: with the product's grants nobody may ask for `#` at all."""

    port: int
    say: Callable[[Any, str], None]


@pytest.fixture
def open_broker(venue: Venue) -> Iterator[Open]:
    if venue.name == "mosquitto":
        yield Open(venue.port, lambda peer, topic: peer.publish(topic, b"x"))
        return
    port, started, stop = venue.free_port(), threading.Event(), asyncio.Event()
    running: list[tuple[asyncio.AbstractEventLoop, Broker]] = []

    async def serve() -> None:
        broker = Broker(Anyone(), Refusals(None, None), "marvain/v1")
        server = await listen(broker, listener(ListenerType.TCP, "127.0.0.1", port))
        running.append((asyncio.get_running_loop(), broker))
        started.set()
        await stop.wait()
        server.close()
        await broker.close()

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    assert started.wait(10)
    loop, broker = running[0]

    def say(peer: Any, topic: str) -> None:
        """As the broker itself: of clients ours takes no topic that begins with $."""
        loop.call_soon_threadsafe(broker.exchange.publish, topic, Message(topic.encode(), b"x", 0))

    yield Open(port, say)
    loop.call_soon_threadsafe(stop.set)
    thread.join(10)


@pytest.mark.statement("MQTT-4.7.2-1")
def test_a_leading_wildcard_does_not_match_a_leading_dollar(venue: Venue, open_broker: Open) -> None:
    peer = venue.house.dial(open_broker.port)
    peer.connect("anyone", "anyone", venue.open_password)
    topics = ["$ours/a", "$ours", "plain/a", "plain"]
    expected = {
        "#": {"plain/a", "plain"},
        "+": {"plain"},
        "+/a": {"plain/a"},
        "+/#": {"plain/a", "plain"},
        "$ours/#": {"$ours/a", "$ours"},
        "$ours/+": {"$ours/a"},
    }
    for name, matching in expected.items():
        assert peer.subscribe((name, 0), ("plain/end", 0)) == [0, 0]
        # Whatever is said before the last one is handed on before it.
        for topic in (*topics, "plain/end"):
            open_broker.say(peer, topic)
        heard = set()
        while (got := peer.message()).topic != "plain/end":
            heard.add(got.topic)
        assert heard & set(topics) == matching, name
        peer.drain().unsubscribe(name)
    peer.disconnect()
