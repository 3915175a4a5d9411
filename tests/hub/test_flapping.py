"""Flapping as a pure function: when the word is said, and when it is taken back."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.flapping import BEGINS_AT, Unrest, calm, lose
from hub.presence import Evidence, Heard, hear, silence
from hub.presence import calm as calm_evidence

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)


def after(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def lost(*seconds: float) -> Unrest:
    unrest = Unrest()
    for at in seconds:
        unrest = lose(unrest, after(at))
    return unrest


@pytest.mark.parametrize(
    ("losses", "flaps"),
    [
        pytest.param([], False, id="never lost"),
        pytest.param([0], False, id="lost once"),
        pytest.param([0, 1, 2], False, id="three reboots while somebody works on it"),
        pytest.param([0, 20, 40, 60], True, id="four within a minute"),
        pytest.param(range(0, 3600, 240), True, id="every four minutes for an hour"),
        pytest.param(range(0, 86_400, 600), False, id="every ten minutes for a day"),
        pytest.param(range(0, 7 * 86_400, 86_400), False, id="every night"),
    ],
)
def test_when_a_device_flaps(losses, flaps):
    assert lost(*losses).flapping is flaps


def test_the_word_stays_until_it_has_been_quiet_for_long_enough():
    unrest = lost(0, 1, 2, 3)
    assert calm(unrest, after(1100)) == unrest, "no longer heavy enough to begin, and not yet at rest"
    assert unrest.weight_at(after(1100)) < BEGINS_AT
    ended = calm(unrest, after(1300))
    assert not ended.flapping
    # The next loss alone does not bring it back, and three more do.
    assert not lose(ended, after(1301)).flapping
    for second in range(4):
        ended = lose(ended, after(1301 + second))
    assert ended.flapping


@given(st.lists(st.floats(min_value=0, max_value=1e5), max_size=40), st.floats(min_value=0, max_value=1e6))
@settings(deadline=None)
def test_whatever_the_order_the_weight_is_finite_and_ends(times, later):
    unrest = lost(*times)
    assert 0 <= unrest.weight_at(after(later)) <= len(times)
    assert not calm(unrest, after(1e5 + 20_000)).flapping


def play(*heard: tuple[float, str, int, str]) -> Evidence:
    evidence = Evidence()
    for at, kind, epoch, state in heard:
        evidence = hear(evidence, Heard(kind, epoch, after(at), state=state))
    return evidence


def test_wills_count_and_goodbyes_do_not():
    ends = {"lost": True, "bye": False}
    for word, flaps in ends.items():
        said = [one for n in range(1, 6) for one in ((n * 10, "state", n, "online"), (n * 10 + 5, "state", n, word))]
        assert play(*said).flapping is flaps, word


def test_a_connection_that_replaces_another_counts_once_whenever_the_will_of_the_older_comes():
    evidence = play((0, "state", 1, "online"), (1, "state", 2, "online"), (2, "state", 1, "lost"))
    assert evidence.unrest == 1
    evidence = play((0, "state", 1, "online"), (1, "state", 1, "lost"), (2, "state", 2, "online"))
    assert evidence.unrest == 1
    assert play((0, "state", 1, "online"), (1, "state", 1, "lost"), (2, "state", 1, "lost")).unrest == 1


def test_silence_counts_and_calm_comes_back():
    evidence, at = Evidence(), 0.0
    for epoch in range(1, 6):
        evidence = hear(evidence, Heard("state", epoch, after(at)))
        for step in (34, 38, 42):
            evidence, _ = silence(evidence, after(at + step), NOW - timedelta(days=1))
        assert evidence.verdict == "offline"
        at += 60
    assert evidence.flapping
    assert calm_evidence(evidence, after(at + 100)) == evidence
    assert not calm_evidence(evidence, after(at + 3600)).flapping


def test_a_sleeper_that_closes_its_connection_loses_nothing():
    said = []
    for epoch in range(1, 8):
        said += [(epoch * 9, "state", epoch, "online"), (epoch * 9 + 1, "state", epoch, "sleeping")]
        said += [(epoch * 9 + 2, "state", epoch, "lost")]
    assert not play(*said).flapping
