"""Wills: published when a connection ends badly, and only then."""

import contextlib
from typing import Any

import pytest

from hub import devices

House = Any


@pytest.fixture
def watcher(house: House) -> Any:
    hub = house.hub()
    assert hub.peer.subscribe(("marvain/v1/d/+/state", 1)) == [1]
    # States that are retained from other tests.
    return hub.peer.drain()


def with_will(house: House, **more: Any) -> Any:
    device, token = house.add()
    topic = f"marvain/v1/d/{device.handle}/state"
    return house.again(device.handle, token, will=(topic, b"lost", 1, True), **more)


def test_not_after_disconnect(house: House, watcher: Any) -> None:
    with_will(house).peer.disconnect()
    assert watcher.silent()


@pytest.mark.parametrize("how", ["revoke", "rotate"])
def test_not_after_the_device_was_put_out(house: House, watcher: Any, how: str) -> None:
    client = with_will(house)
    with house.database.transaction() as session:
        device = devices.by_handle(session, client.handle)
        if how == "revoke":
            devices.revoke(session, device, by="ann", reason="stolen")
        else:
            devices.rotate(session, device, by="ann")
    assert client.peer.closed()
    assert watcher.silent()


def test_when_the_connection_drops(house: House, watcher: Any) -> None:
    client = with_will(house)
    client.peer.close()
    will = watcher.message(1.0)
    assert (will.topic, will.payload, will.qos, will.retain) == (client.topic("state"), b"lost", 1, False)
    late = house.hub(clean=True)
    assert late.peer.subscribe((client.topic("state"), 1)) == [1]
    kept = late.peer.message()
    assert (kept.payload, kept.retain) == (b"lost", True)


def test_when_the_peer_breaks_the_protocol(house: House, watcher: Any) -> None:
    client = with_will(house)
    client.peer.send(b"\xf0\x00")
    assert watcher.message(1.0).payload == b"lost"


def test_when_the_same_client_connects_again(house: House, watcher: Any) -> None:
    client = with_will(house)
    again = house.again(client.handle, client.token)
    again.peer.publish(client.topic("state"), b"online", 1)
    assert client.peer.closed()
    assert [watcher.message().payload for _ in range(2)] == [b"lost", b"online"]
    again.peer.ping()


def test_when_it_is_silent_for_longer_than_its_keep_alive(house: House, watcher: Any) -> None:
    client = with_will(house, keep_alive=1)
    assert watcher.silent(1.0)
    assert watcher.message(1.5).payload == b"lost"
    assert client.peer.closed()


def test_pings_keep_it_alive(house: House) -> None:
    client = with_will(house, keep_alive=1)
    for _ in range(5):
        assert client.peer.silent(0.5)
        client.peer.ping()


def test_not_when_the_device_may_no_longer_publish_there(house: House, watcher: Any) -> None:
    client = with_will(house)
    with house.database.transaction() as session:
        device = devices.by_handle(session, client.handle)
        device.scopes = ["events:write"]
        house.changes.announce(session, client.handle, "changed")
    client.peer.publish(client.topic("hello"), b"{}", 1)  # does not prove that the change has arrived, so:
    client.peer.subscribe((client.topic("denied"), 0))
    house.until_refused(client, client.topic("state"))
    client.peer.close()
    house.denial(client.handle, "its Will: ")
    client_states = []
    with contextlib.suppress(TimeoutError):
        while True:
            client_states.append(watcher.message(0.3).payload)
    assert b"lost" not in client_states
