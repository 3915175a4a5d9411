"""How long a command takes to come back, beside a bare MQTT ping-pong on the same broker in the same run.

    python bench/commands.py [--broker embedded|mosquitto] [--count 500]

A command: from the beginning of the transaction that asks for `ping` until the commit that holds the row `succeeded`,
with the hub as a process of its own and a device that answers at once. Bare: one client publishes, another answers, at
QoS 1. Both take turns, so that what else the machine does meets both alike.
"""

import argparse
import contextlib
import json
import math
import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import paho.mqtt.client as paho
import report
from live_home import HUB_PASSWORD, REPOSITORY, SCOPES, running
from scratch import scratch

from hub import commands, device_views, devices, outbox
from hub.access import credentials, roles
from hub.access.roles import GrantDraft, RoleDraft
from hub.database import Database
from hub.tables import Agent, Device

ROOT = "marvain/v1"
WARM_UP = 50
WITHIN_S = 10.0


def furnish(database: Database) -> tuple[uuid.UUID, dict[str, str]]:
    """A device to be pinged, and two that may speak to each other; the agent and the tokens by handle."""
    with database.transaction() as session:
        credentials.set_hub_password(session, HUB_PASSWORD)
        agent = Agent(name="Home")
        session.add(agent)
        session.flush()
        added = {
            name: devices.add(session, agent.agent_id, name, scopes=SCOPES, by="bench", handle=name)
            for name in ("porch", "left", "right")
        }
        for name, says, hears in (("left", "ping", "pong"), ("right", "pong", "ping")):
            grants = (GrantDraft("publish", f"x/{{agent}}/{says}"), GrantDraft("subscribe", f"x/{{agent}}/{hears}"))
            draft = RoleDraft(name, "", grants, (added[name].device.device_id,))
            roles.create(session, agent.agent_id, draft, by="bench", open_topics=())
        return agent.agent_id, {name: new.token for name, new in added.items()}


def connect(port: int, name: str, token: str, topic: str, on_message: Any) -> paho.Client:
    """A client that is subscribed to one topic."""
    ready = threading.Event()
    client = paho.Client(paho.CallbackAPIVersion.VERSION2, name, protocol=paho.MQTTv311)
    client.username_pw_set(name, token)
    client.on_message = on_message
    client.on_subscribe = lambda *_: ready.set()
    client.on_connect = lambda *_: client.subscribe(topic, 1)
    client.on_socket_open = lambda _c, _d, opened: opened.setsockopt(6, 1, 1)  # TCP_NODELAY, as ours have it
    client.connect("127.0.0.1", port)
    client.loop_start()
    assert ready.wait(WITHIN_S)
    return client


@contextlib.contextmanager
def hub(database_url: str, port: int, folder: Path) -> Iterator[None]:
    """The hub as the product starts it."""
    log, password = folder / "hub.log", folder / "hub_password"
    environment = {
        **os.environ,
        "MARVAIN_DATABASE_URL": database_url,
        "MARVAIN_MQTT_PORT": str(port),
        "MARVAIN_HUB_PASSWORD_FILE": str(password),
        "MARVAIN_LOG_FORMAT": "json",
    }
    with log.open("wb") as out:
        process = subprocess.Popen([sys.executable, "-m", "hub"], cwd=REPOSITORY, env=environment, stderr=out)
    try:
        deadline = time.monotonic() + 60
        while b"hub.ready" not in log.read_bytes():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait(30)


def measure(database: Database, port: int, count: int) -> tuple[list[float], list[float]]:
    """Milliseconds of commands and of bare ping-pongs, taken in turn."""
    agent_id, tokens = furnish(database)
    epoch = int(time.time())
    base = f"{ROOT}/d/porch"

    def obey(client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        reply = {"status": "succeeded", "epoch": epoch, "result": {"pong": True}}
        client.publish(f"{base}/reply/{message.topic.rpartition('/')[2]}", json.dumps(reply), 1)

    came = threading.Event()
    x = f"{ROOT}/x/{agent_id}"
    porch = connect(port, "porch", tokens["porch"], f"{base}/cmd/#", obey)
    right = connect(
        port, "right", tokens["right"], f"{x}/ping", lambda client, _d, m: client.publish(f"{x}/pong", m.payload, 1)
    )
    left = connect(port, "left", tokens["left"], f"{x}/pong", lambda *_: came.set())
    porch.publish(f"{base}/hello", json.dumps({"epoch": epoch, "heartbeat_s": 3600}), 1).wait_for_publish(WITHIN_S)
    with database.transaction() as session:
        device = devices.by_handle(session, "porch")
    wait_online(database, device)

    asked, bare = [], []
    with database.listen(outbox.CHANNEL) as listener:
        for number in range(count + WARM_UP):
            took = command(database, device, listener)
            came.clear()
            began = time.perf_counter()
            left.publish(f"{x}/ping", str(number), 1)
            assert came.wait(WITHIN_S)
            if number >= WARM_UP:
                asked.append(took)
                bare.append(1e3 * (time.perf_counter() - began))
    for client in (porch, left, right):
        client.disconnect()
        client.loop_stop()
    return asked, bare


def wait_online(database: Database, device: Device) -> None:
    deadline = time.monotonic() + WITHIN_S
    while True:
        with database.transaction() as session:
            if device_views.view(session, device.agent_id, device.device_id).presence == "online":
                return
        assert time.monotonic() < deadline
        time.sleep(0.02)


def command(database: Database, device: Device, listener: Any) -> float:
    """Milliseconds of one command; the commit that ends it notifies, so that looking costs nothing meanwhile."""
    began = time.perf_counter()
    with database.transaction() as session:
        asked = commands.request(session, device, "ping", {}, by="bench")
    while True:
        listener.wait(WITHIN_S)
        with database.transaction() as session:
            view = commands.get(session, device.agent_id, asked.command_id)
        if view.status == "succeeded":
            return 1e3 * (time.perf_counter() - began)
        assert time.perf_counter() - began < WITHIN_S, view.status


def run(broker: str, count: int) -> tuple[list[float], list[float]]:
    """Everything for one broker, from an empty database on."""
    with scratch() as (folder, url, database):
        with database.transaction() as session:
            credentials.set_hub_password(session, HUB_PASSWORD)
        with running(broker, url, folder) as (port, _), hub(url, port, folder):
            return measure(database, port, count)


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else math.nan


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--broker", choices=["embedded", "mosquitto"])
    parser.add_argument("--count", type=int, default=500)
    # `make bench ARGS=...` gives the same arguments to all; what is not ours is not for us.
    options, _ = parser.parse_known_args()
    rows = []
    for broker in [options.broker] if options.broker else ["embedded", "mosquitto"]:
        asked, bare = run(broker, options.count)
        rows.append(
            {
                "broker": broker,
                "commands": len(asked),
                "command p50 ms": percentile(asked, 0.5),
                "command p99 ms": percentile(asked, 0.99),
                "bare p50 ms": percentile(bare, 0.5),
                "bare p99 ms": percentile(bare, 0.99),
                "command / bare, p50": percentile(asked, 0.5) / percentile(bare, 0.5),
            }
        )
    report.write("commands", "Command round trip beside a bare MQTT ping-pong", rows)


if __name__ == "__main__":
    main()
