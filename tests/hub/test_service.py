"""The hub service as a process beside a real Mosquitto and a real Postgres: killed, cut off, and nothing lost."""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import psycopg
import pytest
from ports import free_port
from sqlalchemy import text

from hub import commands, device_views, devices
from hub.actions import deciding, proposing, records
from hub.actions.proposing import Proposal, Proposer
from hub.audit.actors import Actor
from hub.database import libpq_url
from hub.tables import Agent

ROOT = "marvain/v1"
REPOSITORY = Path(__file__).parents[2]
PATIENCE_S = 20.0


def wait_until(condition: Callable[[], Any], what: str, within_s: float = PATIENCE_S) -> Any:
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.01)
    return pytest.fail(f"not within {within_s} s: {what}")


class Process:
    """A service process with its log in a file."""

    def __init__(self, argv: list[str], log: Path, environment: dict[str, str] | None = None) -> None:
        self._argv, self._environment, self.log_path = argv, environment, log
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(self._argv, cwd=REPOSITORY, env=self._environment, stdout=log, stderr=log)

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(20)

    def log(self) -> str:
        return self.log_path.read_text()


@pytest.fixture
def mosquitto(tmp_path: Path) -> Iterator[tuple[Process, int]]:
    """Mosquitto without memory across restarts, open to those who know a password."""
    port = free_port()
    folder = tmp_path / "mosquitto"
    folder.mkdir()
    passwords = folder / "passwords"
    passwords.touch()
    for name in ("hub_service", "porch", "watcher"):
        subprocess.run(["mosquitto_passwd", "-b", passwords, name, "secret"], check=True, capture_output=True)
    config = folder / "mosquitto.conf"
    config.write_text(
        f"user root\nallow_anonymous false\npassword_file {passwords}\nmax_queued_messages 0\n"
        f"listener {port} 127.0.0.1\n"
    )
    program = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
    broker = Process([program, "-c", str(config)], folder / "log")
    broker.start()
    wait_until(lambda: _answers(port), "mosquitto listens")
    yield broker, port
    if broker.process.poll() is None:
        broker.stop(signal.SIGKILL)


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def hub(database_url: str, mosquitto, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Process]:
    password = tmp_path / "hub-password"
    password.write_text("secret\n")
    environment = os.environ | {
        "MARVAIN_DATABASE_URL": database_url,
        "MARVAIN_MQTT_PORT": str(mosquitto[1]),
        "MARVAIN_HUB_PASSWORD_FILE": str(password),
        "MARVAIN_LOG_FORMAT": "json",
        **getattr(request, "param", {}),
    }
    hub = Process([sys.executable, "-m", "hub"], tmp_path / "hub.log", environment)
    hub.start()
    wait_until(lambda: "hub.ready" in hub.log(), "the hub is ready")
    yield hub
    if hub.process.poll() is None:
        assert hub.stop() == 0


class Peer:
    """A client that keeps all it hears; `clean` False to hear what came while it was away."""

    def __init__(self, name: str, port: int, *filters: str, will: dict | None = None) -> None:
        self.heard: list[tuple[str, Any, bool]] = []
        self.client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=name)
        self.client.username_pw_set(name, "secret")
        self.client.reconnect_delay_set(1, 1)
        if will:
            self.client.will_set(f"{ROOT}/d/{name}/state", json.dumps(will), qos=1, retain=True)
        self.client.on_message = self._message
        ready = threading.Event()
        self.client.on_subscribe = lambda *_: ready.set()
        self.client.on_connect = lambda client, *_: client.subscribe([(one, 1) for one in filters])
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        assert ready.wait(PATIENCE_S)

    def _message(self, _client, _data, message) -> None:
        self.heard.append((message.topic, json.loads(message.payload or b"null"), message.retain))

    def say(self, kind: str, payload: dict, *, qos: int = 1, retain: bool = False) -> None:
        self.client.publish(f"{ROOT}/d/porch/{kind}", json.dumps(payload), qos, retain).wait_for_publish(PATIENCE_S)

    def of(self, end: str) -> list[Any]:
        return [payload for topic, payload, _ in list(self.heard) if topic.endswith(end)]

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()


@pytest.fixture
def porch(mosquitto, hub, registered) -> Iterator[Peer]:
    peer = Peer("porch", mosquitto[1], f"{ROOT}/d/porch/#", will={"state": "lost", "epoch": 1})
    yield peer
    peer.close()


@pytest.fixture
def registered(database) -> None:
    with database.transaction() as work:
        agent = Agent(name="Home")
        work.add(agent)
        work.flush()
        devices.add(work, agent.agent_id, "Porch", scopes=["*"], by="ann")


def presence(database) -> tuple[str, str]:
    with database.transaction() as work:
        device = devices.by_handle(work, "porch")
        seen = device_views.view(work, device.agent_id, device.device_id)
        return seen.presence, seen.why


def count(database, table: str = "events") -> int:
    with database.transaction() as work:
        return work.execute(text(f"SELECT count(*) FROM {table}")).scalar_one()


@pytest.mark.parametrize(
    "hub",
    [
        {
            "MARVAIN_DEVICE_MESSAGES_PER_SECOND": "20",
            "MARVAIN_DEVICE_MESSAGES_AT_ONCE": "100",
            "MARVAIN_DEVICE_CALM_S": "2",
        }
    ],
    indirect=True,
)
def test_who_floods_is_set_aside_with_a_reason_and_nobody_else_waits(database, mosquitto, hub, porch):
    with database.transaction() as work:
        agent_id = devices.by_handle(work, "porch").agent_id
        devices.add(work, agent_id, "Watcher", scopes=["*"], by="ann")
    calm = Peer("watcher", mosquitto[1], f"{ROOT}/d/watcher/#")
    porch.say("state", {"state": "online", "epoch": 1}, retain=True)
    for n in range(2_000):
        porch.client.publish(f"{ROOT}/d/porch/event/tick", json.dumps({"id": f"p{n}", "epoch": 1, "payload": {}}), 1)
    many = "quarantines WHERE reason = 'flood' AND set_aside > 500"
    wait_until(lambda: count(database, many) == 1, "the flood is set aside and counted")
    calm.client.publish(f"{ROOT}/d/watcher/event/tick", json.dumps({"id": "w", "epoch": 1, "payload": {}}), 1)
    wait_until(lambda: calm.of("/receipt") == [{"ids": ["w"]}], "the other is stored meanwhile")
    told = wait_until(lambda: porch.of("/denied"), "the one that floods is told")[-1]
    assert told["reason"].startswith("in quarantine")
    assert "more than 20 messages a second" in told["reason"]
    assert told["retry_after_s"] > 0
    assert presence(database)[0] == "online"
    stored = count(database)
    assert 100 <= stored < 1_000
    # It is let go when it has been calm; what it says then counts again.
    wait_until(lambda: count(database, "quarantines") == 0, "it is let go")
    porch.say("event/tick", {"id": "after", "epoch": 1, "payload": {}})
    wait_until(lambda: count(database) == stored + 1, "it is heard again")
    calm.close()


def test_without_its_settings_it_says_what_is_missing(tmp_path):
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MARVAIN_")}
    run = subprocess.run(
        [sys.executable, "-m", "hub"], cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 78
    assert "MARVAIN_DATABASE_URL" in run.stderr
    assert "Traceback" not in run.stderr


def test_without_a_schema_it_says_what_to_do(empty_database_url, tmp_path):
    (tmp_path / "password").write_text("x")
    environment = os.environ | {
        "MARVAIN_DATABASE_URL": empty_database_url,
        "MARVAIN_HUB_PASSWORD_FILE": str(tmp_path / "password"),
    }
    run = subprocess.run(
        [sys.executable, "-m", "hub"], cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False
    )
    assert run.returncode == 78
    assert "marvain migrate" in run.stderr
    assert "Traceback" not in run.stderr


def test_hello_is_welcomed_and_the_device_is_online_until_its_will(porch, mosquitto, database):
    porch.say("state", {"state": "online", "epoch": 1}, retain=True)
    porch.say("hello", {"epoch": 1, "heartbeat_s": 20})
    [welcome] = wait_until(lambda: porch.of("/welcome"), "welcome")
    assert welcome["heartbeat_s"] == 20
    wait_until(lambda: presence(database)[0] == "online", "online")
    porch.client._sock_close()  # the socket is gone, nothing was said
    wait_until(lambda: presence(database) == ("offline", "by Will: the connection broke"), "offline by Will", 5)
    watcher = Peer("watcher", mosquitto[1], f"{ROOT}/d/+/presence", f"{ROOT}/hub/status")
    wait_until(lambda: "offline" in str(watcher.of("/presence")) and watcher.of("hub/status"), "retained verdict")
    watcher.close()


def test_a_command_goes_out_and_comes_back(porch, database):
    porch.say("state", {"state": "online", "epoch": 1})
    wait_until(lambda: presence(database)[0] == "online", "online")
    with database.transaction() as work:
        device = devices.by_handle(work, "porch")
        command = commands.request(work, device, "ping", by="ann")
    end = f"/cmd/ping/{command.command_id}"
    wait_until(lambda: porch.of(end), "the ping")
    porch.say(f"reply/{command.command_id}", {"status": "succeeded", "epoch": 1})

    def done() -> Any:
        with database.transaction() as work:
            seen = commands.get(work, command.agent_id, command.command_id)
            return seen if seen.rtt_ms is not None else None

    seen = wait_until(done, "the round trip")
    assert seen.status == "succeeded"
    assert 0 <= seen.rtt_ms < 5_000


def test_events_survive_a_hub_that_is_killed_again_and_again(porch, hub, database):
    """What the broker took is stored once, though the hub is killed in the middle of its work."""
    sent = [f"e{n}" for n in range(3000)]

    def send(some: list[str]) -> None:
        for n in some:
            porch.client.publish(f"{ROOT}/d/porch/event/door", json.dumps({"id": n, "epoch": 1, "payload": {}}), qos=1)

    told = 0
    for begin in range(0, len(sent), 1000):
        # New ones each time, so that it is killed at work and never before it has begun.
        stored = count(database)
        sender = threading.Thread(target=send, args=(sent[begin : begin + 1000],))
        sender.start()
        wait_until(lambda: count(database) > stored, "this hub stores")  # noqa: B023
        hub.stop(signal.SIGKILL)
        told = len(hub.log())
        hub.start()
        sender.join()
    wait_until(lambda: count(database) == len(sent), "all events", 60)
    wait_until(lambda: "hub.ready" in hub.log()[told:], "the last hub is ready")
    with database.transaction() as work:
        assert set(work.execute(text("SELECT message_id FROM events")).scalars()) == set(sent)
    wait_until(lambda: len({i for one in porch.of("/receipt") for i in one["ids"]}) >= 1, "receipts")


def test_a_hub_that_stops_says_so_and_stops_well(porch, hub, mosquitto):
    watcher = Peer("watcher", mosquitto[1], f"{ROOT}/hub/status")
    wait_until(lambda: watcher.of("hub/status"), "the status")
    assert watcher.of("hub/status")[-1]["status"] == "online"
    assert hub.stop() == 0
    wait_until(lambda: watcher.of("hub/status")[-1]["status"] == "offline", "offline")
    watcher.close()


def test_a_killed_hub_is_told_by_its_will(hub, mosquitto):
    watcher = Peer("watcher", mosquitto[1], f"{ROOT}/hub/status")
    hub.stop(signal.SIGKILL)
    wait_until(lambda: (watcher.of("hub/status") or [{}])[-1].get("status") == "offline", "offline", 5)
    watcher.close()


def test_after_a_broker_that_forgot_the_hub_says_again_what_it_retained(porch, hub, mosquitto, database):
    porch.say("state", {"state": "online", "epoch": 1}, retain=True)
    wait_until(lambda: presence(database)[0] == "online", "online")
    broker, port = mosquitto
    broker.stop(signal.SIGKILL)
    broker.start()
    wait_until(lambda: _answers(port), "mosquitto is back")
    with contextlib.closing(Peer("watcher", port, f"{ROOT}/d/+/presence", f"{ROOT}/hub/status")) as watcher:
        wait_until(lambda: watcher.of("/presence"), "presence again")
        wait_until(lambda: watcher.of("hub/status"), "status again")
    assert presence(database)[0] == "online"  # who was away itself does not judge silence at once


def test_the_database_may_go_and_come_back(porch, database, database_url, postgres_url):
    """Connections are cut off in the middle: nothing is acknowledged that is not stored."""
    for round_ in range(3):
        for n in range(100):
            porch.client.publish(
                f"{ROOT}/d/porch/event/door",
                json.dumps({"id": f"r{round_}e{n}", "epoch": 1, "payload": {}}),
                qos=1,
            )
        with psycopg.connect(libpq_url(postgres_url), autocommit=True) as connection:
            connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND application_name <> %s",
                [database_url.rpartition("/")[2], "marvain tests"],
            )
    wait_until(lambda: count(database) == 300, "all events", 40)


def test_only_one_hub_works(hub, tmp_path):
    second = Process(hub._argv, tmp_path / "second.log", hub._environment)
    second.start()
    try:
        wait_until(lambda: "hub.standing_by" in second.log(), "the second stands by")
        assert "hub.connected" not in second.log()
        hub.stop(signal.SIGKILL)
        wait_until(lambda: "hub.ready" in second.log(), "the second takes over", 10)
    finally:
        assert second.stop() == 0


def test_a_hub_whose_lock_went_to_another_gives_way(hub, database_url, tmp_path):
    """The lock dies with its connection: the hub takes it again, or ends when another was quicker."""
    second = Process(hub._argv, tmp_path / "second.log", hub._environment)
    second.start()
    try:
        wait_until(lambda: "hub.standing_by" in second.log(), "the second stands by")
        with psycopg.connect(libpq_url(database_url), autocommit=True) as connection:

            def takes_the_lock_away() -> bool:
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted"
                    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
                    " AND pid IN (SELECT pid FROM pg_stat_activity WHERE application_name = 'marvain hub')"
                )
                time.sleep(0.3)
                return hub.process.poll() is not None or second.process.poll() is not None or takes_over()

            def takes_over() -> bool:
                return "hub.connected" in second.log()

            wait_until(takes_the_lock_away, "the second is quicker", 60)
        wait_until(lambda: hub.process.poll() is not None, "the first gives way")
        assert hub.process.poll() == 1
        assert "another hub works on this database now" in hub.log()
        assert "Traceback" not in hub.log()
        wait_until(lambda: "hub.ready" in second.log(), "the second works")
    finally:
        assert second.stop() == 0


def test_an_action_is_done_by_the_device_though_the_hub_is_killed_between_any_two_steps(database, hub, porch):
    owner = deciding.Decider("user:ann", Actor("ann@example.org", "person"), "owner")

    def look(action):
        with database.transaction() as work:
            return records.find(work, action.agent_id, action.action_id)

    def kill_and_start():
        hub.stop(signal.SIGKILL)
        before = hub.log().count("hub.ready")
        hub.start()
        wait_until(lambda: hub.log().count("hub.ready") > before, "the hub is back")

    porch.say("state", {"state": "online", "epoch": 1}, retain=True)
    verbs = [{"name": "blink", "risk": "low", "args_schema": {}}]
    porch.say("hello", {"epoch": 1, "protocol": 1, "verbs": verbs})
    wait_until(lambda: porch.of("/welcome"), "welcome")
    for kills in (False, True):
        with database.transaction() as work:
            agent_id = devices.by_handle(work, "porch").agent_id
            proposal = Proposal("device_command", {"device": "porch", "verb": "blink", "ttl_s": 60})
            proposer = Proposer("user:ann", owner.label)
            action = proposing.propose(work, agent_id, proposal, proposer=proposer, now=datetime.now(UTC)).action
        if kills:
            kill_and_start()
            hub.stop(signal.SIGKILL)  # decided while no hub is there
        with database.transaction() as work:
            facts = {"by": owner, "digest": action.digest, "now": datetime.now(UTC)}
            deciding.approve(work, agent_id, action.action_id, **facts)
        if kills:
            hub.start()
        told = wait_until(lambda: [one for one in porch.heard if "/cmd/blink/" in one[0]], "the device is told")
        command_id = told[-1][0].rpartition("/")[2]
        if kills:
            kill_and_start()
        porch.say(f"reply/{command_id}", {"epoch": 1, "status": "accepted"})
        if kills:
            kill_and_start()
        porch.say(f"reply/{command_id}", {"epoch": 1, "status": "succeeded", "result": {"blinked": 3}})
        wait_until(lambda one=action: look(one).status == "executed", "the action is over")
        found = look(action)
        assert found.result == {"blinked": 3}
        assert [step.step for step in found.steps] == ["proposed", "approved", "executing", "executed"]
        with database.transaction() as work:
            count = "SELECT count(*) FROM events WHERE type = 'action_result' AND payload ->> 'action_id' = :id"
            assert work.execute(text(count), {"id": str(action.action_id)}).scalar_one() == 1
            assert work.execute(text("SELECT count(*) FROM commands")).scalar_one() == (2 if kills else 1)
        porch.heard.clear()
