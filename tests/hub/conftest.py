"""Factories for the domain: an agent, devices of it, and messages as the broker would hand them over."""

import json
import shutil
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest
from ports import free_port
from sqlmodel import Session

from hub import devices
from hub.inbox import router
from hub.inbox.envelope import Incoming, Outcome
from hub.tables import Agent, Device, Space

ROOT = "marvain/v1"


@pytest.fixture
def agent(session: Session) -> Agent:
    agent = Agent(name="Home")
    session.add(agent)
    session.flush()
    return agent


@pytest.fixture
def space(session: Session, agent: Agent) -> Space:
    space = Space(agent_id=agent.agent_id, name="Hall")
    session.add(space)
    session.flush()
    return space


@pytest.fixture
def make_device(session: Session, agent: Agent) -> Callable[..., Device]:
    def make(name: str = "Porch", **facts) -> Device:
        facts = {"scopes": ["*"], "by": "ann@example.org"} | facts
        return devices.add(session, facts.pop("agent_id", agent.agent_id), name, **facts).device

    return make


@pytest.fixture
def device(make_device: Callable[..., Device]) -> Device:
    return make_device()


@pytest.fixture
def say(session: Session) -> Callable[..., Outcome]:
    """Hand the hub one batch: each message is (topic below d/, payload as dict or bytes) and maybe more facts."""

    def say(*messages, at: datetime | None = None) -> Outcome:
        batch = []
        for topic, payload, *more in messages:
            facts = more[0] if more else {}
            encoded = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
            batch.append(Incoming(f"{ROOT}/d/{topic}", encoded, facts.get("retained", False), at or datetime.now(UTC)))
        return router.process(session, batch, ROOT)

    return say


@pytest.fixture
def mosquitto_port(tmp_path: Path) -> Iterator[int]:
    """A Mosquitto open to everybody, that hangs up on whoever sends a packet of more than 2,000 bytes."""
    port = free_port()
    config = tmp_path / "mosquitto.conf"
    config.write_text(f"user root\nallow_anonymous true\nmax_packet_size 2000\nlistener {port} 127.0.0.1\n")
    broker = subprocess.Popen([shutil.which("mosquitto") or "/usr/sbin/mosquitto", "-c", str(config)])
    end = time.monotonic() + 20
    while True:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                break
        assert time.monotonic() < end, "mosquitto listens"
        time.sleep(0.02)
    yield port
    broker.kill()
    broker.wait()


@pytest.fixture
def heard(mosquitto_port: int) -> Iterator[list[tuple[str, bytes]]]:
    """Whatever passes through that broker: topics with their payloads, as they come."""
    messages: list[tuple[str, bytes]] = []
    ready = threading.Event()
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
    client.on_message = lambda _client, _data, message: messages.append((message.topic, message.payload))
    client.on_subscribe = lambda *_: ready.set()
    client.connect("127.0.0.1", mosquitto_port)
    client.subscribe([("marvain/v1/d/#", 1), ("marvain/v1/ui/#", 1)])
    client.loop_start()
    assert ready.wait(20)
    yield messages
    client.disconnect()
    client.loop_stop()


def event(epoch: int = 1, **facts) -> dict:
    return {"id": uuid.uuid4().hex, "epoch": epoch, "payload": {"angle": 12}} | facts
