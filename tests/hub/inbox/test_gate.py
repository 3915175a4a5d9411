"""The gate: who may speak is heard, who floods or sends garbage is set aside, and let go once calm."""

from hub.inbox.gate import Gate, Limits

LIMITS = Limits(per_second=10, at_once=50, garbage_per_minute=6, calm_s=60)


def admitted(gate: Gate, handle: str, kind: str, count: int, now: float, size: int = 0) -> int:
    return sum(gate.admits(handle, kind, f"d/{handle}/{kind}", size, now) for _ in range(count))


def test_a_device_at_its_pace_is_never_set_aside():
    gate = Gate(LIMITS)
    assert sum(admitted(gate, "porch", "event", 10, float(second)) for second in range(600)) == 6_000
    assert gate.look(600.0) == ([], [])


def test_a_backlog_at_once_is_no_flood():
    gate = Gate(LIMITS)
    assert admitted(gate, "porch", "event", 50, 0.0) == 50
    assert gate.look(0.0) == ([], [])


def test_a_flood_is_set_aside_and_counted_and_the_others_are_heard():
    gate = Gate(LIMITS)
    assert admitted(gate, "porch", "event", 100, 0.0) == 50
    assert admitted(gate, "gate", "event", 5, 0.0) == 5
    [held], _ = gate.look(0.0)
    assert (held.handle, held.reason, held.set_aside, held.last_topic, held.is_new) == (
        "porch",
        "flood",
        50,
        "d/porch/event",
        True,
    )
    [held], _ = gate.look(1.0)
    assert (held.set_aside, held.is_new) == (0, False)


def test_large_messages_count_for_more():
    assert admitted(Gate(LIMITS), "porch", "event", 100, 0.0, size=4 * 8_192) == 10


def test_presence_stays_right_at_a_calm_pace():
    gate = Gate(LIMITS)
    admitted(gate, "porch", "event", 100, 0.0)
    assert admitted(gate, "porch", "state", 20, 1.0) == 20
    assert admitted(gate, "porch", "heartbeat", 20, 2.0) == 1
    assert admitted(gate, "porch", "heartbeat", 20, 3.0) == 1
    assert admitted(gate, "porch", "reply", 1, 4.0) == 0


def test_it_is_let_go_when_it_was_calm_long_enough_and_not_before():
    gate = Gate(LIMITS)
    admitted(gate, "porch", "event", 100, 0.0)
    admitted(gate, "porch", "event", 100, 50.0)  # not calm at all
    assert gate.look(100.0)[1] == []
    admitted(gate, "porch", "event", 5, 105.0)  # at its pace: that is calm
    assert gate.look(111.0) == ([], ["porch"])
    assert admitted(gate, "porch", "event", 20, 111.0) == 20


def test_who_does_it_again_stays_twice_as_long():
    gate = Gate(LIMITS)
    admitted(gate, "porch", "event", 100, 0.0)
    gate.look(61.0)
    admitted(gate, "porch", "event", 100, 70.0)
    assert gate.look(135.0)[1] == []
    assert gate.look(191.0)[1] == ["porch"]
    admitted(gate, "porch", "event", 100, 1_000.0)  # a long time later it is the first time again
    assert gate.look(1_061.0)[1] == ["porch"]


def test_garbage_is_counted_by_the_minute():
    gate = Gate(LIMITS)
    for minute in range(10):
        gate.garbage({"porch": 6}, 60.0 * minute)
    assert gate.look(600.0)[0] == []
    gate.garbage({"porch": 7, "gate": 1}, 600.0)
    [held], _ = gate.look(600.0)
    assert (held.handle, held.reason) == ("porch", "garbage")
    assert admitted(gate, "porch", "event", 1, 601.0) == 0
    assert gate.look(660.0)[1] == ["porch"]


def test_somebody_lets_it_go():
    gate = Gate(LIMITS)
    admitted(gate, "porch", "event", 100, 0.0)
    gate.release(["porch", "nobody"], 1.0)
    assert admitted(gate, "porch", "event", 50, 1.0) == 50


def test_a_restart_forgets_nobody():
    gate = Gate(LIMITS)
    gate.restore("porch", "garbage", 20.0, 0.0)
    assert admitted(gate, "porch", "event", 1, 1.0) == 0
    assert gate.look(21.0) == ([], ["porch"])


def test_of_handles_that_say_nothing_any_more_nothing_is_kept():
    gate = Gate(LIMITS)
    for n in range(1_000):
        admitted(gate, f"h{n}", "event", 1, 0.0)
    gate.look(100.0)
    assert gate._meters == {}
