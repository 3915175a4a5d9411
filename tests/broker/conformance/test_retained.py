"""Retained messages: kept, replaced, deleted, and shown to whoever subscribes later."""

from typing import Any

import pytest

Venue = Any


@pytest.mark.statement("MQTT-3.3.1-5", "MQTT-3.3.1-6", "MQTT-3.3.1-8")
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_the_last_one_is_kept_for_later_subscribers(venue: Venue, qos: int) -> None:
    hub, client = venue.hub(), venue.client()
    for payload in (b"first", b"last"):
        hub.publish(client.topic("cmd", "x"), payload, qos, retain=True)
    client.subscribe((client.topic("cmd", "+"), 2))
    assert [(got.payload, got.qos, got.retain, got.dup) for got in client.messages()] == [(b"last", qos, True, False)]


@pytest.mark.statement("MQTT-3.3.1-6")
def test_each_topic_that_matches_has_its_own(venue: Venue) -> None:
    hub, client = venue.hub(), venue.client()
    for name in ("a", "b", "c"):
        hub.publish(client.topic("cmd", name), name.encode(), 1, retain=True)
    hub.publish(client.topic("cmd", "a", "deep"), b"deep", 1, retain=True)
    client.subscribe((client.topic("cmd", "+"), 1))
    assert sorted(got.payload for got in client.messages()) == [b"a", b"b", b"c"]
    client.subscribe((client.topic("cmd", "a", "#"), 1))
    assert sorted(got.payload for got in client.messages()) == [b"a", b"deep"]


@pytest.mark.statement("MQTT-3.3.1-7")
def test_one_of_qos_0_takes_the_place_of_the_last(venue: Venue) -> None:
    hub, client = venue.hub(), venue.client()
    hub.publish(client.topic("cmd", "x"), b"first", 2, retain=True)
    hub.publish(client.topic("cmd", "x"), b"last", 0, retain=True)
    client.subscribe((client.topic("cmd", "x"), 2))
    got = [packet.payload for packet in client.messages()]
    assert b"first" not in got
    # It should be kept, and may be thrown away at any time.
    assert got in ([b"last"], [])


@pytest.mark.statement("MQTT-3.3.1-9")
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_subscriber_that_was_there_gets_it_as_an_ordinary_message(venue: Venue, qos: int) -> None:
    hub, client = venue.hub(), venue.client()
    client.subscribe((client.topic("cmd", "#"), 2))
    hub.publish(client.topic("cmd", "x"), b"x", qos, retain=True)
    assert [(got.qos, got.retain) for got in client.messages()] == [(qos, False)]


@pytest.mark.statement("MQTT-3.3.1-10", "MQTT-3.3.1-11")
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_an_empty_one_is_passed_on_and_deletes(venue: Venue, qos: int) -> None:
    hub, client, topic = venue.hub(), venue.client(), ""
    topic = client.topic("cmd", "x")
    hub.publish(topic, b"kept", 1, retain=True)
    client.subscribe((client.topic("cmd", "#"), 2))
    client.messages()
    hub.publish(topic, b"", qos, retain=True)
    assert [(got.payload, got.qos, got.retain) for got in client.messages()] == [(b"", qos, False)]
    client.subscribe((topic, 2))
    assert client.collect() == []


@pytest.mark.statement("MQTT-3.3.1-12")
def test_a_message_that_is_not_retained_changes_nothing(venue: Venue) -> None:
    hub, client = venue.hub(), venue.client()
    topic, other = client.topic("cmd", "x"), client.topic("cmd", "y")
    hub.publish(topic, b"kept", 1, retain=True)
    hub.publish(topic, b"passing", 1)
    hub.publish(topic, b"", 1)
    hub.publish(other, b"passing", 1)
    client.subscribe((client.topic("cmd", "#"), 1))
    assert [got.payload for got in client.messages()] == [b"kept"]
