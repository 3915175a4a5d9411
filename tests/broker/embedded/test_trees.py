"""Both trees against the one definition of matching, over thousands of random sets."""

from hypothesis import given, settings
from hypothesis import strategies as st

from broker.embedded.trees import FilterTree, TopicTree
from hub.access.grants import matches, valid_filter, valid_topic

level = st.sampled_from(["a", "b", "", "$a", "+", "#"])
anything = st.lists(level, min_size=1, max_size=5).map("/".join)
filters = anything.filter(valid_filter)
topics = anything.filter(valid_topic)


@settings(max_examples=1_000, deadline=None)
@given(st.lists(st.tuples(filters, st.integers(0, 3), st.integers(0, 2)), max_size=12), topics, st.data())
def test_a_topic_finds_its_subscribers(added: list[tuple[str, int, int]], topic: str, data: st.DataObject) -> None:
    tree: FilterTree[int] = FilterTree()
    expected: dict[tuple[str, int], int] = {}
    for topic_filter, subscriber, qos in added:
        tree.add(topic_filter, subscriber, qos)
        expected[topic_filter, subscriber] = qos
    for topic_filter, subscriber, _ in data.draw(st.lists(st.sampled_from(added))) if added else ():
        tree.remove(topic_filter, subscriber)
        expected.pop((topic_filter, subscriber), None)
    wanted: dict[int, int] = {}
    for (topic_filter, subscriber), qos in expected.items():
        if matches(topic_filter, topic):
            wanted[subscriber] = max(qos, wanted.get(subscriber, 0))
    assert tree.match(topic) == wanted
    for topic_filter, subscriber in expected:
        tree.remove(topic_filter, subscriber)
    assert not tree._root.children, "nothing is left behind"


@settings(max_examples=1_000, deadline=None)
@given(st.lists(topics, max_size=12), st.lists(topics, max_size=6), filters)
def test_a_filter_finds_its_topics(added: list[str], removed: list[str], topic_filter: str) -> None:
    tree: TopicTree[int] = TopicTree()
    expected: dict[str, int] = {}
    for number, topic in enumerate(added):
        tree.set(topic, number)
        expected[topic] = number
    for topic in removed:
        assert tree.pop(topic) == expected.pop(topic, None)
    assert len(tree) == len(expected)
    assert dict(tree.match(topic_filter)) == {t: v for t, v in expected.items() if matches(topic_filter, t)}
    for topic, value in expected.items():
        assert tree.get(topic) == value
        tree.pop(topic)
    assert not tree._root.children, "nothing is left behind"


def test_depth_costs_no_stack() -> None:
    deep = "/".join(["a"] * 20_000)
    filter_tree: FilterTree[str] = FilterTree()
    filter_tree.add(deep, "x", 1)
    assert filter_tree.match(deep) == {"x": 1}
    filter_tree.remove(deep, "x")
    topic_tree: TopicTree[str] = TopicTree()
    topic_tree.set(deep, "x")
    assert list(topic_tree.match("#")) == [(deep, "x")]
    topic_tree.pop(deep)
