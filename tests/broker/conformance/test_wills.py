"""Wills: published when a connection ends without DISCONNECT, once, as they were asked for."""

from typing import Any

import pytest

Venue = Any


def with_will(venue: Venue, *, qos: int = 1, retain: bool = False, **more: Any) -> Any:
    user = venue.user()
    return venue.client(user, will=(f"marvain/v1/d/{user[0]}/state", b"gone", qos, retain), **more)


@pytest.mark.statement("MQTT-3.1.2-8")
@pytest.mark.parametrize("how", ["drop", "malformed", "second CONNECT", "QoS 3", "take-over"])
def test_a_will_is_published(venue: Venue, how: str) -> None:
    hub, client = venue.hub(), with_will(venue)
    hub.subscribe((client.topic("state"), 1))
    if how == "drop":
        client.drop()
    elif how == "take-over":
        venue.again(client)
    else:
        client.send(
            {
                "malformed": b"\x82\1x",
                "second CONNECT": venue.wire.connect(client.handle, client.handle, client.secret),
                "QoS 3": b"\x36\x06\0\1a\0\1x",
            }[how]
        )
        assert client.refused()
        (got,) = hub.messages()
        hub.early.append(got)
    got = hub.message()
    assert (got.topic, got.payload, got.qos, got.retain) == (client.topic("state"), b"gone", 1, False)


@pytest.mark.statement("MQTT-3.1.2-9")
@pytest.mark.parametrize("qos", [0, 1, 2])
def test_a_will_has_the_qos_that_was_asked_for(venue: Venue, qos: int) -> None:
    hub, client = venue.hub(), with_will(venue, qos=qos)
    hub.subscribe((client.topic("state"), 2))
    client.drop()
    got = hub.message()
    assert (got.qos, got.payload) == (qos, b"gone")


@pytest.mark.statement("MQTT-3.1.2-10", "MQTT-3.14.4-3")
@pytest.mark.parametrize("clean", [True, False])
def test_disconnect_takes_the_will_away(venue: Venue, *, clean: bool) -> None:
    hub, client = venue.hub(), with_will(venue, clean=clean)
    hub.subscribe((client.topic("state"), 1))
    client.disconnect()
    assert hub.collect() == []
    # Nor is it published for the next connection of the same session.
    client = venue.again(client, clean=clean)
    client.drop()
    venue.again(client)
    assert hub.collect() == []


@pytest.mark.statement("MQTT-3.1.2-10")
def test_a_will_is_published_once(venue: Venue) -> None:
    hub, client = venue.hub(), with_will(venue, clean=False)
    hub.subscribe((client.topic("state"), 1))
    client.drop()
    hub.finish(hub.message())
    client = venue.again(client, clean=False)
    client.drop()
    venue.again(client)
    assert hub.collect() == []


@pytest.mark.statement("MQTT-3.1.2-12")
def test_nothing_is_published_without_a_will(venue: Venue) -> None:
    hub, client = venue.hub(), venue.client()
    hub.subscribe((client.topic("#"), 1))
    client.drop()
    venue.again(client)
    assert hub.collect() == []


@pytest.mark.statement("MQTT-3.1.2-16", "MQTT-3.1.2-17")
@pytest.mark.parametrize("retain", [False, True])
def test_a_will_is_retained_when_it_asks_for_that(venue: Venue, *, retain: bool) -> None:
    hub, client = venue.hub(), with_will(venue, retain=retain)
    hub.subscribe((client.topic("state"), 1))
    client.drop()
    got = hub.message()
    assert not got.retain
    hub.finish(got)
    hub.unsubscribe(client.topic("state"))
    hub.subscribe((client.topic("state"), 1))
    assert [(got.payload, got.retain) for got in hub.messages()] == ([(b"gone", True)] if retain else [])
