"""All of Marvain as separate processes of a test, each of which may be killed at any moment and is started again."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ports import free_port
from sqlalchemy import text

from hub import commands, devices, identity, migrations
from hub.access import credentials
from hub.database import Database
from marvain.embedded_postgres import EmbeddedPostgres
from satellite_agent import control

REPOSITORY = Path(__file__).parents[2]
SATELLITES = ("attic", "barn", "cellar")


def wait_until(condition: Callable[[], Any], what: str, within_s: float) -> Any:
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.02)
    return pytest.fail(f"not within {within_s} s: {what}")


class Part:
    """One process; as long as it is wanted it is started again when it ends, as a supervisor would."""

    def __init__(self, name: str, log: Path, start: Callable[[Any], subprocess.Popen[bytes]]) -> None:
        self.name, self.log = name, log
        self._start = start
        self._wanted = threading.Event()
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self.process: subprocess.Popen[bytes] | None = None
        self.killed = 0
        log.touch()
        self._keeper = threading.Thread(target=self._keep, daemon=True)
        self._wanted.set()
        self._keeper.start()

    def _keep(self) -> None:
        while not self._stopping.wait(0.05):
            with self._lock:
                is_gone = self.process is None or self.process.poll() is not None
                if is_gone and self._wanted.is_set() and not self._stopping.is_set():
                    with self.log.open("ab") as log:
                        self.process = self._start(log)

    def kill(self, pid: int | None = None, *, stay_down: bool = False) -> None:
        """SIGKILL; with `stay_down` it is not started again before `up`."""
        if stay_down:
            self._wanted.clear()
        process = wait_until(lambda: self.process, f"{self.name} was started", 10)
        wait_until(lambda: process is not self.process or process.poll() is None, "it lives", 10)
        self.killed += 1
        os.kill(pid or self.process.pid, signal.SIGKILL)

    def up(self) -> None:
        self._wanted.set()

    def stop(self) -> None:
        self._stopping.set()
        self._keeper.join(10)
        with self._lock:
            if self.process is None or self.process.poll() is not None:
                return
            self.process.send_signal(signal.SIGINT if self.name == "postgres" else signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


class World:
    """PostgreSQL, a broker, a hub and three satellites under load."""

    def __init__(self, folder: Path, broker: str) -> None:
        self.folder, self.broker = folder, broker
        self.parts: dict[str, Part] = {}
        self.accepted: dict[str, set[int]] = {name: set() for name in SATELLITES}
        self.asked: list[tuple[Any, int]] = []
        self._stopping = threading.Event()
        self._loads: list[threading.Thread] = []
        self._server = EmbeddedPostgres(folder / "postgres")
        (folder / "postgres").mkdir()
        self._server.prepare()
        self._add("postgres", self._server.spawn)
        wait_until(self._postgres_is_up, "postgres", 60)
        migrations.migrate(self._server.url)
        self.database = Database(self._server.url, application_name="the faults test")
        with self.database.transaction() as session:
            self.agent_id = identity.ensure_first_agent(session).agent_id
            self.tokens = {
                name: devices.add(session, self.agent_id, name, scopes=["*"], by="the test").token
                for name in SATELLITES
            }
            credentials.set_hub_password(session, "a quiet harbour at night")
        (folder / "hub-password").write_text("a quiet harbour at night\n")
        ports = [free_port() for _ in range(2)]
        self.environment = os.environ | {
            "MARVAIN_DATABASE_URL": self._server.url,
            "MARVAIN_HUB_PASSWORD_FILE": str(folder / "hub-password"),
            "MARVAIN_BROKER": broker,
            "MARVAIN_BROKER_STORE": str(folder / "broker"),
            "MARVAIN_MQTT_PORT": str(ports[0]),
            "MARVAIN_WS_PORT": str(ports[1]),
            "MARVAIN_LOG_FORMAT": "json",
        }
        (folder / "broker").mkdir(mode=0o711)
        self.service("broker")
        self.service("hub")
        for name in SATELLITES:
            self._satellite(name, ports[0])
        wait_until(self.all_online, "all satellites are online", 30)

    def service(self, module: str, name: str = "") -> Part:
        """Start a service; a second one of its kind under another name."""
        argv = [sys.executable, "-m", module]

        def start(log: Any) -> subprocess.Popen[bytes]:
            return subprocess.Popen(argv, cwd=REPOSITORY, env=self.environment, stdout=log, stderr=log)

        return self._add(name or module, start)

    def _add(self, name: str, start: Callable[[Any], subprocess.Popen[bytes]]) -> Part:
        self.parts[name] = Part(name, self.folder / f"{name}.log", start)
        return self.parts[name]

    def _satellite(self, name: str, port: int) -> None:
        argv = [sys.executable, Path(__file__).parent / "satellite.py", "run", "--hub", f"mqtt://127.0.0.1:{port}"]
        argv += ["--token", self.tokens[name], "--state-dir", self.state(name)]
        clean = {key: value for key, value in os.environ.items() if not key.startswith("MARVAIN_")}
        environment = clean | {"FAULTS_EXECUTED": str(self.executed_file(name)), "PYTHONPATH": str(REPOSITORY)}

        def start(log: Any) -> subprocess.Popen[bytes]:
            return subprocess.Popen(argv, env=environment, stdout=log, stderr=log)

        self._add(name, start)

    def state(self, name: str) -> Path:
        return self.folder / name

    def executed_file(self, name: str) -> Path:
        return self.folder / f"{name}.executed"

    def executed(self, name: str) -> list[int]:
        """The numbers of the commands that this satellite carried out, one for each time."""
        file = self.executed_file(name)
        return [int(line) for line in file.read_text().split()] if file.exists() else []

    def _postgres_is_up(self) -> bool:
        process = self.parts["postgres"].process
        return process is not None and process.poll() is None and self._server.poll_ready(process.pid)

    def ask(self, query: str, **values: Any) -> list[Any]:
        """Rows, whatever happens to Postgres meanwhile."""

        def rows() -> list[Any] | None:
            try:
                with self.database.transaction() as session:
                    return [list(session.execute(text(query), values).all())]
            except Exception:  # noqa: BLE001  (it was just killed)
                return None

        return wait_until(rows, "postgres answers", 30)[0]

    def presence(self, name: str) -> str:
        return self.ask(
            "SELECT p.verdict FROM device_presence AS p JOIN devices USING (device_id) WHERE handle = :name", name=name
        )[0][0]

    def is_answered(self, name: str) -> bool:
        """Whether the satellite itself says that it is connected and that the hub has answered."""
        try:
            answer = control.ask(self.state(name) / "control.sock", {"do": "status"}, 5)
        except control.ControlError:
            return False
        return answer["status"]["connection"] == "online"

    def all_online(self) -> bool:
        return all(self.presence(name) == "online" for name in SATELLITES)

    def broker_pids(self) -> list[int]:
        """The broker's service, and the broker that it runs where that is another program."""
        pid = self.parts["broker"].process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children")
        try:
            return [pid, *(int(one) for one in children.read_text().split())]
        except OSError:
            return [pid]

    # --- load -------------------------------------------------------------------------------------------------------

    def load(self, per_second: float) -> None:
        """Begin: each satellite has events to send, and is told to do things."""
        for name in SATELLITES:
            self._loads.append(threading.Thread(target=self._send, args=(name, per_second), daemon=True))
        self._loads.append(threading.Thread(target=self._command, daemon=True))
        for thread in self._loads:
            thread.start()

    def end_load(self) -> None:
        self._stopping.set()
        for thread in self._loads:
            thread.join(60)

    def _send(self, name: str, per_second: float) -> None:
        n = 0
        while not self._stopping.wait(1 / per_second):
            n += 1
            request = {"do": "send", "type": "tick", "payload": {"n": n}, "timeout_s": 0}
            try:
                answer = control.ask(self.state(name) / "control.sock", request, 5)
            except control.ControlError:
                continue  # killed in the middle: it may have the event or not
            if answer["ok"]:
                self.accepted[name].add(n)

    def _command(self) -> None:
        n = 0
        while not self._stopping.wait(0.1):
            n += 1
            try:
                with self.database.transaction() as session:
                    device = devices.by_handle(session, SATELLITES[n % len(SATELLITES)])
                    asked = commands.request(session, device, "ping", {"n": n}, by="the test", ttl_s=15)
            except Exception:  # noqa: BLE001  (Postgres was just killed: it was not asked, or nobody knows)
                continue
            self.asked.append((asked.command_id, n))

    def stop(self) -> None:
        self._stopping.set()
        for name in (*SATELLITES, *(one for one in self.parts if one.startswith("hub")), "broker"):
            if name in self.parts:
                self.parts[name].stop()
        if hasattr(self, "database"):
            self.database.close()
        self.parts["postgres"].stop()
        self._server.destroy()


@pytest.fixture
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("f")  # short: the path of a socket holds about a hundred characters
    folder.chmod(0o711)
    world = World.__new__(World)
    try:
        world.__init__(folder, request.module.BROKER)
        yield world
    finally:
        world.stop()
        for part in world.parts.values():
            print(f"--- {part.name}\n{part.log.read_text(errors='replace')[-3_000:]}")  # noqa: T201  (shown on failure)
