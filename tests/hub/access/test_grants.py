"""Topics, filters, and covering: the examples that matter, then thousands of pairs against an oracle."""

import itertools
import random
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hub.access import decide
from hub.access.grants import Book, Grant, covers, matches, overlap, split_share, valid_filter, valid_topic
from hub.access.principals import Principal


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


def test_two_filters_overlap_when_some_topic_is_matched_by_both() -> None:
    filters = sorted(MATCHED)
    wrong = [(one, two) for one in filters for two in filters if overlap(one, two) != bool(MATCHED[one] & MATCHED[two])]
    assert wrong == []


# Longer filters with stranger levels, more than can be enumerated: an asked filter stands for a few topics, in which
# each wildcard is a name that no grant has, and which are as deep as any grant and one level deeper.
NEW = "\N{SNOWMAN}new"
STRANGE = ["a", "b", "", "$SYS", "$x", "é", "e\u0301", "\U0001f600", "A", " ", "a b", "+", "+"]
DEEPEST = 7


def some_filter(chance: random.Random) -> str:
    while True:
        levels = [chance.choice(STRANGE) for _ in range(chance.randint(1, DEEPEST - 1))]
        if chance.random() < 0.35:
            levels.append("#")
        text = "/".join(levels)
        if valid_filter(text):
            return text


def close_to(filter_: str, chance: random.Random) -> str:
    """A filter that differs little, so that about half of the pairs are covered."""
    levels = filter_.split("/")
    for _ in range(chance.choice([0, 1, 1, 2])):
        at = chance.randrange(len(levels))
        levels[at : at + 1] = chance.choice([["+"], ["a"], [""], ["$SYS"], [], ["+", "b"], ["#"]])
        levels = levels[: levels.index("#") + 1] if "#" in levels else levels
        levels = levels[: DEEPEST - 1] or ["+"]
    text = "/".join(levels)
    return text if valid_filter(text) else filter_


def topics_of(asked: str) -> Iterator[str]:
    levels = [NEW if level == "+" else level for level in asked.split("/")]
    if levels[-1] != "#":
        yield "/".join(levels)
        return
    for depth in range(DEEPEST + 1):
        topic = "/".join([*levels[:-1], *[NEW] * depth])
        if topic:
            yield topic


def test_no_grant_ever_admits_more_or_less_than_it_says() -> None:
    chance = random.Random(20_261_122)
    pairs = allowed = 0
    wrong = []
    while pairs < 120_000:
        granted = some_filter(chance)
        book = Book([Grant("subscribe", granted, "the role R")])
        for _ in range(6):
            asked = close_to(granted, chance)
            expected = all(oracle_matches(granted, topic) for topic in topics_of(asked) if valid_topic(topic))
            if covers(granted, asked) != expected or (book.find(asked) is not None) != expected:
                wrong.append((granted, asked))
            pairs += 1
            allowed += expected
    assert wrong == []
    assert 0.2 < allowed / pairs < 0.8


def test_shared_subscriptions_open_what_the_filter_in_them_does() -> None:
    chance = random.Random(7)
    wrong = []
    for number in range(3_000):
        granted = some_filter(chance)
        principal = Principal("p", "device", (Grant("subscribe", granted, "the role R"),), "r")
        asked = close_to(granted, chance)
        verdicts = {decide.subscribe(principal, one).allowed for one in (asked, f"$share/group {number}/{asked}")}
        if verdicts != {covers(granted, asked)}:
            wrong.append((granted, asked))
    assert wrong == []


@pytest.mark.parametrize("shared", ["$share/", "$share/g", "$share//a", "$share/g/", "$share/+/a", "$share/#"])
def test_malformed_shared_subscriptions_are_refused(shared: str) -> None:
    with pytest.raises(ValueError, match="shared"):
        split_share(shared)
    everything = (Grant("subscribe", "#", "x"), Grant("subscribe", "$share/#", "x"), Grant("subscribe", "g/#", "x"))
    assert not decide.subscribe(Principal("p", "device", everything, "r"), shared)


def test_a_share_cannot_be_shared_again() -> None:
    with pytest.raises(ValueError, match="shared"):
        split_share("$share/g/$share/h/a")
    assert split_share("$share/g/a/+/#") == ("g", "a/+/#")
    assert split_share("$shared/g/a") == ("", "$shared/g/a")


def test_a_book_of_many_grants_agrees_with_each_of_them() -> None:
    chance = random.Random(11)
    for _ in range(60):
        grants = [Grant("publish", some_filter(chance), str(number)) for number in range(60)]
        book = Book(grants)
        for _ in range(60):
            asked = close_to(chance.choice(grants).filter, chance) if chance.random() < 0.7 else some_filter(chance)
            found = book.find(asked)
            assert (found is not None) == any(covers(grant.filter, asked) for grant in grants)
            assert found is None or (found in grants and covers(found.filter, asked))


def test_a_book_touches_what_one_of_its_grants_overlaps() -> None:
    filters = sorted(MATCHED)
    for one in filters:
        book = Book([Grant("subscribe", one, "a test")])
        for two in filters:
            if not overlap(one, two) and (one[0] in "+#" or two[0] in "+#"):
                # What begins with "$" is kept apart elsewhere: here it may count, and never the other way.
                continue
            assert book.touches(two) == overlap(one, two), (one, two)
    chance = random.Random(12)
    for _ in range(60):
        grants = [Grant("publish", some_filter(chance), str(number)) for number in range(20)]
        book, asked = Book(grants), close_to(chance.choice(grants).filter, chance)
        if any(overlap(grant.filter, asked) for grant in grants):
            assert book.touches(asked)
    assert not Book([]).touches("#")


level = st.sampled_from(["a", "b", "", "$a", "+", "a+", "#", "é"])
anything = st.lists(level, min_size=1, max_size=6).map("/".join)
filters = anything.filter(valid_filter)
topics = anything.filter(valid_topic)


@settings(max_examples=150, deadline=None)
@given(filters, filters, topics)
def test_a_grant_never_admits_more_than_it_says(granted: str, asked: str, topic: str) -> None:
    assert matches(asked, topic) == oracle_matches(asked, topic)
    if covers(granted, asked) and oracle_matches(asked, topic):
        assert oracle_matches(granted, topic)


@settings(max_examples=150, deadline=None)
@given(filters, filters, filters)
def test_covering_is_an_order(one: str, two: str, three: str) -> None:
    assert covers(one, one)
    if covers(one, two) and covers(two, three):
        assert covers(one, three)


@settings(max_examples=150, deadline=None)
@given(st.text(max_size=12))
def test_any_text_gets_a_verdict(text: str) -> None:
    assert valid_filter(text) or not valid_topic(text)
