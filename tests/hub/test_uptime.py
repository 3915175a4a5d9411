"""Presence over time as a pure function: what nobody could see is not invented."""

import itertools
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.uptime import NOBODY_LOOKED, NOT_YET, Drawn, marks, timeline, uptime

START = datetime(2026, 1, 1, tzinfo=UTC)
END = START + timedelta(seconds=1000)
ALL = [(START - timedelta(days=1), END + timedelta(days=1))]


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def drawn(*said: tuple[float, str]) -> list[Drawn]:
    return [Drawn(at(seconds), verdict, verdict) for seconds, verdict in said]


def brief(spans) -> list[tuple[float, float, str]]:
    return [((s.since - START).total_seconds(), (s.until - START).total_seconds(), s.verdict) for s in spans]


def test_before_the_first_word_nothing_is_known():
    spans = timeline(drawn((400, "online")), ALL, START, END)
    assert brief(spans) == [(0, 400, "unknown"), (400, 1000, "online")]
    assert spans[0].why == NOT_YET
    assert uptime(spans).ratio == 1.0
    assert uptime(spans).unknown_s == 400


def test_of_one_that_was_never_heard_there_is_no_share_at_all():
    assert uptime(timeline([], ALL, START, END)).ratio is None


def test_what_stood_before_the_range_stands_in_it():
    assert brief(timeline(drawn((-5000, "online")), ALL, START, END)) == [(0, 1000, "online")]


def test_while_the_hub_was_away_nothing_is_known():
    watches = [(at(-10), at(300)), (at(500), at(900))]
    spans = timeline(drawn((-5, "online"), (600, "offline")), watches, START, END)
    assert brief(spans) == [
        (0, 300, "online"),
        (300, 500, "unknown"),
        (500, 600, "online"),
        (600, 900, "offline"),
        (900, 1000, "unknown"),
    ]
    assert spans[1].why == NOBODY_LOOKED
    found = uptime(spans)
    assert (found.up_s, found.down_s, found.unknown_s) == (400, 300, 300)


@pytest.mark.parametrize(("then", "up"), [("online", 1000), ("offline", 500), (None, 500)])
def test_a_suspicion_counts_as_what_came_of_it(then, up):
    said = drawn((-1, "online"), (500, "suspect"), *([(600, then)] if then else []))
    found = uptime(timeline(said, ALL, START, END))
    assert found.up_s == up
    assert found.unknown_s == (0 if then else 500)


def test_asleep_as_it_said_counts_as_there():
    assert uptime(timeline(drawn((-1, "sleeping")), ALL, START, END)).ratio == 1.0


def test_a_reconnect_between_two_words_of_online_is_one_span():
    assert len(timeline(drawn((-9, "online"), (100, "online"), (200, "online")), ALL, START, END)) == 1


def test_the_shortest_failure_shows_in_the_bar():
    spans = timeline(drawn((-1, "online"), (501, "offline"), (502, "online")), ALL, START, END)
    found = marks(spans, 10)
    assert [(mark.start, mark.end, mark.verdict) for mark in found] == [
        (0.0, 0.5, "online"),
        (0.5, 0.6, "offline"),
        (0.6, 1.0, "online"),
    ]


VERDICTS = ["online", "suspect", "offline", "sleeping", "unknown"]


@given(
    st.lists(st.tuples(st.floats(-500, 1500), st.sampled_from(VERDICTS)), max_size=30),
    st.lists(st.tuples(st.floats(-500, 1500), st.floats(0, 300)), max_size=5),
)
@settings(deadline=None)
def test_spans_leave_no_gap_and_no_overlap(said, looked):
    watches, latest = [], -1e9
    for begins, lasted in sorted(looked):
        if begins > latest:
            watches.append((at(begins), at(begins + lasted)))
            latest = begins + lasted
    spans = timeline(drawn(*said), watches, START, END)
    assert spans[0].since == START
    assert spans[-1].until == END
    assert all(one.until == other.since for one, other in itertools.pairwise(spans))
    assert all(one.seconds > 0 for one in spans)
    found = uptime(spans)
    assert found.up_s + found.down_s + found.unknown_s == pytest.approx(1000)
    drawn_marks = marks(spans, 288)
    assert drawn_marks[0].start == 0
    assert drawn_marks[-1].end == 1
