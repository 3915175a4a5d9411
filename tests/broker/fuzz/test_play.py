"""A short run of the fuzzer: plays of chance, and proof that its rules see what they should."""

import asyncio
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench import fuzz_rules
from bench.fuzz_clients import connect, packet, publish, string
from bench.fuzz_play import NAMES, Play, perform
from broker.embedded.broker import Broker
from broker.embedded.session import Session


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


@settings(
    max_examples=80,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture],
)
@given(data=st.binary(min_size=50, max_size=400))
def test_nothing_that_clients_do_breaks_a_rule(loop: asyncio.AbstractEventLoop, data: bytes) -> None:
    perform(data, loop)


@pytest.mark.parametrize("seed", range(4))
def test_long_plays(loop: asyncio.AbstractEventLoop, seed: int) -> None:
    perform(random.Random(seed).randbytes(1_500), loop)


@pytest.mark.parametrize("seed", range(2))
def test_what_is_to_be_kept_is_on_the_disk_as_in_memory(
    loop: asyncio.AbstractEventLoop, seed: int, tmp_path: Path
) -> None:
    perform(random.Random(seed).randbytes(800), loop, tmp_path)


def miscount(broker: Broker, session: Session) -> None:
    session.queue_bytes += 1


def overfill(broker: Broker, session: Session) -> None:
    session.inflight.update(dict.fromkeys(range(1, 100)))


def lose_a_subscription(broker: Broker, session: Session) -> None:
    session.subscriptions.clear()


def leave_a_ghost(broker: Broker, session: Session) -> None:
    del broker.exchange.sessions[session.username]


def miscount_retained(broker: Broker, session: Session) -> None:
    broker.exchange.retained._bytes_of["nobody"] = 1
    broker.exchange.retained._topics_of["nobody"] = {"n/x"}


@pytest.mark.parametrize("spoil", [miscount, overfill, lose_a_subscription, leave_a_ghost, miscount_retained])
async def test_the_rules_see_what_is_wrong(spoil: Callable[[Broker, Session], None]) -> None:
    play = Play(b"")
    client = await play.bystander(NAMES[0])
    client.unsent += packet(0x82, b"\0\1" + string("s/#") + b"\1")
    client.feed()
    fuzz_rules.check(play.broker)
    spoil(play.broker, play.broker.exchange.sessions[NAMES[0]])
    with pytest.raises((AssertionError, KeyError)):
        fuzz_rules.check(play.broker)


@pytest.mark.parametrize(
    "data",
    [
        packet(0xD0, b""),
        b"\x20\2\0\0\x20\2\0\0",
        b"\x20\2\0\0\x60\2\0\1",
        b"\x20\x82\0\0\0",
        b"\x20\2\0\0" + packet(0x38, string("a") + b"x"),
        b"\x20\2\0\0" + publish("a", b"#2 by 1 ", 0, 0) + publish("a", b"#1 by 1 ", 0, 0),
        connect("x"),
    ],
    ids=["no CONNACK", "two CONNACKs", "PUBREL flags", "long length", "DUP at QoS 0", "overtaken", "CONNECT"],
)
def test_the_rules_hear_what_is_wrong(data: bytes) -> None:
    with pytest.raises(AssertionError):
        fuzz_rules.Heard().take(data)
