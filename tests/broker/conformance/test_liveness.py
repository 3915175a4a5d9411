"""Keep-alive, PINGREQ and DISCONNECT."""

import time
from typing import Any

import pytest

Venue = Any


@pytest.mark.statement("MQTT-3.12.4-1")
def test_a_ping_is_answered(venue: Venue) -> None:
    client = venue.client()
    client.send(b"\xc0\0" * 3)
    got = [client.peer.receive() for _ in range(3)]
    assert [(packet.kind, packet.flags, packet.body) for packet in got] == [(13, 0, b"")] * 3


@pytest.mark.statement("MQTT-3.1.2-24", "MQTT-3.1.2-8")
def test_a_silent_client_is_dropped_after_one_and_a_half_times_its_keep_alive(venue: Venue) -> None:
    hub, user = venue.hub(), venue.user()
    topic = f"marvain/v1/d/{user[0]}/state"
    hub.subscribe((topic, 1))
    silent = venue.client(user, keep_alive=1, will=(topic, b"gone", 1, False))
    heard = time.monotonic()
    pinging, publishing = venue.client(keep_alive=1), venue.client(keep_alive=1)
    timeless = venue.client(keep_alive=0)
    ended = None
    # The others are watched for longer than they could be silent; Mosquitto looks at its clock every 5 seconds.
    while ended is None or time.monotonic() - heard < 2.2:
        assert time.monotonic() - heard < (3 if venue.name == "ours" else 9)
        pinging.collect()
        publishing.send(venue.wire.publish(publishing.topic("event", "x"), b"x"))
        if ended is None and silent.peer.closed(0.3):
            ended = time.monotonic() - heard
        elif ended is not None:
            pinging.peer.silent(0.3)
    # Mosquitto counts whole seconds.
    assert ended >= (1.4 if venue.name == "ours" else 1.0)
    assert hub.message().payload == b"gone"
    assert pinging.collect() == publishing.collect() == timeless.collect() == []


@pytest.mark.statement("MQTT-3.14.4-3", "MQTT-3.1.2-10")
def test_after_disconnect_the_broker_closes_and_forgets_the_will(venue: Venue) -> None:
    hub, user = venue.hub(), venue.user()
    topic = f"marvain/v1/d/{user[0]}/state"
    hub.subscribe((topic, 1))
    client = venue.client(user, will=(topic, b"gone", 1, True))
    # What comes behind it is no longer the client's.
    client.send(b"\xe0\0" + venue.wire.publish(topic, b"late", 1))
    assert client.peer.closed()
    assert hub.collect() == []
