"""Names and topics: what is not a level never becomes one; what is built can be taken apart."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hub_protocol.catalogue import BY_KIND, CATALOGUE, FEEDS, parse_topic, subscription
from hub_protocol.errors import BadName
from hub_protocol.topics import (
    HANDLE_PATTERN,
    LEVEL_PATTERN,
    Parsed,
    Topics,
    check_handle,
    check_level,
    check_root,
    handle_from_name,
)

levels = st.from_regex(LEVEL_PATTERN, fullmatch=True)
handles = st.from_regex(HANDLE_PATTERN, fullmatch=True)
roots = st.lists(levels, min_size=1, max_size=3).map("/".join)


@pytest.mark.parametrize(
    "bad",
    ["", "a/b", "a+", "#", "+", "$SYS", "a.b", "a b", "a\n", "\0", "é", "x" * 64, "a\u200b", "Ⅷ"],
)
def test_what_is_no_level(bad):
    with pytest.raises(BadName) as error:
        check_level(bad, "event type")
    assert error.value.field == "event type"
    for build in (
        lambda: Topics().event("porch", bad),
        lambda: Topics().command("porch", bad, "c1"),
        lambda: Topics().command("porch", "ping", bad),
        lambda: Topics().reply("porch", bad),
        lambda: Topics().feed("a1", bad),
        lambda: Topics().feed(bad, "presence"),
        lambda: Topics().state(bad),
        lambda: Topics(bad) if bad != "a/b" else check_level(bad),
    ):
        with pytest.raises(BadName):
            build()


@pytest.mark.parametrize("bad", ["", "-porch", "Porch", "front_door", "a/b", "porch\n", "x" * 64, "+"])
def test_what_is_no_handle(bad):
    with pytest.raises(BadName, match="handle"):
        check_handle(bad)


@pytest.mark.parametrize("bad", ["", "/", "a/", "/a", "a//b", "#", "a/+", "$SYS"])
def test_what_is_no_root(bad):
    with pytest.raises(BadName, match="root"):
        check_root(bad)


@pytest.mark.parametrize(
    "topic",
    [
        "",
        "marvain/v1",
        "marvain/v1/",
        "marvain/v1/d",
        "marvain/v1/d/porch",
        "marvain/v1/d/porch/",
        "marvain/v1/d/porch/unknown",
        "marvain/v1/d/porch/state/",
        "marvain/v1/d/porch/state/x",
        "marvain/v1/d/Porch/state",
        "marvain/v1/d//state",
        "marvain/v1/d/+/state",
        "marvain/v1/d/porch/event",
        "marvain/v1/d/porch/event/",
        "marvain/v1/d/porch/event/a.b",
        "marvain/v1/d/porch/event/a/b",
        "marvain/v1/d/porch/cmd/ping",
        "marvain/v1/d/porch/cmd/ping/c1/x",
        "marvain/v1/hub",
        "marvain/v1/hub/other",
        "marvain/v1/ui/a1",
        "marvain/v1/ui/a1/presence/x",
        "marvain/v1/ext/ha",
        "marvain/v1/ext/ha/porch",
        "marvain/v1/ext/ha/porch/ping/more",
        "marvain/v1/ext/HA/porch/ping",
        "marvain/v1/ext/ha/actions/propose/r1/more",
        "marvain/v1/out/ha/message",
        "marvain/v2/d/porch/state",
        "marvain/v1x/d/porch/state",
        "/marvain/v1/d/porch/state",
        "$SYS/marvain/v1/d/porch/state",
    ],
)
def test_what_is_no_topic_of_ours(topic):
    assert parse_topic(topic) is None


def test_bytes_of_every_topic():
    topics = Topics()
    built = {
        "state": topics.state("porch"),
        "hello": topics.hello("porch"),
        "heartbeat": topics.heartbeat("porch"),
        "remotes": topics.remotes("porch"),
        "event": topics.event("porch", "door_open"),
        "telemetry": topics.telemetry("porch", "temperature"),
        "cmd": topics.command("porch", "ping", "c1"),
        "reply": topics.reply("porch", "c1"),
        "config": topics.config("porch"),
        "config_reply": topics.config_reply("porch"),
        "request": topics.request("porch", "events", "r1"),
        "response": topics.response("porch", "r1"),
        "welcome": topics.welcome("porch"),
        "receipt": topics.receipt("porch"),
        "denied": topics.denied("porch"),
        "presence": topics.presence("porch"),
        "hub_status": topics.hub_status(),
        "feed": topics.feed("a1", "events"),
        "ext": topics.ext("ha", "porch", "ping"),
        "ext_actions": topics.ext_actions("ha", "propose", "r1"),
        "out_response": topics.out_response("ha", "r1"),
        "out_actions": topics.out_actions("ha"),
    }
    assert built == {
        "state": "marvain/v1/d/porch/state",
        "hello": "marvain/v1/d/porch/hello",
        "heartbeat": "marvain/v1/d/porch/heartbeat",
        "remotes": "marvain/v1/d/porch/remotes",
        "event": "marvain/v1/d/porch/event/door_open",
        "telemetry": "marvain/v1/d/porch/telemetry/temperature",
        "cmd": "marvain/v1/d/porch/cmd/ping/c1",
        "reply": "marvain/v1/d/porch/reply/c1",
        "config": "marvain/v1/d/porch/config",
        "config_reply": "marvain/v1/d/porch/config_reply",
        "request": "marvain/v1/d/porch/request/events/r1",
        "response": "marvain/v1/d/porch/response/r1",
        "welcome": "marvain/v1/d/porch/welcome",
        "receipt": "marvain/v1/d/porch/receipt",
        "denied": "marvain/v1/d/porch/denied",
        "presence": "marvain/v1/d/porch/presence",
        "hub_status": "marvain/v1/hub/status",
        "feed": "marvain/v1/ui/a1/events",
        "ext": "marvain/v1/ext/ha/porch/ping",
        "ext_actions": "marvain/v1/ext/ha/actions/propose/r1",
        "out_response": "marvain/v1/out/ha/response/r1",
        "out_actions": "marvain/v1/out/ha/actions",
    }
    assert set(built) == set(BY_KIND)
    for kind, topic in built.items():
        parsed = parse_topic(topic)
        assert parsed is not None
        assert parsed.kind == kind
        assert matches(subscription(kind), topic)
        assert [other for other in BY_KIND if matches(subscription(other), topic)] == [kind]


def matches(topic_filter: str, topic: str) -> bool:
    asked, given_levels = topic_filter.split("/"), topic.split("/")
    return len(asked) == len(given_levels) and all(
        one in ("+", other) for one, other in zip(asked, given_levels, strict=True)
    )


def test_subscriptions_are_exact():
    assert subscription("state") == "marvain/v1/d/+/state"
    assert subscription("cmd", "a/b") == "a/b/d/+/cmd/+/+"
    assert subscription("feed") == "marvain/v1/ui/+/+"
    assert Topics().command_filter("porch") == "marvain/v1/d/porch/cmd/+/+"


@given(roots, handles, levels, levels)
def test_what_is_built_can_be_taken_apart(root, handle, one, two):
    topics = Topics(root)
    assert parse_topic(topics.state(handle), root) == Parsed("state", handle)
    assert parse_topic(topics.event(handle, one), root) == Parsed("event", handle, (one,))
    assert parse_topic(topics.command(handle, one, two), root) == Parsed("cmd", handle, (one, two))
    assert parse_topic(topics.feed(one, two), root) == Parsed("feed", "", (one, two))
    assert parse_topic(topics.hub_status(), root) == Parsed("hub_status", "")
    assert topics.state(handle) == f"{root}/{Topics.below_root().state(handle)}"


@given(st.text(max_size=120) | st.lists(st.text(max_size=8), max_size=9).map("/".join))
def test_any_text_is_a_topic_of_ours_or_none(text):
    for topic in (text, f"marvain/v1/{text}", f"marvain/v1/d/porch/{text}", f"marvain/v1/d/{text}/state"):
        parsed = parse_topic(topic)
        if parsed is not None:
            assert parsed.kind in BY_KIND
            assert all(check_level(level) for level in parsed.levels)
            assert not parsed.handle or check_handle(parsed.handle)


@given(st.text(max_size=200))
def test_a_proposed_handle_is_a_handle_or_nothing(name):
    handle = handle_from_name(name)
    assert handle == "" or check_handle(handle) == handle


def test_proposed_handles():
    assert handle_from_name("Front door, 2nd floor") == "front-door-2nd-floor"
    assert handle_from_name("  ÄÖ ") == ""
    assert handle_from_name("x" * 62 + " yz") == "x" * 62


def test_the_catalogue_is_consistent():
    kinds = [entry.kind for entry in CATALOGUE]
    assert len(set(kinds)) == len(kinds)
    assert len({entry.template for entry in CATALOGUE}) == len(kinds)
    assert not BY_KIND["cmd"].retain
    assert all(entry.qos == 1 for entry in CATALOGUE if entry.retain)
    assert all(entry.about.endswith(".") for entry in CATALOGUE)
    assert all(check_level(feed) for feed in FEEDS)
