"""One address, one client: what each may take of a real broker, and that nothing of a fast one is lost."""

import resource
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from broker.embedded.guard import Guard
from broker.embedded.limits import Bounds

House = Any  # tests/broker/conftest.py
RATE = 500


@pytest.fixture(scope="module")
def shared(house_with: Callable[..., House]) -> Iterator[House]:
    house = house_with(
        {
            "MARVAIN_BROKER_CONNECTIONS_PER_ADDRESS": "4",
            "MARVAIN_BROKER_CONNECTS_PER_SECOND": "1",
            "MARVAIN_BROKER_FAILURES_PER_MINUTE": "3",
            "MARVAIN_BROKER_MESSAGES_PER_SECOND": str(RATE),
            "MARVAIN_BROKER_MAX_PACKET_BYTES": "200000",
        }
    )
    yield house
    assert "Traceback" not in house.broker.log(), house.broker.log()


@pytest.fixture
def guarded(shared: House) -> Iterator[House]:
    yield shared
    shared.hang_up()


def test_an_address_has_so_many_connections_and_no_more(guarded: House) -> None:
    device, token = guarded.add()
    silent = [guarded.dial(source="127.0.1.1") for _ in range(4)]
    for peer in silent:
        # Only what was read is certain to have been counted.
        peer.send(b"\x10")
    assert guarded.dial(source="127.0.1.1").closed(1.0)
    guarded.denial("(nobody)", "more than 4 connections from 127.0.1.1")
    assert guarded.dial(source="127.0.1.2").connect(device.handle, device.handle, token).body[1] == 0
    # Over WebSocket no other way leads around it.
    assert guarded.dial(guarded.broker.ws_port, source="127.0.1.1").closed(1.0)
    silent[0].close()
    deadline = time.monotonic() + 5
    while True:
        try:
            answer = guarded.dial(source="127.0.1.1").connect(device.handle, device.handle, token)
        except (AssertionError, OSError):
            assert time.monotonic() < deadline
            continue
        assert answer.body[1] == 0
        return


def test_all_together_have_fewer_connections_than_there_are_descriptors(guarded: House) -> None:
    guard = Guard(Bounds(connections=2))
    assert not guard.opened("192.0.2.1")
    assert not guard.opened("192.0.2.2")
    assert "no more descriptors" in guard.opened("192.0.2.3")
    guard.closed("192.0.2.1")
    assert not guard.opened("192.0.2.3")
    soft, hard = resource.prlimit(guarded.broker.process.pid, resource.RLIMIT_NOFILE)
    assert soft == hard, "as many as the system allows"


def until_braked(house: House, source: str, name: str | None, token: str | None) -> list[int]:
    """Connect again and again, until that is answered with 3; the answers before."""
    codes: list[int] = []
    while len(codes) < 60:
        peer = house.dial(source=source)
        code = peer.connect(name or "", name, token).body[1]
        peer.close()
        if code == 3:
            return codes
        codes.append(code)
    pytest.fail("never braked")


def test_connects_of_an_address_are_braked(guarded: House) -> None:
    device, token = guarded.add()
    named = until_braked(guarded, "127.0.2.1", device.handle, token)
    assert named[:10] == [0] * 10
    # Who names nobody is not asked about, and counts nevertheless.
    assert until_braked(guarded, "127.0.2.3", None, None)[:10] == [5] * 10
    guarded.denial(device.handle, "more than 1 CONNECTs per second from 127.0.2.1")
    assert guarded.dial(source="127.0.2.2").connect(device.handle, device.handle, token).body[1] == 0


def test_a_guesser_keeps_strangers_out_and_not_who_came_in_before(guarded: House) -> None:
    (known, good), (other, also_good) = guarded.add(), guarded.add()
    here = "127.0.3.1"
    assert guarded.dial(source=here).connect(known.handle, known.handle, good).body[1] == 0
    guesses = []
    for _ in range(4):
        peer = guarded.dial(source=here)
        guesses.append(peer.connect("hub_service", "hub_service", "guess").body[1])
        peer.close()
    assert guesses == [4, 4, 4, 3]
    guarded.denial("hub_service", "more than 3 wrong passwords per minute from 127.0.3.1")
    assert guarded.dial(source=here).connect(other.handle, other.handle, also_good).body[1] == 3
    assert guarded.dial(source=here).connect(known.handle, known.handle, good).body[1] == 0
    assert guarded.dial(source="127.0.3.2").connect(other.handle, other.handle, also_good).body[1] == 0


def test_a_device_in_a_hurry_is_read_more_slowly_and_loses_nothing(guarded: House) -> None:
    hub, device = guarded.hub(), guarded.device(keep_alive=1)
    hub.peer.subscribe((device.topic("event", "e"), 0))
    count = RATE * 4
    # One read at most holds more than a second's worth: what it costs is waited for afterwards.
    device.peer.send(b"".join(guarded.wire.publish(device.topic("event", "e"), b"%d" % n) for n in range(count)))
    began = time.monotonic()
    assert [int(hub.peer.message().payload) for _ in range(count)] == list(range(count))
    device.peer.ping()
    # Two seconds' worth were free; the keep-alive of one second was no reason to end it meanwhile.
    assert 1.0 < time.monotonic() - began < 10
    guarded.denial(device.handle, f"sends more than {RATE} messages")


def test_the_hub_is_not_slowed(guarded: House) -> None:
    hub, device = guarded.hub(), guarded.device()
    topic = device.topic("cmd", "state.read", "1")
    began = time.monotonic()
    hub.peer.send(b"".join(guarded.wire.publish(topic, b"x") for _ in range(RATE * 6)))
    hub.peer.ping()
    assert time.monotonic() - began < 4


def test_a_packet_is_as_large_as_the_settings_say(guarded: House) -> None:
    hub, device = guarded.hub(), guarded.device()
    hub.peer.subscribe((device.topic("event", "e"), 1))
    device.peer.publish(device.topic("event", "e"), b"x" * 190_000, 1)
    assert len(hub.peer.message().payload) == 190_000
    device.peer.send(guarded.wire.publish(device.topic("event", "e"), b"x" * 210_000))
    assert device.peer.closed()
    guarded.denial(device.handle, "is larger than the limit of 200000")
