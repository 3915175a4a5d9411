"""What fuzzing has found, as the smallest scene of each."""

import asyncio
import uuid
from collections.abc import Iterator

import pytest

from bench.fuzz_clients import packet, string
from bench.fuzz_play import NAMES, ROOT, SMALL, Play
from broker.embedded.limits import LIMITS
from broker.embedded.message import Message
from broker.embedded.session import Session
from hub.access.grants import Grant
from hub.access.principals import Principal


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Bounds that a few messages reach."""
    monkeypatch.setitem(LIMITS, "device", SMALL)
    return


class Written:
    """A connection that keeps what a session sends."""

    def __init__(self) -> None:
        self.out_bytes = 0
        self.sent: list[bytes] = []

    def send(self, data: bytes) -> None:
        self.sent.append(data)


def allowed(*filters: str) -> Principal:
    return Principal("lamp", "device", tuple(Grant("subscribe", one, "x") for one in filters), ROOT)


def test_messages_that_wait_go_out_when_those_before_them_may_no_longer_be_read() -> None:
    """Nobody acknowledges what was taken away, so that the queue behind it stood still until the client came back."""
    session, wire = Session(allowed("s/#", "n/#"), uuid.uuid4(), persistent=True), Written()
    session.attach(wire)
    for topic in (b"n/a", b"n/b", b"n/c", b"s/a", b"s/b"):
        session.deliver(Message(topic, b"x", 1), 1)
    assert len(session.inflight) == SMALL.window == 3
    assert len(session.queue) == 2
    session.principal = allowed("s/#")
    session.forget_unreadable()
    assert [data[4:7] for data in wire.sent] == [b"n/a", b"n/b", b"n/c", b"s/a", b"s/b"]
    assert not session.queue
    assert session.queue_bytes == 0


async def test_a_connection_that_ends_while_its_peer_does_not_read_says_nothing_after_its_end() -> None:
    """What waited for the peer was written when it read again: behind the end of the stream, which no socket takes."""
    play = Play(b"")
    reader = await play.bystander(NAMES[0])
    reader.hear()
    reader.protocol.pause_writing()
    reader.unsent += b"\xc0\0"
    reader.feed()
    reader.unsent += packet(0x30, string("#") + b"x")
    reader.feed()
    await asyncio.sleep(0)
    assert reader.protocol.state == "closed"
    assert reader.pipe.said_end
    reader.protocol.resume_writing()
    reader.lose()
    await play.broker.close()


async def test_the_identifier_0_is_not_released() -> None:
    """A PUBREC of it was answered with a PUBREL of it, which no server may send."""
    play = Play(b"")
    client = await play.bystander(NAMES[0])
    client.unsent += b"\x50\2\0\0"
    client.feed()
    client.hear()
    assert client.protocol.state == "closed"
    assert client.heard.packets == 1
    client.lose()
    await play.broker.close()
