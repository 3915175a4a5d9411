"""Samples for open pages: none for devices that nobody looks at, few messages for many samples, over HTTP as well."""

import json
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from hub import devices
from hub.database import Database
from hub.mqtt import HubClient
from hub.settings import Settings
from hub.tables import Agent, Device
from hub.telemetry import live, watches
from hub.telemetry.live import LiveSamples
from hub.telemetry.samples import NewSamples

WITHIN_S = 20


@pytest.fixture
def two(database: Database) -> tuple[Device, Device]:
    """One that is looked at, and one that is not."""
    with database.transaction() as session:
        agent = Agent(name="Home")
        session.add(agent)
        session.flush()
        porch = devices.add(session, agent.agent_id, "Porch", scopes=["*"], by="a test").device
        gate = devices.add(session, agent.agent_id, "Gate", scopes=["*"], by="a test").device
        watches.watch(session, agent.agent_id, porch.device_id, datetime.now(UTC))
    return porch, gate


@pytest.fixture
def live_samples(database: Database, database_url: str, mosquitto_port: int) -> Iterator[LiveSamples]:
    settings = Settings(database_url=database_url, mqtt_port=mosquitto_port)
    client = HubClient(settings, "none", ["marvain/v1/d/none/state"], lambda _: None, lambda _: None)
    client.start()
    assert client.wait_connected(WITHIN_S)
    part = LiveSamples(database, client)
    thread = threading.Thread(target=part.run)
    thread.start()
    yield part
    part.stop()
    thread.join(10)
    client.stop()


def told(heard: list[tuple[str, bytes]]) -> list[dict]:
    return [json.loads(payload) for topic, payload in list(heard) if topic.endswith("/telemetry")]


def new(device: Device, *values: float, at: datetime | None = None) -> NewSamples:
    first = at or datetime.now(UTC)
    pairs = [(first + timedelta(milliseconds=number), value) for number, value in enumerate(values)]
    return NewSamples(device.device_id, device.agent_id, "temperature", pairs)


def wait_until(condition) -> None:
    end = time.monotonic() + WITHIN_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_who_looks_is_told_and_nothing_is_said_of_others(two, live_samples, heard) -> None:
    porch, gate = two

    def offered() -> bool:
        live_samples.take([new(gate, 1.0), new(porch, 2.0)])
        return bool(told(heard))

    wait_until(offered)
    items = [item for message in told(heard) for item in message["items"]]
    assert {item["device_id"] for item in items} == {str(porch.device_id)}
    assert told(heard)[0]["type"] == "telemetry.samples"
    assert told(heard)[0]["agent_id"] == str(porch.agent_id)


def test_many_samples_are_few_messages_and_the_newest_arrives(two, live_samples, heard) -> None:
    porch, _ = two
    began = time.monotonic()
    wait_until(lambda: live_samples.take([new(porch, 0.0)]) or told(heard))
    for number in range(500):
        live_samples.take([new(porch, float(number), -1.0, float(number))])
        time.sleep(0.001)
    live_samples.take([new(porch, 77.0, at=datetime.now(UTC) + timedelta(seconds=1))])
    wait_until(lambda: any(item["value"] == 77.0 for message in told(heard) for item in message["items"]))
    messages = told(heard)
    assert len(messages) <= 4 * (time.monotonic() - began) + 1
    last = messages[-1]["items"][0]
    assert (last["stream"], last["min"] <= last["value"] <= last["max"]) == ("temperature", True)


def test_samples_over_http_are_told_by_way_of_the_database(database, two, live_samples, heard) -> None:
    porch, gate = two

    def announced() -> bool:
        with database.transaction() as session:
            live.announce(session, new(porch, 5.0), datetime.now(UTC))
            live.announce(session, new(gate, 6.0), datetime.now(UTC))
        return bool(told(heard))

    wait_until(announced)
    assert {item["value"] for message in told(heard) for item in message["items"]} == {5.0}


def test_a_look_lasts_a_minute(database, two) -> None:
    porch, _ = two
    now = datetime.now(UTC)
    with database.transaction() as session:
        assert watches.watched(session, now) == {porch.device_id}
        assert watches.watched(session, now + watches.LASTS + timedelta(seconds=1)) == set()
        watches.forget(session, now + timedelta(minutes=2))
        assert not watches.is_watched(session, porch.device_id, now)
