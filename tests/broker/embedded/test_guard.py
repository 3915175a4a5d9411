"""The guard: what one address may take, whom its failures keep out, and that it remembers only so much."""

from typing import Any

import pytest

from broker.embedded import guard as guard_module
from broker.embedded.guard import Guard, network
from broker.embedded.limits import Bounds
from broker.embedded.pace import Pace


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_one_address_has_so_many_connections_and_gets_them_back() -> None:
    guard = Guard(Bounds(connections_per_address=2))
    assert not guard.opened("192.0.2.1")
    assert not guard.opened("192.0.2.1")
    assert guard.opened("192.0.2.1") == "more than 2 connections from 192.0.2.1"
    assert not guard.opened("192.0.2.2")
    guard.closed("192.0.2.1")
    assert not guard.opened("192.0.2.1")
    assert guard.opened("::ffff:192.0.2.1")


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("no address", "no address"),
    ],
)
def test_an_ipv6_address_counts_by_its_64(address: str, expected: str) -> None:
    assert network(address) == expected


def test_connects_are_bounded_per_second_after_a_burst(clock: Clock) -> None:
    guard = Guard(Bounds(connects_per_second=3), clock)
    assert all(not guard.connects("192.0.2.1", "lamp") for _ in range(30))
    assert "more than 3 CONNECTs per second from 192.0.2.1" in guard.connects("192.0.2.1", "lamp")
    assert not guard.connects("192.0.2.2", "lamp")
    clock.now += 1
    assert [bool(guard.connects("192.0.2.1", "lamp")) for _ in range(4)] == [False, False, False, True]


def test_wrong_passwords_stop_strangers_of_the_address_and_not_who_came_in_before(clock: Clock) -> None:
    guard = Guard(Bounds(failures_per_minute=4), clock)
    guard.succeeded("192.0.2.1", "hub_service")
    for number in range(4):
        assert not guard.connects("192.0.2.1", f"guess-{number}")
        guard.failed("192.0.2.1", f"guess-{number}")
    assert "more than 4 wrong passwords per minute" in guard.connects("192.0.2.1", "another")
    assert not guard.connects("192.0.2.1", "hub_service")
    assert not guard.connects("192.0.2.2", "another")
    clock.now += 15
    assert not guard.connects("192.0.2.1", "another")
    # Who came in before is not free to guess either.
    for _ in range(4):
        guard.failed("192.0.2.1", "hub_service")
    assert guard.connects("192.0.2.1", "hub_service")


def test_it_remembers_only_so_many(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard_module, "MOST_REMEMBERED", 10)
    guard = Guard(Bounds(connects_per_second=1, failures_per_minute=1), clock)
    for number in range(100):
        guard.connects(f"192.0.2.{number}", "x")
        guard.failed(f"192.0.2.{number}", "x")
        guard.succeeded(f"192.0.2.{number}", "x")
    remembered: tuple[Any, ...] = (guard._connects, guard._failures, guard._known)
    assert [len(kept) for kept in remembered] == [10, 10, 10]


def test_no_bounds_bound_nothing(clock: Clock) -> None:
    guard = Guard(clock=clock)
    for _ in range(1_000):
        guard.failed("192.0.2.1", "x")
        assert not guard.opened("192.0.2.1")
        assert not guard.connects("192.0.2.1", "x")


def test_a_pace_lends_a_chunk_and_is_paid_back() -> None:
    pace = Pace(Bounds(messages_per_second=10, bytes_per_second=1_000), 0.0)
    assert pace.take(20, 100, 0.0) == 0
    assert pace.take(5, 0, 0.0) == pytest.approx(0.5)
    assert pace.take(0, 0, 0.5) == 0
    assert pace.take(0, 4_000, 0.5) == pytest.approx(2.0)
    assert pace.take(0, 0, 60) == 0
