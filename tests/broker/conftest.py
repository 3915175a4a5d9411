"""A real broker process on free ports beside a real Postgres, and a peer that speaks MQTT byte by byte."""

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import databases
import psycopg
import pytest
from ports import free_port
from psycopg import sql
from sqlalchemy import make_url, text

from hub import devices
from hub.access import changes, credentials
from hub.database import Database
from hub.tables import Agent, Device

ROOT = "marvain/v1"
REPOSITORY = Path(__file__).parents[2]
EVERY_SCOPE = ["*"]


class BrokerProcess:
    """`python -m broker`, started and stopped for real; its log is read as it comes."""

    def __init__(self, database_url: str, log_path: Path, more: dict[str, str] | None = None) -> None:
        self.database_url = database_url
        self.more = more or {}
        self.port, self.ws_port = free_port(), free_port()
        self.log_path = log_path
        self.process: subprocess.Popen[bytes] | None = None

    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "MARVAIN_DATABASE_URL": self.database_url,
            "MARVAIN_MQTT_PORT": str(self.port),
            "MARVAIN_WS_PORT": str(self.ws_port),
            "MARVAIN_LOG_FORMAT": "json",
            "MARVAIN_LOG_LEVEL": "DEBUG",
            # All tests come from one address, and some are in a hurry; those of the bounds set their own.
            "MARVAIN_BROKER_FAILURES_PER_MINUTE": "100000",
            "MARVAIN_BROKER_MESSAGES_PER_SECOND": "1000000",
            "MARVAIN_BROKER_BYTES_PER_SECOND": "1000000000",
            **self.more,
        }

    def start(self, ready: str = "broker.ready") -> Self:
        with self.log_path.open("ab") as log:
            before = self.log_path.stat().st_size
            self.process = subprocess.Popen(
                [sys.executable, "-m", "broker"], cwd=REPOSITORY, env=self.environment(), stderr=log
            )
        wait_until(lambda: ready in self.log(before) or self.process.poll() is not None, 20)
        assert self.process.poll() is None, self.log()
        return self

    def log(self, start: int = 0) -> str:
        return self.log_path.read_bytes()[start:].decode()

    def stop(self, number: int = signal.SIGTERM) -> int:
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(15)

    def memory(self) -> int:
        """Resident bytes."""
        assert self.process is not None
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")


def wait_until(true: Callable[[], Any], timeout: float = 5.0) -> Any:
    """Wait for a condition; what it returned."""
    deadline = time.monotonic() + timeout
    while not (result := true()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)
    return result


@dataclass
class Packet:
    kind: int
    flags: int
    body: bytes

    @property
    def qos(self) -> int:
        return self.flags >> 1 & 3

    @property
    def retain(self) -> bool:
        return bool(self.flags & 1)

    @property
    def dup(self) -> bool:
        return bool(self.flags & 8)

    @property
    def topic(self) -> str:
        return self.body[2 : 2 + int.from_bytes(self.body[:2], "big")].decode()

    @property
    def packet_id(self) -> int:
        at = 2 + int.from_bytes(self.body[:2], "big") if self.kind == 3 else 0
        return int.from_bytes(self.body[at : at + 2], "big")

    @property
    def payload(self) -> bytes:
        return self.body[2 + int.from_bytes(self.body[:2], "big") + (2 if self.qos else 0) :]


def string(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return len(data).to_bytes(2, "big") + data


def length(value: int) -> bytes:
    out = bytearray()
    while True:
        value, digit = divmod(value, 128)
        out.append(digit | (128 if value else 0))
        if not value:
            return bytes(out)


def packet(first: int, body: bytes) -> bytes:
    return bytes([first]) + length(len(body)) + body


def connect_packet(
    client_id: str,
    username: str | None,
    password: str | bytes | None,
    *,
    clean: bool = True,
    keep_alive: int = 60,
    will: tuple[str, bytes, int, bool] | None = None,
    level: int = 4,
) -> bytes:
    flags = 2 if clean else 0
    payload = string(client_id)
    if will:
        topic, content, qos, retain = will
        flags |= 4 | qos << 3 | (0x20 if retain else 0)
        payload += string(topic) + string(content)
    if username is not None:
        flags |= 0x80
        payload += string(username)
    if password is not None:
        flags |= 0x40
        payload += string(password)
    return packet(0x10, string("MQTT") + bytes([level, flags]) + keep_alive.to_bytes(2, "big") + payload)


def publish_packet(
    topic: str, payload: bytes, qos: int = 0, packet_id: int = 1, *, retain: bool = False, dup: bool = False
) -> bytes:
    body = string(topic) + (packet_id.to_bytes(2, "big") if qos else b"") + payload
    return packet(0x30 | qos << 1 | retain | (8 if dup else 0), body)


class Wire:
    """The packets above, within reach of every test."""

    connect = staticmethod(connect_packet)
    publish = staticmethod(publish_packet)
    packet = staticmethod(packet)
    string = staticmethod(string)
    length = staticmethod(length)


class Peer:
    """A TCP client that sends what it is told to, byte by byte, and takes the answers apart."""

    def __init__(self, port: int, *, receive_buffer: int | None = None, source: str = "") -> None:
        self.socket = socket.socket()
        if source:
            self.socket.bind((source, 0))
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.connect(("127.0.0.1", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        self.next_id = 1

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def close(self) -> None:
        """Drop the connection without DISCONNECT."""
        self.socket.close()

    def disconnect(self) -> None:
        self.send(b"\xe0\x00")
        assert self.closed()
        self.socket.close()

    def connect(self, client_id: str, username: str | None, password: str | bytes | None, **more: Any) -> Packet:
        self.send(connect_packet(client_id, username, password, **more))
        answer = self.receive()
        assert answer is not None
        assert answer.kind == 2
        return answer

    def receive(self, timeout: float = 5.0) -> Packet | None:
        """The next packet; None when the broker closed the connection."""
        deadline = time.monotonic() + timeout
        while True:
            if (whole := self._whole()) is not None:
                return whole
            ready, _, _ = select.select([self.socket], [], [], max(0.0, deadline - time.monotonic()))
            if not ready:
                raise TimeoutError("no packet came")
            try:
                data = self.socket.recv(262_144)
            except ConnectionResetError:
                data = b""
            if not data:
                return None
            self.buffer += data

    def _whole(self) -> Packet | None:
        at, shift, size = 1, 0, 0
        while True:
            if at >= len(self.buffer):
                return None
            size |= (self.buffer[at] & 127) << shift
            at += 1
            if self.buffer[at - 1] < 128:
                break
            shift += 7
        if len(self.buffer) < at + size:
            return None
        first, body = self.buffer[0], self.buffer[at : at + size]
        self.buffer = self.buffer[at + size :]
        return Packet(first >> 4, first & 15, body)

    def message(self, timeout: float = 5.0) -> Packet:
        """The next PUBLISH, acknowledged when it asks for that; everything else is passed over."""
        deadline = time.monotonic() + timeout
        while True:
            got = self.receive(max(0.0, deadline - time.monotonic()))
            assert got is not None, "the broker closed the connection"
            if got.kind == 3:
                if got.qos == 1:
                    self.send(packet(0x40, got.packet_id.to_bytes(2, "big")))
                return got

    def drain(self) -> Self:
        """Pass over everything sent so far."""
        self.send(b"\xc0\x00")
        while (got := self.receive()) is not None and got.kind != 13:
            pass
        return self

    def silent(self, seconds: float = 0.2) -> bool:
        """Whether nothing at all comes for a while."""
        try:
            self.receive(seconds)
        except TimeoutError:
            return True
        return False

    def closed(self, timeout: float = 5.0) -> bool:
        """Whether the broker closes the connection; what comes before that is passed over."""
        try:
            while self.receive(timeout) is not None:
                pass
        except TimeoutError:
            return False
        return True

    def ping(self) -> None:
        """After the answer, everything sent before has been handled."""
        self.send(b"\xc0\x00")
        answer = self.receive()
        assert answer is not None
        assert answer.kind == 13, answer

    def subscribe(self, *asked: tuple[str, int]) -> list[int]:
        """Subscribe; the return codes."""
        self.next_id += 1
        filters = b"".join(string(name) + bytes([qos]) for name, qos in asked)
        self.send(packet(0x82, self.next_id.to_bytes(2, "big") + filters))
        answer = self.receive()
        assert answer is not None
        assert answer.kind == 9, answer
        assert answer.packet_id == self.next_id
        return list(answer.body[2:])

    def unsubscribe(self, name: str) -> None:
        self.next_id += 1
        self.send(packet(0xA2, self.next_id.to_bytes(2, "big") + string(name)))
        answer = self.receive()
        assert answer is not None
        assert answer.kind == 11

    def publish(self, topic: str, payload: bytes, qos: int = 0, packet_id: int = 77, **more: Any) -> None:
        """Publish and, at QoS 1, wait for the acknowledgement."""
        self.send(publish_packet(topic, payload, qos, packet_id, **more))
        if qos == 1:
            answer = self.receive()
            assert answer is not None
            assert (answer.kind, answer.packet_id) == (4, packet_id)


@dataclass
class House:
    """A database with an agent, the hub's credential, and the broker beside it."""

    database: Database
    broker: BrokerProcess
    agent: Agent
    hub_password: str
    wire: type[Wire] = Wire
    changes: Any = changes
    peers: list[Peer] = field(default_factory=list)

    def add(self, handle: str = "", scopes: list[str] | None = None) -> tuple[Device, str]:
        """A device and its token."""
        handle = handle or f"lamp-{uuid.uuid4().hex[:10]}"
        with self.database.transaction() as session:
            scopes = EVERY_SCOPE if scopes is None else scopes
            new = devices.add(session, self.agent.agent_id, handle, scopes=scopes, by="tests", handle=handle)
        return new.device, new.token

    def dial(self, port: int = 0, **more: Any) -> Peer:
        """A bare connection."""
        peer = Peer(port or self.broker.port, **more)
        self.peers.append(peer)
        return peer

    def device(self, scopes: list[str] | None = None, **more: Any) -> "Client":
        """A device of its own, connected."""
        device, token = self.add(scopes=scopes)
        return self.again(device.handle, token, **more)

    def again(self, handle: str, token: str, **more: Any) -> "Client":
        peer = self.dial()
        answer = peer.connect(handle, handle, token, **more)
        assert answer.body[1] == 0
        return Client(peer, handle, token, bool(answer.body[0]))

    def hub(self, **more: Any) -> "Client":
        return self.again("hub_service", self.hub_password, **more)

    def denials(self, principal: str) -> list[Any]:
        with self.database.transaction() as session:
            return list(
                session.execute(
                    text("SELECT * FROM denials WHERE principal = :p ORDER BY denial_id"), {"p": principal}
                ).all()
            )

    def denial(self, principal: str, words: str) -> Any:
        """Wait for a recorded refusal whose reason has these words."""
        return wait_until(lambda: next((d for d in self.denials(principal) if words in d.reason), None))

    def until_purged(self, topic: str) -> None:
        """Wait until nothing is retained on this topic."""
        hub = self.hub()

        def gone() -> bool:
            hub.peer.subscribe((topic, 0))
            hub.peer.unsubscribe(topic)
            hub.peer.send(b"\xc0\x00")
            found = False
            while (got := hub.peer.receive()) is not None and got.kind != 13:
                found = found or got.kind == 3
            return not found

        wait_until(gone)

    def until_refused(self, client: "Client", topic: str) -> None:
        """Publish until the device is told on `denied` that it may not: a change has taken effect."""
        deadline = time.monotonic() + 5
        while True:
            client.peer.send(publish_packet(topic, b"{}"))
            client.peer.send(b"\xc0\x00")
            got = client.peer.receive()
            if got is not None and got.kind == 3:
                return
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def hang_up(self) -> None:
        for peer in self.peers:
            with contextlib.suppress(OSError):
                peer.close()
        self.peers.clear()


@dataclass
class Client:
    """A connected peer that knows who it is."""

    peer: Peer
    handle: str
    token: str
    session_present: bool

    def topic(self, *rest: str) -> str:
        return "/".join((ROOT, "d", self.handle, *rest))


@contextlib.contextmanager
def furnished(database_url: str, log_path: Path, more: dict[str, str] | None = None) -> Iterator[House]:
    database = Database(database_url, application_name="marvain tests")
    with database.transaction() as session:
        agent = Agent(name="Home")
        session.add(agent)
        credentials.set_hub_password(session, "hub-password-of-the-tests")
    broker = BrokerProcess(database_url, log_path, more)
    house = House(database, broker, agent, "hub-password-of-the-tests")
    try:
        broker.start()
        yield house
    finally:
        house.hang_up()
        if broker.process is not None:
            broker.stop()
        database.close()


@contextlib.contextmanager
def database_copy(postgres_url: str, migrated_template: str) -> Iterator[str]:
    """A database with the newest schema that lives longer than a test; its URL."""
    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(migrated_template))
        )
    yield make_url(postgres_url).set(database=name).render_as_string(hide_password=False)
    databases.drop(postgres_url, name)


@pytest.fixture(scope="session")
def shared_house(
    postgres_url: str, migrated_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[House]:
    with (
        database_copy(postgres_url, migrated_template) as url,
        furnished(url, tmp_path_factory.mktemp("broker") / "log") as house,
    ):
        yield house
        assert "Traceback" not in house.broker.log(), house.broker.log()


@pytest.fixture
def house(shared_house: House) -> Iterator[House]:
    """The house all tests share; each uses devices of its own."""
    yield shared_house
    shared_house.hang_up()


@pytest.fixture
def own_house(database_url: str, tmp_path: Path) -> Iterator[House]:
    """A broker and a database of this test alone, to be broken."""
    with furnished(database_url, tmp_path / "broker.log") as house:
        yield house


@pytest.fixture(scope="session")
def kit() -> SimpleNamespace:
    """The tools above, for tests that set up a broker of another kind."""
    return SimpleNamespace(
        BrokerProcess=BrokerProcess, Peer=Peer, wire=Wire, free_port=free_port, wait_until=wait_until
    )


@pytest.fixture(scope="module")
def house_with(
    postgres_url: str, migrated_template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., House]]:
    """Furnishes houses of one file's tests, whose brokers have settings of their own (`MARVAIN_…` variables)."""
    with contextlib.ExitStack() as stack:

        def furnish(more: dict[str, str]) -> House:
            url = stack.enter_context(database_copy(postgres_url, migrated_template))
            log_path = tmp_path_factory.mktemp("broker") / "log"
            return stack.enter_context(furnished(url, log_path, more))

        yield furnish
