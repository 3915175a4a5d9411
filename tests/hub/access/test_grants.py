"""Topics, filters, and covering: the examples that matter, then thousands of pairs against an oracle."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.access.grants import Grant, covers, matches, valid_filter, valid_topic


@pytest.mark.parametrize(
    "text",
    ["", "a\0b", "a/#/b", "a#", "#a", "a+", "+a/b", "a/b+", "##", "++", "a/##", "x" * 65_536, "é" * 40_000, "\ud800"],
)
def test_bad_filters_are_refused(text: str) -> None:
    assert not valid_filter(text)
    with pytest.raises(ValueError, match="not a topic filter"):
        Grant("publish", text, "nobody")


@pytest.mark.parametrize("text", ["", "a\0", "+", "a/+", "#", "a/#", "a+b", "\udc00", "x" * 65_536])
def test_bad_topics_are_refused(text: str) -> None:
    assert not valid_topic(text)


@pytest.mark.parametrize("text", ["#", "+", "/", "a", "a/#", "+/#", "/+", "a//b", "+/+/+", "x" * 65_535, "é" * 32_767])
def test_good_filters(text: str) -> None:
    assert valid_filter(text)


@pytest.mark.parametrize(
    ("granted", "asked"),
    [
        ("a/+", "a/#"),
        ("a/+", "a"),
        ("a/+", "a/b/c"),
        ("a/b", "a/+"),
        ("a/+/#", "a/#"),
        ("a/#", "#"),
        ("a/#", "+/#"),
        ("+", "#"),
        ("a/+/c", "a/b/+"),
        ("#", "$SYS/#"),
        ("+/#", "$SYS/broker"),
        ("+/a", "$x/a"),
        ("a", "a/"),
        ("a/", "a"),
        ("/", "/#"),
        ("/+", "/#"),
        ("a", "A"),
    ],
)
def test_does_not_cover(granted: str, asked: str) -> None:
    assert not covers(granted, asked)


@pytest.mark.parametrize(
    ("granted", "asked"),
    [
        ("#", "#"),
        ("#", "+/#"),
        ("+/#", "#"),
        ("a/#", "a"),
        ("a/#", "a/#"),
        ("a/#", "a/+/b/#"),
        ("a/+", "a/+"),
        ("a/+", "a/"),
        ("+/+", "/"),
        ("$SYS/#", "$SYS/a/b"),
        ("a/$x/+", "a/$x/b"),
        ("+/b", "a/b"),
        ("/+/#", "/#"),
        ("+/+/#", "/#"),
    ],
)
def test_covers(granted: str, asked: str) -> None:
    assert covers(granted, asked)


# The oracle: MQTT's matching written as plainly as the standard says it, and covering as "all topics of a small world".
# The world has one more name than the filters and goes deeper than they do: no wildcard is exhausted by chance.
def oracle_matches(filter_: str, topic: str) -> bool:
    want, have = filter_.split("/"), topic.split("/")
    if want[0] in {"+", "#"} and have[0].startswith("$"):
        return False
    if want[-1] == "#":
        want = want[:-1]
        if len(have) < len(want):
            return False
        have = have[: len(want)]
    return len(want) == len(have) and all(level in {"+", name} for level, name in zip(want, have, strict=True))


NAMES = ["a", "", "$"]
LEVELS = [*NAMES, "+"]
WORLD = [
    topic
    for depth in range(1, 6)
    for topic in map("/".join, itertools.product([*NAMES, "b"], repeat=depth))
    if valid_topic(topic)
]
FILTERS = [
    text
    for depth in range(1, 4)
    for levels in itertools.product(LEVELS, repeat=depth)
    for text in ("/".join(levels), "/".join([*levels[:-1], "#"]))
    if valid_filter(text)
]
MATCHED = {text: frozenset(topic for topic in WORLD if oracle_matches(text, topic)) for text in set(FILTERS)}


def test_covers_agrees_with_the_oracle_on_every_pair_of_small_filters() -> None:
    filters = sorted(MATCHED)
    assert len(filters) ** 2 > 10_000
    wrong = [
        (granted, asked)
        for granted in filters
        for asked in filters
        if covers(granted, asked) != (MATCHED[asked] <= MATCHED[granted])
    ]
    assert wrong == []


def test_matches_agrees_with_the_oracle_on_the_whole_small_world() -> None:
    wrong = [(text, topic) for text in MATCHED for topic in WORLD if matches(text, topic) != (topic in MATCHED[text])]
    assert wrong == []


level = st.sampled_from(["a", "b", "", "$a", "+", "a+", "#", "é"])
anything = st.lists(level, min_size=1, max_size=6).map("/".join)
filters = anything.filter(valid_filter)
topics = anything.filter(valid_topic)


@settings(max_examples=2_000, deadline=None)
@given(filters, filters, topics)
def test_a_grant_never_admits_more_than_it_says(granted: str, asked: str, topic: str) -> None:
    assert matches(asked, topic) == oracle_matches(asked, topic)
    if covers(granted, asked) and oracle_matches(asked, topic):
        assert oracle_matches(granted, topic)


@settings(max_examples=1_000, deadline=None)
@given(filters, filters, filters)
def test_covering_is_an_order(one: str, two: str, three: str) -> None:
    assert covers(one, one)
    if covers(one, two) and covers(two, three):
        assert covers(one, three)


@settings(max_examples=1_000, deadline=None)
@given(st.text(max_size=12))
def test_any_text_gets_a_verdict(text: str) -> None:
    assert valid_filter(text) or not valid_topic(text)
