"""The parts of an instance looked at one by one: what was found, whether that is well, and what to do if not."""

import asyncio
import os
import secrets
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import sqlalchemy.exc

from broker.mosquitto.server import find as find_mosquitto
from hub import migrations
from hub.database import libpq_url
from hub.errors import HubError
from hub.one_hub import ONE_HUB_LOCK
from marvain import addresses
from marvain.instance import Instance, Running
from marvain.preparation import DEMO_HANDLE
from marvain.reach import database_url
from marvain.refusal import Refusal

LOW_SPACE = 1 << 30
POSTGRES_LEAST = 150_000
# A CONNECT of MQTT 3.1.1 with clean session and a client id that nobody has: the answer must be a refusal.
_STRANGER = "doctor_"


@dataclass(frozen=True)
class Finding:
    """`ok` is None for what is worth saying and no fault."""

    part: str
    ok: bool | None
    found: str
    to_do: str = ""


def examine(instance: Instance) -> Iterator[Finding]:
    """All checks, in the order in which the parts need each other."""
    running = instance.running()
    yield _python()
    yield _folder(instance)
    yield _up(instance, running)
    yield from _database(instance, running)
    yield from _mosquitto()
    if running is not None:
        yield _broker(running)
        yield _web(running)
    yield _test_programs()


def _python() -> Finding:
    version = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info < (3, 11):  # noqa: UP036  whoever asks the doctor may have got here in odd ways
        return Finding("python", False, version, "install Python 3.11 or newer and make the environment again")
    return Finding("python", True, f"{version} in {sys.prefix}")


def _folder(instance: Instance) -> Finding:
    place = instance.folder
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    said = f"{instance.folder} ({free / (1 << 30):.1f} GiB free)"
    if free < LOW_SPACE:
        return Finding("disk", False, said, "make room: PostgreSQL stops when the disk is full")
    if instance.folder.exists() and not os.access(instance.folder, os.W_OK):
        return Finding("disk", False, f"{instance.folder} is not yours", "run this as the user that runs Marvain")
    return Finding("disk", True, said)


def _up(instance: Instance, running: Running | None) -> Finding:
    if running is not None:
        return Finding("instance", True, f"up as process {running.pid}, {running.web}")
    if (holder := instance.holder()) is not None:
        return Finding("instance", None, f"process {holder[0]} is starting or at work", "look again in a moment")
    return Finding("instance", None, "not running, so broker, hub and web are not looked at", "start it: marvain up")


def _database(instance: Instance, running: Running | None) -> Iterator[Finding]:
    to_do = "read the messages of `marvain up`; with a server of your own, check MARVAIN_DATABASE_URL"
    try:
        with database_url(instance) as url, psycopg.connect(libpq_url(url), connect_timeout=5) as connection:
            yield from _postgres(connection)
            yield _schema(url)
            if running is not None:
                yield _hub(connection)
                yield from _adapter(connection)
                yield _demo(connection)
    except HubError as error:
        yield Finding("postgres", None if running is None else False, error.message)
    except (psycopg.Error, sqlalchemy.exc.SQLAlchemyError, Refusal, OSError) as error:
        yield Finding("postgres", False, str(error).strip().splitlines()[0], to_do)


def _postgres(connection: psycopg.Connection) -> Iterator[Finding]:
    number = connection.info.server_version
    version = f"PostgreSQL {number // 10_000}.{number % 10_000}"
    if number < POSTGRES_LEAST:
        yield Finding("postgres", False, version, "use PostgreSQL 15 or newer")
        return
    yield Finding("postgres", True, version)
    row = connection.execute("SELECT extversion FROM pg_extension WHERE extname = 'vector'").fetchone()
    if row is not None:
        yield Finding("pgvector", True, str(row[0]))
        return
    row = connection.execute("SELECT default_version FROM pg_available_extensions WHERE name = 'vector'").fetchone()
    if row is None:
        yield Finding("pgvector", False, "not installed on the server", "install pgvector there")
    else:
        yield Finding("pgvector", None, f"{row[0]}, not yet created", "marvain migrate creates it")


def _schema(url: str) -> Finding:
    try:
        migrations.check(url)
    except HubError as error:
        return Finding("schema", False, error.message, "run: marvain migrate")
    return Finding("schema", True, "up to date")


def _hub(connection: psycopg.Connection) -> Finding:
    lock = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND classid = 0 AND objid = %s"
    row = connection.execute(lock, [ONE_HUB_LOCK]).fetchone()
    if row is None or row[0] == 0:
        return Finding("hub", False, "no hub is at work on this database", "read the lines of hub from `marvain up`")
    waiting = connection.execute("SELECT count(*) FROM outbox WHERE created_at < now() - interval '10 s'")
    count = (waiting.fetchone() or (0,))[0]
    if count:
        return Finding("hub", False, f"{count} messages wait for longer than 10 s", "does the hub reach the broker?")
    return Finding("hub", True, "connected, nothing waits to be sent")


def _mosquitto() -> Iterator[Finding]:
    """Whether Mosquitto is here when it is asked for."""
    if os.environ.get("MARVAIN_BROKER") != "mosquitto":
        return
    try:
        installed = find_mosquitto()
    except HubError as error:
        yield Finding("mosquitto", False, error.message, "install it, or leave MARVAIN_BROKER unset")
    else:
        yield Finding("mosquitto", True, f"{installed.program} with {installed.plugin.name}")


def _adapter(connection: psycopg.Connection) -> Iterator[Finding]:
    """What the adapter of a broker that is not the embedded one last said of it."""
    row = connection.execute(
        "SELECT kind, reported_at > now() - interval '30 s', detail FROM broker_state WHERE kind <> 'embedded'"
    ).fetchone()
    if row is None:
        return
    kind, is_fresh, detail = row
    if not is_fresh:
        yield Finding("adapter", False, f"the adapter of the {kind} broker is silent", "read the lines of broker")
    elif detail.get("open_defaults"):
        allowed = ", ".join(detail["open_defaults"])
        yield Finding(
            "adapter",
            False,
            f"the broker allows without any grant: {allowed}",
            "mosquitto_ctrl … setDefaultACLAccess … deny",
        )
    elif names := [*detail.get("needs_token", ()), *detail.get("foreign", ())]:
        yield Finding(
            "adapter", False, f"cannot get in: {', '.join(names)}", "give each a new token; see docs/brokers.md"
        )
    else:
        found = detail.get("drift_found", 0)
        yield Finding("adapter", True, f"{kind}: {detail.get('accounts', 0)} accounts held, {found} differences mended")


def _broker(running: Running) -> Finding:
    host, port = addresses.split(running.mqtt)
    try:
        code = asyncio.run(_stranger_connects(host, port))
    except (OSError, TimeoutError, EOFError) as error:
        return Finding("broker", False, f"{running.mqtt} does not speak MQTT ({error})", "read the lines of broker")
    if code == 0:
        return Finding("broker", False, f"{running.mqtt} let a stranger in", "another broker listens there; stop it")
    return Finding("broker", True, f"{running.mqtt} answers and refuses strangers")


async def _stranger_connects(host: str, port: int) -> int:
    """The return code that the broker's CONNACK gives to somebody without a name."""
    client = (_STRANGER + secrets.token_hex(4)).encode()
    body = b"\x00\x04MQTT\x04\x02\x00\x05" + len(client).to_bytes(2, "big") + client
    async with asyncio.timeout(5):
        reader, writer = await asyncio.open_connection(host, port)
        try:
            writer.write(b"\x10" + bytes([len(body)]) + body)
            answer = await reader.readexactly(4)
        finally:
            writer.close()
    if answer[:2] != b"\x20\x02":
        raise OSError("an answer that is no CONNACK")
    return answer[3]


def _web(running: Running) -> Finding:
    host, port = addresses.split(running.web.removeprefix("http://"))
    if asyncio.run(addresses.answers_http(host, port, "/sign-in")):
        return Finding("web", True, f"{running.web} answers")
    return Finding("web", False, f"{running.web} does not answer", "read the lines of web from `marvain up`")


def _demo(connection: psycopg.Connection) -> Finding:
    row = connection.execute(
        "SELECT revoked_at IS NOT NULL, verdict, why FROM devices JOIN device_presence USING (device_id)"
        " WHERE handle = %s",
        [DEMO_HANDLE],
    ).fetchone()
    if row is None or row[0]:
        return Finding("demo", None, "no demo satellite here" if row is None else "the demo satellite was revoked")
    if row[1] == "online":
        return Finding("demo", True, "the demo satellite is online")
    return Finding(
        "demo", None, f"the demo satellite is {row[1]} ({row[2]})", "fine with --no-demo, else read its lines"
    )


def _test_programs() -> Finding:
    def missing(name: str, find: Callable[[str], str | None] = shutil.which) -> bool:
        return find(name) is None and not Path("/usr/sbin", name).exists()

    absent = [name for name in ("chromium", "mosquitto", "mosquitto_pub") if missing(name)]
    if absent:
        return Finding("tests", None, f"missing: {', '.join(absent)}", "only `make test` needs them, and installs them")
    return Finding("tests", True, "chromium, mosquitto and mosquitto_pub are there")
