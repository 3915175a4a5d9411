"""Mosquitto as our child: rendered in full, told differences, and nobody disturbed who is not concerned."""

import signal
import time
from pathlib import Path

import pytest
from sqlalchemy import text

from hub import devices
from hub.access import changes, live_sessions, projection
from hub.tables import Device

ROOT = "marvain/v1"


@pytest.fixture(scope="module")
def house(house_with, tmp_path_factory):
    """Mosquitto with a database of its own."""
    store = tmp_path_factory.mktemp("store")
    return house_with({"MARVAIN_BROKER": "mosquitto", "MARVAIN_BROKER_STORE": str(store)})


def row(session, handle):
    return devices.by_handle(session, handle)


def test_nobody_gets_in_without_the_right_secret_and_client_id(house):
    device, token = house.add()
    for name, client_id, secret in (
        (device.handle, device.handle, "wrong"),
        (device.handle, "another", token),
        ("nobody", "nobody", token),
        (None, device.handle, None),
    ):
        assert house.dial().connect(client_id, name, secret).body[1] == 5
    assert house.again(device.handle, token)


def test_a_device_is_held_to_its_grants(house):
    client, other = house.device(), house.device()
    hub = house.hub()
    assert hub.peer.subscribe((f"{ROOT}/d/+/event/+", 1)) == [1]
    client.peer.publish(other.topic("event", "door"), b"forged", 1)
    client.peer.publish(client.topic("event", "door"), b"own", 1)
    assert hub.peer.message().payload == b"own"
    assert client.peer.subscribe(
        (client.topic("cmd", "#"), 1),
        (other.topic("cmd", "#"), 1),
        ("#", 0),
        ("$SYS/#", 0),
        (f"$share/all/{other.topic('cmd', '#')}", 0),
        (f"$share/own/{client.topic('cmd', '#')}", 0),
    ) == [1, 128, 128, 128, 128, 0]
    assert "publish" in house.denial(client.handle, "only its own topics").action
    assert house.denial(client.handle, "may not subscribe to $SYS/#")
