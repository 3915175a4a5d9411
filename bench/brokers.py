"""Starts each broker that is measured, with the names `device-N`, `idle-N` and `hub_service`, all with one secret.

`ours` is the product's own process with a Postgres of its own beside it, grants on, limits out of the way of the load.
`mosquitto` has a password file and an ACL file. `amqtt` and `aedes` run as they come, open to everybody, which favours
them. Each context manager yields the port and the process id; nothing is left behind.
"""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import psycopg

from hub import migrations
from hub.access.credentials import hash_secret
from hub.database import libpq_url
from marvain.embedded_postgres import EmbeddedPostgres

REPOSITORY = Path(__file__).parents[1]
ROOT = "marvain/v1"
AGENT = "00000000-0000-4000-8000-000000000001"
# What a role lets every device hear.
TO_ALL = f"{ROOT}/x/{AGENT}/all"
SECRET = "secret"
HUB = "hub_service"
START_S = 30.0
# More than any measurement asks for.
DEVICES = 10_000
IDLE = 300

_AEDES = """
import { createServer } from 'node:net'
import { Aedes } from 'aedes'
const broker = await Aedes.createBroker({ concurrency: 1000, queueLimit: 1000 })
createServer(broker.handle).listen(Number(process.argv[2]), '127.0.0.1')
"""

_AMQTT = """
import asyncio, logging, sys
from amqtt.broker import Broker
async def main():
    logging.disable(logging.CRITICAL)
    config = {
        "listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{sys.argv[1]}", "max_connections": 0}},
        "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
    }
    broker = Broker(config)
    await broker.start()
    await asyncio.Event().wait()
try:
    import uvloop
    uvloop.run(main())
except ImportError:
    asyncio.run(main())
"""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def _process(argv: list[str], port: int, **more: object) -> Iterator[tuple[int, int]]:
    """A broker as a process of its own, once its port answers."""
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **more)
    try:
        deadline = time.monotonic() + START_S
        while True:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port)).close()
                break
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{argv[0]} does not listen (exit code {process.poll()})")
            time.sleep(0.02)
        yield port, process.pid
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Ours:
    """The embedded broker; its database is made once and serves every start."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="marvain-bench-"))
        self._server = EmbeddedPostgres(self._folder, durable=False)
        self.url = libpq_url(self._server.start())
        migrations.migrate(self.url)
        _furnish(self.url)

    def close(self) -> None:
        self._server.destroy()
        shutil.rmtree(self._folder, ignore_errors=True)

    @contextlib.contextmanager
    def __call__(self, **settings: str) -> Iterator[tuple[int, int]]:
        port = free_port()
        with tempfile.TemporaryDirectory(prefix="marvain-bench-") as store:
            environment = {
                **os.environ,
                "MARVAIN_DATABASE_URL": self.url,
                "MARVAIN_MQTT_PORT": str(port),
                "MARVAIN_WS_PORT": str(free_port()),
                "MARVAIN_LOG_LEVEL": "ERROR",
                "MARVAIN_BROKER_STORE": store,
                "MARVAIN_BROKER_CONNECTIONS_PER_ADDRESS": "1000000",
                "MARVAIN_BROKER_CONNECTS_PER_SECOND": "1000000",
                "MARVAIN_BROKER_MESSAGES_PER_SECOND": "100000000",
                "MARVAIN_BROKER_BYTES_PER_SECOND": "100000000000",
                **settings,
            }
            with _process([sys.executable, "-m", "broker"], port, cwd=REPOSITORY, env=environment) as running:
                yield running


def _furnish(url: str) -> None:
    """Devices by the thousand, all with the hash of one secret: what is measured is the checking of it."""
    with psycopg.connect(url) as connection:
        connection.execute("INSERT INTO agents (agent_id, name) VALUES (%s, 'Bench')", [AGENT])
        stored = hash_secret(SECRET)
        connection.execute(
            "INSERT INTO devices (agent_id, name, handle, scopes)"
            " SELECT %s, name, name, '[\"*\"]' FROM ("
            "  SELECT 'device-' || n AS name FROM generate_series(0, %s) n"
            "  UNION ALL SELECT 'idle-' || n FROM generate_series(0, %s) n) names",
            [AGENT, DEVICES, IDLE],
        )
        connection.execute(
            "INSERT INTO credentials (username, kind, device_id, hash)"
            " SELECT handle, 'device', device_id, %s FROM devices",
            [stored],
        )
        connection.execute(
            "WITH one AS (INSERT INTO roles (agent_id, name) VALUES (%s, 'Hears all') RETURNING role_id, agent_id),"
            " what AS (INSERT INTO role_grants (role_id, action, filter)"
            "  SELECT role_id, 'subscribe', 'x/{agent}/all' FROM one)"
            " INSERT INTO role_assignments (role_id, agent_id, all_devices) SELECT role_id, agent_id, true FROM one",
            [AGENT],
        )
        connection.execute("INSERT INTO credentials (username, kind, hash) VALUES ('hub_service', 'hub', %s)", [stored])


@contextlib.contextmanager
def mosquitto(*, tuned: bool = False) -> Iterator[tuple[int, int]]:
    """Debian's Mosquitto with passwords and ACLs."""
    port = free_port()
    program = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
    with tempfile.TemporaryDirectory(prefix="marvain-bench-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        passwords, acl, config = folder / "passwords", folder / "acl", folder / "mosquitto.conf"
        # Its file has the form of ours: PBKDF2-SHA512, so that both pay the same for a password.
        _, iterations, salt, digest = hash_secret(SECRET).split("$")
        names = [HUB, *(f"device-{n}" for n in range(DEVICES)), *(f"idle-{n}" for n in range(IDLE))]
        passwords.write_text("".join(f"{one}:$7${iterations}${salt}${digest}\n" for one in names))
        acl.write_text(
            f"user {HUB}\ntopic readwrite {ROOT}/#\n\npattern readwrite {ROOT}/d/%u/#\npattern read {TO_ALL}\n"
        )
        config.write_text(
            f"listener {port} 127.0.0.1\nallow_anonymous false\npassword_file {passwords}\nacl_file {acl}\n"
            "max_queued_messages 200000\nmax_connections -1\n"
            + ("set_tcp_nodelay true\nmax_inflight_messages 2000\n" if tuned else "")
        )
        for path in (passwords, acl, config):
            path.chmod(0o644)
        with _process([program, "-c", str(config)], port) as running:
            yield running


@contextlib.contextmanager
def amqtt() -> Iterator[tuple[int, int]]:
    """What amqtt is as it comes."""
    port = free_port()
    with _process([sys.executable, "-c", _AMQTT, str(port)], port) as running:
        yield running


class Aedes:
    """aedes from npm, installed into a folder of its own."""

    VERSION = "1.2.0"

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="marvain-bench-"))
        (self._folder / "package.json").write_text('{"type": "module", "private": true}\n')
        (self._folder / "broker.js").write_text(_AEDES)
        subprocess.run(
            ["npm", "install", "--silent", "--no-fund", "--no-audit", f"aedes@{self.VERSION}"],
            cwd=self._folder,
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def close(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    @contextlib.contextmanager
    def __call__(self) -> Iterator[tuple[int, int]]:
        port = free_port()
        with _process(["node", "broker.js", str(port)], port, cwd=self._folder) as running:
            yield running


@contextlib.contextmanager
def installed(
    asked: list[str],
) -> Iterator[dict[str, Callable[..., contextlib.AbstractContextManager[tuple[int, int]]]]]:
    """The brokers asked for, by name; what this machine lacks is named and left out."""
    found: dict[str, Callable[..., contextlib.AbstractContextManager[tuple[int, int]]]] = {}
    with contextlib.ExitStack() as stack:
        for name in asked:
            if name == "ours":
                found[name] = ours = Ours()
                stack.callback(ours.close)
            elif name == "mosquitto" and (shutil.which("mosquitto") or Path("/usr/sbin/mosquitto").exists()):
                found[name] = mosquitto
            elif name == "amqtt":
                found[name] = amqtt
            elif name == "aedes" and shutil.which("npm") and shutil.which("node"):
                try:
                    found[name] = aedes = Aedes()
                except subprocess.CalledProcessError:
                    print("aedes: npm could not install it; left out", file=sys.stderr)
                else:
                    stack.callback(aedes.close)
            else:
                print(f"{name}: not on this machine; left out", file=sys.stderr)
        yield found
