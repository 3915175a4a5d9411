"""What is counted of a connection and of its topics, and that it takes bounded room until it is reported."""

import pytest

from broker.embedded import flow
from broker.embedded.flow import Flow, Traffic, Way
from broker.embedded.limits import UNBOUNDED, Bounds
from broker.embedded.routing import Route
from hub.access.principals import Principal, hub_principal

LAMP = Principal("lamp", "device", (), "marvain/v1")


def test_topics_are_counted_once_and_refused_ones_not_at_all() -> None:
    traffic = Traffic(UNBOUNDED)
    ways = {b"a": Way(Route(())), b"b": Way(Route((), "it may not"))}
    ways[b"a"].count = ways[b"b"].count = 3
    traffic.collect(LAMP, ways.items())
    traffic.collect(LAMP, ways.items())
    traffic.collect(hub_principal("marvain/v1"), [(b"c", Way(Route(())))])
    assert traffic.take() == {("lamp", "a"): 3}
    assert traffic.take() == {}


def test_what_cannot_be_told_apart_is_counted_without_its_topic(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flow, "MOST_TOPICS", 2)
    traffic = Traffic(UNBOUNDED)
    for topic in ("a", "b", "c", "d", "a"):
        traffic.add("lamp", topic, 1)
    counts = traffic.take()
    assert counts == {("lamp", "a"): 2, ("lamp", "b"): 1, ("lamp", ""): 2}
    traffic.add("lamp", "e", 1)
    traffic.put_back(counts)
    assert sum(traffic.take().values()) == 6


def test_a_client_that_comes_back_has_the_tokens_it_left() -> None:
    traffic = Traffic(Bounds(messages_per_second=10, bytes_per_second=1_000))
    pace = traffic.pace(LAMP, 0.0)
    assert pace is not None
    assert pace.take(30, 0, 0.0) > 0
    assert traffic.pace(LAMP, 0.0) is pace
    assert traffic.pace(hub_principal("marvain/v1"), 0.0) is None
    assert Traffic(UNBOUNDED).pace(LAMP, 0.0) is None


def test_flows_add_up() -> None:
    total, one = Flow(), Flow()
    one.published, one.controls, one.acknowledged, one.packets_out, one.answered = 5, 2, 1, 9, 4
    total.add(one)
    total.add(one)
    assert (total.packets_in, total.delivered) == (16, 10)
