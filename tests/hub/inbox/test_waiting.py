"""What waits to be stored is bounded, whatever arrives and however long Postgres is away."""

import threading
import time
import tracemalloc
from datetime import UTC, datetime

import pytest

from hub.inbox.envelope import Incoming
from hub.inbox.waiting import COMPANY, OVERHEAD, Waiting

AT = datetime.now(UTC)


def message(qos: int, size: int = 10, topic: str = "t") -> Incoming:
    return Incoming(topic, b"x" * size, False, AT, (1, 1, qos))


def test_what_came_unasked_is_dropped_before_what_was_asked_for_and_signs_of_life_after_samples():
    waiting = Waiting(messages_max=10)
    samples = [waiting.put(message(0)) for _ in range(7)]
    life = [waiting.put(message(0), is_life=True) for _ in range(5)]
    assert samples == [True] * 5 + [False] * 2
    assert life == [True] * 4 + [False]
    assert waiting.put(message(1))
    assert len(waiting) == 10


def test_bytes_are_bounded_as_well_as_numbers():
    waiting = Waiting(bytes_max=10_000 + 3 * OVERHEAD)
    assert waiting.put(message(0, 4_000))
    assert not waiting.put(message(0, 4_000))
    assert waiting.put(message(1, 6_000))
    assert waiting.bytes == 10_000 + 2 * OVERHEAD


@pytest.mark.parametrize("ends", ["taken", "closed"])
def test_a_broker_that_ignores_its_window_is_made_to_wait_and_loses_nothing(ends):
    waiting = Waiting(messages_max=3)
    for _ in range(3):
        assert waiting.put(message(1))
    taken = []
    hearing = threading.Thread(target=lambda: taken.append(waiting.put(message(1))), daemon=True)
    hearing.start()
    hearing.join(0.1)
    assert hearing.is_alive()
    assert len(waiting) == 3
    if ends == "taken":
        assert len(waiting.take(2, 10**9, 1)) == 2
    else:
        waiting.close()
    hearing.join(5)
    assert taken == [ends == "taken"]


def test_a_message_larger_than_all_room_passes_alone():
    waiting = Waiting(bytes_max=1_000)
    assert waiting.put(message(1, 5_000))
    assert [len(one.payload) for one in waiting.take(500, 100, 1)] == [5_000]


def test_a_batch_is_bounded_by_number_and_by_bytes_and_keeps_the_order():
    waiting = Waiting()
    for n in range(6):
        waiting.put(message(1, 1_000, str(n)))
    first = waiting.take(2, 10**9, 0)
    second = waiting.take(500, 2 * (1_000 + OVERHEAD), 0)
    assert [one.topic for one in first + second] == ["0", "1", "2", "3"]
    assert len(waiting.take(500, 10**9, 0)) == 2
    assert waiting.bytes == 0
    assert waiting.take(1, 1, 0.01) == []


def test_what_nobody_waits_for_waits_for_company_and_what_is_urgent_takes_it_along():
    waiting = Waiting()
    waiting.put(message(1), patience_s=30)
    began = time.monotonic()
    assert len(waiting.take(500, 10**9, 1)) == 1  # nothing came lately
    waiting.put(message(1), patience_s=30)
    taken = []
    storing = threading.Thread(target=lambda: taken.append(len(waiting.take(500, 10**9, 1))), daemon=True)
    storing.start()
    storing.join(0.1)
    assert storing.is_alive()
    waiting.put(message(1), patience_s=30)
    waiting.put(message(1))
    storing.join(5)
    assert taken == [3]
    waiting.put(message(1), patience_s=0.2)
    assert len(waiting.take(500, 10**9, 1)) == 1
    assert time.monotonic() - began < 5


def test_many_do_not_wait():
    waiting = Waiting()
    waiting.put(message(1))
    waiting.take(1, 10**9, 1)
    for _ in range(COMPANY):
        waiting.put(message(1), patience_s=30)
    assert len(waiting.take(2_000, 10**9, 1)) == COMPANY


def test_a_flood_of_everything_stays_within_its_bounds():
    """One thread hears as fast as it can, the other stores nothing for a while, then all."""
    waiting = Waiting(messages_max=2_000, bytes_max=4 * 1024**2)
    stop = threading.Event()

    def hear() -> None:
        n = 0
        while not stop.is_set():
            n += 1
            waiting.put(message(n % 2, 8_000))

    tracemalloc.start()
    hearing = threading.Thread(target=hear, daemon=True)
    hearing.start()
    end = time.monotonic() + 0.5
    while time.monotonic() < end:
        assert waiting.bytes <= 4 * 1024**2
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6 * 1024**2
    stop.set()
    waiting.close()
    hearing.join(5)
    assert waiting.take(10_000, 10**9, 1)
