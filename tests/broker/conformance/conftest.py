"""Two brokers for one suite: ours as a real process, and Debian's Mosquitto, which checks the suite itself."""

import ast
import contextlib
import getpass
import importlib.util
import shutil
import socket
import subprocess
import time
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from ports import free_port

HERE = Path(__file__).parent
ROOT = "marvain/v1"
PASSWORD = "secret-of-the-suite"
# Names at the two ends of what every server must take as a client id, then as many as there are tests and more.
SHORTEST, LONGEST = "q", "abcdefghijklmnopqrstuvw"
MOST_USERS = 600


def load(name: str) -> types.ModuleType:
    """A module beside this one; the tests are no package, so that it has no name to be imported by."""
    spec = importlib.util.spec_from_file_location(f"conformance_{name}", HERE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


STATEMENTS = load("statements")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "statement(*ids): the normative statements of MQTT 3.1.1 that a test is about")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Expect of Mosquitto what it is known for; a deviation that is gone fails, so that the list stays true."""
    for item in items:
        if item.path.parent != HERE or "mosquitto" not in item.name:
            continue
        stated = {name for marker in item.iter_markers("statement") for name in marker.args}
        for name in stated & STATEMENTS.DEVIATIONS.keys():
            for case, instead in STATEMENTS.DEVIATIONS[name].items():
                if item.name == case:
                    item.add_marker(pytest.mark.xfail(strict=True, reason=f"[{name}] {instead}"))


@pytest.fixture(scope="session")
def statements() -> Any:
    """The tables of `statements.py`."""
    return STATEMENTS


@pytest.fixture(scope="session")
def stated_by_tests() -> dict[str, set[str]]:
    """Each statement that a test of this folder names, with the names of these tests, read from their source."""
    found: dict[str, set[str]] = {}
    for path in HERE.glob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                for decorator in node.decorator_list:
                    if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "pytest.mark.statement":
                        for argument in decorator.args:
                            found.setdefault(ast.literal_eval(argument), set()).add(node.name)
    return found


@dataclass
class Client:
    """A connected peer. What comes unasked is kept in `early` until somebody collects it."""

    peer: Any
    wire: Any
    handle: str
    secret: str
    session_present: bool = False
    early: list[Any] = field(default_factory=list)
    ids: Iterator[int] = field(default_factory=lambda: count(100))

    def topic(self, *rest: str) -> str:
        """A topic of this device's own: `cmd` it may subscribe to, `event` and `state` it may publish to."""
        return "/".join((ROOT, "d", self.handle, *rest))

    def send(self, data: bytes) -> None:
        self.peer.send(data)

    def drop(self) -> None:
        """End the connection without DISCONNECT."""
        self.peer.close()

    def disconnect(self) -> None:
        self.peer.disconnect()

    def until(self, kind: int) -> Any:
        """The next packet of a kind; what comes before it is kept."""
        while True:
            got = self.peer.receive()
            assert got is not None, "the broker closed the connection"
            if got.kind == kind:
                return got
            self.early.append(got)

    def collect(self) -> list[Any]:
        """Everything that was sent to this client before now."""
        self.send(b"\xc0\0")
        self.until(13)
        got, self.early = self.early, []
        return got

    def messages(self) -> list[Any]:
        """The PUBLISH packets among what was sent to this client before now; none is acknowledged."""
        return [packet for packet in self.collect() if packet.kind == 3]

    def message(self) -> Any:
        """The next PUBLISH, waited for; not acknowledged."""
        for index, packet in enumerate(self.early):
            if packet.kind == 3:
                return self.early.pop(index)
        return self.until(3)

    def acknowledge(self, packet: Any, kind: int = 4) -> None:
        """Send a packet that consists of the identifier of another."""
        self.send(bytes((kind << 4 | (2 if kind == 6 else 0), 2)) + packet.packet_id.to_bytes(2, "big"))

    def finish(self, packet: Any) -> None:
        """Take a message for good, as its QoS demands."""
        if packet.qos == 1:
            self.acknowledge(packet)
        elif packet.qos == 2:
            self.acknowledge(packet, 5)
            assert self.until(6).packet_id == packet.packet_id
            self.acknowledge(packet, 7)

    def subscribe(self, *asked: tuple[str, int]) -> list[int]:
        """Subscribe; the return codes."""
        packet_id = next(self.ids)
        filters = b"".join(self.wire.string(name) + bytes([qos]) for name, qos in asked)
        self.send(self.wire.packet(0x82, packet_id.to_bytes(2, "big") + filters))
        answer = self.until(9)
        assert answer.packet_id == packet_id
        return list(answer.body[2:])

    def unsubscribe(self, *names: str) -> None:
        packet_id = next(self.ids)
        filters = b"".join(self.wire.string(name) for name in names)
        self.send(self.wire.packet(0xA2, packet_id.to_bytes(2, "big") + filters))
        assert self.until(11).body == packet_id.to_bytes(2, "big")

    def publish(self, topic: str, payload: bytes, qos: int = 0, **more: Any) -> None:
        """Publish to the end of the flow: afterwards the broker has handed the message on."""
        packet_id = next(self.ids)
        self.send(self.wire.publish(topic, payload, qos, packet_id, **more))
        if not qos:
            self.send(b"\xc0\0")
            self.until(13)
        elif qos == 1:
            assert self.until(4).packet_id == packet_id
        else:
            assert self.until(5).packet_id == packet_id
            self.send(b"\x62\x02" + packet_id.to_bytes(2, "big"))
            assert self.until(7).packet_id == packet_id

    def refused(self) -> bool:
        """Whether the broker closes the connection, instead of answering what is asked next."""
        with contextlib.suppress(OSError):
            self.send(b"\xc0\0")
        while (got := self.peer.receive()) is not None:
            if got.kind == 13:
                return False
        return True


@dataclass
class Venue:
    """One broker with users: devices, who have topics of their own, and the hub, who has all below the root."""

    name: str
    house: Any
    port: int
    ws_port: int
    new_user: Callable[[str], tuple[str, str]]
    hub_password: str
    # Of `anyone`, who may use every topic.
    open_password: str = PASSWORD

    @property
    def wire(self) -> Any:
        return self.house.wire

    def user(self, handle: str = "") -> tuple[str, str]:
        """The name and the secret of a device that nobody else uses."""
        return self.new_user(handle)

    def free_port(self) -> int:
        return free_port()

    def dial(self) -> Any:
        """A bare connection."""
        return self.house.dial(self.port)

    def client(self, who: tuple[str, str] | None = None, **more: Any) -> Client:
        """A device, connected; a new one unless `who` is given."""
        handle, secret = who or self.user()
        peer = self.dial()
        answer = peer.connect(handle, handle, secret, **more)
        assert answer.body[1] == 0
        return Client(peer, self.wire, handle, secret, bool(answer.body[0]))

    def again(self, client: Client, **more: Any) -> Client:
        """The same device on a new connection."""
        return self.client((client.handle, client.secret), **more)

    def hub(self, **more: Any) -> Client:
        return self.client(("hub_service", self.hub_password), **more)

    def answers(self, data: bytes) -> list[Any]:
        """What a new connection that sends `data` is told before the broker closes it; fails when it does not."""
        peer = self.dial()
        peer.send(data)
        got = []
        while (packet := peer.receive()) is not None:
            got.append(packet)
        return got


@pytest.fixture(scope="session")
def mosquitto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, int]]:
    """Ports (MQTT, WebSocket) of a Mosquitto with the users of the suite and the same rights as ours gives them."""
    folder = tmp_path_factory.mktemp("mosquitto")
    port, ws_port = free_port(), free_port()
    passwords, acl, config = folder / "passwords", folder / "acl", folder / "mosquitto.conf"
    names = ["hub_service", "anyone", SHORTEST, LONGEST, *(f"lamp-{number}" for number in range(MOST_USERS))]
    passwords.write_text("".join(f"{name}:{PASSWORD}\n" for name in names))
    subprocess.run(["mosquitto_passwd", "-U", str(passwords)], check=True)
    own = f"{ROOT}/d/%u"
    acl.write_text(
        f"user hub_service\ntopic readwrite {ROOT}/#\n\nuser anyone\ntopic readwrite #\ntopic readwrite $ours/#\n\n"
        f"pattern read {own}/cmd/#\npattern write {own}/state\npattern write {own}/event/+\n"
    )
    config.write_text(
        # As root it would change to an account that cannot read here.
        f"user {getpass.getuser()}\n"
        f"listener {port} 127.0.0.1\nlistener {ws_port} 127.0.0.1\nprotocol websockets\nallow_anonymous false\n"
        f"password_file {passwords}\nacl_file {acl}\npersistence true\npersistence_location {folder}/\n"
        "allow_zero_length_clientid true\n"
    )
    program = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen([program, "-c", str(config)], stdout=log, stderr=log)
    deadline = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            break
        except OSError:
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.02)
    yield port, ws_port
    process.terminate()
    process.wait(10)


@pytest.fixture(scope="session")
def mosquitto_users() -> Iterator[int]:
    """Which of the prepared users is next."""
    return count()


@pytest.fixture(params=["ours", "mosquitto"])
def venue(request: pytest.FixtureRequest, house: Any) -> Venue:
    """The broker under test; `house` is ours, and closes after the test whatever was dialled."""
    if request.param == "ours":
        # Slow only when asked for: with Mosquitto no device is added to the database.
        def add(handle: str) -> tuple[str, str]:
            device, token = house.add(handle)
            return device.handle, token

        return Venue("ours", house, house.broker.port, house.broker.ws_port, add, house.hub_password)
    port, ws_port = request.getfixturevalue("mosquitto")
    users = request.getfixturevalue("mosquitto_users")
    return Venue(
        "mosquitto", house, port, ws_port, lambda handle: (handle or f"lamp-{next(users)}", PASSWORD), PASSWORD
    )
