"""The publisher before a real Mosquitto: what can never be published, and what came too late to be."""

import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest
from sqlalchemy import text

from hub import commands, outbox
from hub.mqtt import HubClient
from hub.publisher import Publisher
from hub.settings import Settings
from hub_protocol.messages import Receipt

LARGEST = 2_000


def wait_until(condition: Callable[[], object], what: str, within_s: float = 30) -> None:
    end = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > end:
            pytest.fail(f"not within {within_s} s: {what}")
        time.sleep(0.02)


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    """A Mosquitto that hangs up on whoever sends a large packet."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number = probe.getsockname()[1]
    config = tmp_path / "mosquitto.conf"
    config.write_text(f"user root\nallow_anonymous true\nmax_packet_size {LARGEST}\nlistener {number} 127.0.0.1\n")
    broker = subprocess.Popen([shutil.which("mosquitto") or "/usr/sbin/mosquitto", "-c", str(config)])
    try:
        yield number
    finally:
        broker.kill()
        broker.wait()


@pytest.fixture
def publisher(database, port: int, tmp_path: Path) -> Iterator[Publisher]:
    settings = Settings(database_url=database.url, mqtt_port=port, hub_password_file=tmp_path / "none")
    client = HubClient(settings, "", ["marvain/v1/nothing"], lambda _: None, lambda _: None)
    publisher = Publisher(database, client)
    client.start()
    thread = threading.Thread(target=publisher.run, daemon=True)
    thread.start()
    yield publisher
    publisher.stop()
    thread.join(20)
    client.stop()


@pytest.fixture
def heard(port: int) -> Iterator[list[str]]:
    topics: list[str] = []
    ready = threading.Event()
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
    client.on_message = lambda _client, _data, message: topics.append(message.topic)
    client.on_subscribe = lambda *_: ready.set()
    client.on_connect = lambda client, *_: client.subscribe("marvain/v1/d/#", 1)

    def connect() -> bool:
        try:
            client.connect("127.0.0.1", port)
        except OSError:
            return False
        return True

    wait_until(connect, "mosquitto listens")
    client.loop_start()
    assert ready.wait(20)
    yield topics
    client.disconnect()
    client.loop_stop()


def test_a_message_that_the_broker_never_takes_is_parked_and_the_rest_goes_on(database, publisher, heard):
    with database.transaction() as work:
        for n in range(20):
            size = LARGEST if n == 7 else 1
            outbox.enqueue(work, f"d/porch/{n}", Receipt(["x" * size]))
    publisher.wake()
    wait_until(lambda: "marvain/v1/d/porch/19" in heard, "what stood behind it")
    assert list(dict.fromkeys(heard)) == [f"marvain/v1/d/porch/{n}" for n in range(20) if n != 7]
    with database.transaction() as work:
        [parked] = work.execute(text("SELECT topic, error FROM dead_letters"))
        assert parked.topic == "d/porch/7"
        assert outbox.claim(work, 99) == []
    publisher.wake()


def test_a_command_whose_time_has_passed_is_not_sent(database, session, device, say, publisher, heard):
    say(("porch/state", {"state": "online", "epoch": 1}))
    session.commit()
    with database.transaction() as work:
        late = commands.request(work, device, "blink", by="ann", now=datetime.now(UTC) - timedelta(minutes=5))
        good = commands.request(work, device, "ping", by="ann")
    publisher.wake()
    wait_until(lambda: f"marvain/v1/d/porch/cmd/ping/{good.command_id}" in heard, "the good one")
    assert not any("/blink/" in topic for topic in heard)
    with database.transaction() as work:
        assert commands.get(work, late.agent_id, late.command_id).sent_at is None
