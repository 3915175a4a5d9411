"""A real broker, the hub's side of the wire spoken by hand, and real satellite processes."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import paho.mqtt.client as mqtt
import pytest
from ports import free_port

from hub_protocol import catalogue
from hub_protocol.messages import Command, Config, Denied, Receipt, Welcome
from hub_protocol.topics import Parsed, Topics

HANDLE = "porch"
TOKEN = f"mv1.{HANDLE}.{'k' * 43}"
OTHER_TOKEN = f"mv1.{HANDLE}.{'w' * 43}"
PATIENCE_S = 20.0


def wait_until(condition: Callable[[], Any], what: str, within_s: float = PATIENCE_S) -> Any:
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.01)
    pytest.fail(f"not within {within_s} s: {what}")


class Broker:
    """Mosquitto with a password file and rules as the hub gives them to a device."""

    def __init__(self, folder: Path) -> None:
        self.port, self.ws_port = free_port(), free_port()
        self.listens_on = [self.port, self.ws_port]
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._passwords = folder / "passwords"
        self._passwords.touch()
        self.allow("hub_service", "hub")
        self.allow(HANDLE, TOKEN)
        (folder / "acl").write_text(
            "user hub_service\ntopic readwrite marvain/v1/#\n"
            "pattern read marvain/v1/d/%u/cmd/#\npattern read marvain/v1/d/%u/welcome\n"
            "pattern read marvain/v1/d/%u/receipt\npattern read marvain/v1/d/%u/denied\n"
            "pattern write marvain/v1/d/%u/state\npattern write marvain/v1/d/%u/hello\n"
            "pattern write marvain/v1/d/%u/heartbeat\npattern write marvain/v1/d/%u/event/+\n"
            "pattern write marvain/v1/d/%u/reply/+\npattern write marvain/v1/d/%u/telemetry/+\n"
            "pattern read marvain/v1/d/%u/config\npattern write marvain/v1/d/%u/config_reply\n"
        )
        (folder / "mosquitto.conf").write_text(
            f"user root\nallow_anonymous false\npassword_file {self._passwords}\nacl_file {folder / 'acl'}\n"
            f"listener {self.port} 127.0.0.1\nlistener {self.ws_port} 127.0.0.1\nprotocol websockets\n"
        )

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}"

    def start(self) -> None:
        program = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
        log = (self._folder / "mosquitto.log").open("ab")
        self._process = subprocess.Popen([program, "-c", self._folder / "mosquitto.conf"], stdout=log, stderr=log)
        log.close()
        wait_until(self._answers, "the broker listens")

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def allow(self, user: str, password: str) -> None:
        subprocess.run(["mosquitto_passwd", "-b", self._passwords, user, password], check=True, capture_output=True)
        self._reload()

    def refuse(self, user: str) -> None:
        subprocess.run(["mosquitto_passwd", "-D", self._passwords, user], check=True, capture_output=True)
        self._reload()

    def _reload(self) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGHUP)

    def _answers(self) -> bool:
        for port in self.listens_on:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) != 0:
                    return False
        return True


@dataclass(frozen=True)
class Heard:
    parsed: Parsed
    message: Any
    retain: bool


class Hub:
    """The hub's side: keeps all it hears, answers `hello` and sends receipts, each as long as it is told to."""

    def __init__(self, broker: Broker) -> None:
        self.heard: list[Heard] = []
        self.welcomes = self.receipts = True
        self.refusal = ""
        self.heartbeat_s = 15.0
        self.clock_offset = timedelta()
        self._topics = Topics()
        self._ready = threading.Event()
        self._client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id="hub_service", clean_session=False)
        self._client.username_pw_set("hub_service", "hub")
        self._client.reconnect_delay_set(0.1, 0.2)
        self._client.on_connect = lambda client, *_: client.subscribe("marvain/v1/d/+/#", qos=1)
        self._client.on_subscribe = lambda *_: self._ready.set()
        self._client.on_message = self._on_message
        self._client.connect("127.0.0.1", broker.port)
        self._client.loop_start()
        assert self._ready.wait(PATIENCE_S)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def of(self, kind: str) -> list[Any]:
        return [heard.message for heard in list(self.heard) if heard.parsed.kind == kind]

    def replies(self, command_id: str) -> list[Any]:
        return [h.message for h in list(self.heard) if h.parsed.kind == "reply" and h.parsed.levels == (command_id,)]

    def wait_for(self, kind: str, condition: Callable[[Any], bool] = lambda _: True, count: int = 1) -> list[Any]:
        def found() -> list[Any]:
            matching = [message for message in self.of(kind) if condition(message)]
            return matching if len(matching) >= count else []

        return wait_until(found, f"{count} of {kind}; heard {self.heard}")

    def command(self, verb: str, command_id: str, args: dict[str, Any] | None = None, ttl_s: float = 30) -> None:
        expires_at = datetime.now(UTC) + self.clock_offset + timedelta(seconds=ttl_s)
        command = Command(expires_at=expires_at, args=args or {})
        self.say(self._topics.command(HANDLE, verb, command_id), catalogue.encode(command))

    def deny(self, denied: Denied) -> None:
        self.say(self._topics.denied(HANDLE), catalogue.encode(denied), qos=0)

    def give_receipt(self, *ids: str) -> None:
        self.say(self._topics.receipt(HANDLE), catalogue.encode(Receipt(list(ids))))

    def configure(self, rev: int, **values: Any) -> None:
        self.say(self._topics.config(HANDLE), catalogue.encode(Config(rev, values)), retain=True)

    @staticmethod
    def wait(condition: Callable[[], Any], what: str) -> Any:
        return wait_until(condition, what)

    def wait_config(self, rev: int) -> Any:
        """The first answer to this config."""
        return wait_until(lambda: [one for one in self.of("config_reply") if one.rev == rev], f"config {rev}")[0]

    def say(self, topic: str, payload: bytes, qos: int = 1, *, retain: bool = False) -> None:
        self._client.publish(topic, payload, qos=qos, retain=retain)

    def _on_message(self, _client: Any, _data: Any, message: mqtt.MQTTMessage) -> None:
        parsed = catalogue.parse_topic(message.topic)
        kinds = ("state", "hello", "heartbeat", "event", "telemetry", "reply", "config_reply")
        if parsed is None or parsed.kind not in kinds:
            return
        content = catalogue.decode(parsed.kind, message.payload)
        self.heard.append(Heard(parsed, content, message.retain))
        if parsed.kind == "hello" and self.welcomes:
            now = datetime.now(UTC) + self.clock_offset
            heartbeat_s = self.heartbeat_s or content.heartbeat_s
            welcome = Welcome(content.epoch, heartbeat_s, ["presence:write", "events:write"], 0, now)
            self.say(self._topics.welcome(parsed.handle), catalogue.encode(welcome))
        elif parsed.kind == "event" and self.refusal:
            self.deny(Denied("message", message.topic, self.refusal, id=content.id))
        elif parsed.kind == "event" and self.receipts:
            self.give_receipt(content.id)
        elif parsed.kind == "config_reply" and self.receipts:
            self.give_receipt(f"config:{content.rev}")
        elif parsed.kind == "reply" and self.receipts:
            self.give_receipt(f"{parsed.levels[0]}:{content.status}")


class Satellite:
    """One process of the satellite's command line."""

    def __init__(self, arguments: list[str], log: Path) -> None:
        self._log = log
        with log.open("ab") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "satellite_agent", *arguments],
                stdout=subprocess.PIPE,
                stderr=stderr,
                env=clean_env(),
            )

    @property
    def log(self) -> str:
        return self._log.read_text()

    def wait_log(self, text: str, count: int = 1) -> None:
        wait_until(lambda: self.log.count(text) >= count, f"{text!r} in the log:\n{self.log}")

    def wait_exit(self, within_s: float = PATIENCE_S) -> int:
        try:
            return self.process.wait(within_s)
        except subprocess.TimeoutExpired:
            pytest.fail(f"still running after {within_s} s:\n{self.log}")

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


def clean_env(**more: str) -> dict[str, str]:
    """The environment without settings of whoever runs the tests."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MARVAIN_", "XDG_", "STATE_"))}
    return kept | {"PYTHONWARNINGS": "error", "PYTHONASYNCIODEBUG": ""} | more


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    folder = tmp_path / "broker"
    folder.mkdir()
    running = Broker(folder)
    running.start()
    yield running
    running.stop()


@pytest.fixture
def hub(broker: Broker) -> Iterator[Hub]:
    side = Hub(broker)
    yield side
    side.close()


@pytest.fixture
def state_dir(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def start(broker: Broker, state_dir: Path, tmp_path: Path) -> Iterator[Callable[..., Satellite]]:
    """Start `marvain-satellite run`; the keywords replace flags, `toml` is its config file."""
    started: list[Satellite] = []

    def run(toml: str = "", **flags: str) -> Satellite:
        if toml:
            config = tmp_path / f"satellite-{len(started)}.toml"
            config.write_text(toml)
            flags["config"] = str(config)
        chosen = {"hub": broker.url, "token": TOKEN, "state_dir": str(state_dir)} | flags
        arguments = [part for name, value in chosen.items() for part in (f"--{name.replace('_', '-')}", value)]
        satellite = Satellite(["run", *arguments], tmp_path / f"satellite-{len(started)}.log")
        started.append(satellite)
        return satellite

    yield run
    for satellite in started:
        satellite.end()
        assert TOKEN not in satellite.log
        assert "Traceback" not in satellite.log, satellite.log


@pytest.fixture
def cli(state_dir: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a command of the satellite to its end, on the test's state folder unless it names another."""

    def call(*arguments: str, stdin: str = "", env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        has_none = "--state-dir" in arguments or env or arguments[0] == "uninstall"
        flags = [] if has_none else ["--state-dir", str(state_dir)]
        return subprocess.run(
            [sys.executable, "-m", "satellite_agent", arguments[0], *flags, *arguments[1:]],
            capture_output=True,
            text=True,
            input=stdin,
            env=clean_env(**(env or {})),
            timeout=60,
            check=False,
        )

    return call
