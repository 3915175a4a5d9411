"""`marvain up`: PostgreSQL, broker, hub, web and a demo satellite as processes of one instance, watched together."""

import asyncio
import contextlib
import os
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from urllib.parse import quote

import msgspec
import structlog

from marvain import addresses, ports
from marvain.child import Child, Launch
from marvain.console import Console
from marvain.embedded_postgres import EmbeddedPostgres
from marvain.instance import Instance, Ports, Running, write_private
from marvain.parent_death import die_with_parent
from marvain.prepared import NotPrepared, Prepared, schema_digest
from marvain.refusal import CONFIG, REFUSED, StartFault

log = structlog.get_logger(__name__)

READY_TIMEOUT_S = 60.0
START_ATTEMPTS = 3
STOP_PATIENCE_S = 10.0
POSTGRES_PATIENCE_S = 60.0


@dataclass(frozen=True)
class Wishes:
    """What `marvain up` was asked for."""

    host: str = "127.0.0.1"
    asked: Ports = field(default_factory=Ports)
    demo: bool = True
    database_url: str | None = None


class Supervisor:
    """One run of one instance; its folder is held by the caller."""

    def __init__(self, instance: Instance, wishes: Wishes, console: Console) -> None:
        self.instance = instance
        self.wishes = wishes
        self.console = console
        self.children: dict[str, Child] = {}
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()

    async def run(self) -> int:
        """Start everything, watch it until a signal comes, stop everything; the exit code."""
        self._hear_signals()
        starting = asyncio.create_task(self._start())
        stopping = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                if starting.exception() is not None:
                    # Whatever it was, the next start looks at the schema before anything else.
                    self.instance.note_schema(None)
                summary = starting.result()
                print(summary, flush=True)  # noqa: T201  it is for the person at the terminal
                await stopping
        finally:
            starting.cancel()
            stopping.cancel()
            await asyncio.gather(starting, stopping, return_exceptions=True)
            await self._stop_all()
        return 0

    def _hear_signals(self) -> None:
        def heard() -> None:
            if self._stop.is_set():
                self._hurry.set()
            self._stop.set()

        loop = asyncio.get_running_loop()
        for which in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.add_signal_handler(which, heard)

    async def _start(self) -> str:
        began = time.monotonic()
        host = self.wishes.host
        chosen = self._choose(host)
        for note in chosen.notes:
            self.console.say(note, level="warning")
        url = await self._database()
        environment = self._environment(url, chosen)
        preparing = asyncio.create_task(self._prepare(environment))
        digest = schema_digest()
        # The usual restart: nothing to migrate, so the services need not wait for what looks at that.
        if not self.instance.has_schema(digest):
            await preparing
        local, mqtt_host = addresses.to_dial(host), _mqtt_host(host)
        for name in ("broker", "hub", "web"):
            self._add(name, [sys.executable, "-m", name], environment)
        await asyncio.gather(
            self._until_ready("broker", lambda: addresses.listens(mqtt_host, chosen.mqtt)),
            self._until_ready("web", lambda: addresses.answers_http(local, chosen.web, "/sign-in")),
            self._until_ready("hub", self.children["hub"].ready.wait),
            preparing,
        )
        prepared = preparing.result()
        self.instance.note_schema(digest)
        if prepared.demo:
            self._add_demo(addresses.join(mqtt_host, chosen.mqtt))

        running = Running(
            web=f"http://{addresses.join(local, chosen.web)}",
            mqtt=addresses.join(mqtt_host, chosen.mqtt),
            ws=addresses.join("127.0.0.1", chosen.ws),
            pid=os.getpid(),
            host=host,
        )
        self.instance.remember_ports(Ports(chosen.web, chosen.mqtt, chosen.ws))
        self.instance.announce(running)
        log.info("marvain.ready", seconds=round(time.monotonic() - began, 1))
        return self._summary(running, prepared.setup_token)

    async def _database(self) -> str:
        """The URL of the database that this run uses; ours is started."""
        given = self.wishes.database_url
        if given is not None:
            write_private(self.instance.database_url_file, given + "\n")
            return given
        self.instance.database_url_file.unlink(missing_ok=True)
        server = EmbeddedPostgres(self.instance.folder)

        async def launch() -> Launch:
            await asyncio.to_thread(server.prepare)
            return Launch(server.argv(), server.popen_options())

        child = Child("postgres", launch, self.console, stop_signal=signal.SIGINT)
        self.children["postgres"] = child
        child.start()

        async def answers() -> bool:
            process = child.process
            return process is not None and await asyncio.to_thread(server.poll_ready, process.pid)

        await self._until_ready("postgres", answers)
        return server.url

    async def _prepare(self, environment: dict[str, str]) -> Prepared:
        """Run marvain.preparation, in a process of its own: it loads the whole domain, which we need not keep."""
        argv = [sys.executable, "-m", "marvain.preparation", str(self.instance.folder)]
        process = await asyncio.create_subprocess_exec(
            *(argv if self.wishes.demo else [*argv, "--no-demo"]),
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            process_group=0,
            preexec_fn=die_with_parent(signal.SIGTERM),
        )
        try:
            answer, lines = await process.communicate()
        except asyncio.CancelledError:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            raise
        for line in lines.splitlines():
            self.console.line("marvain", line)
        if process.returncode != 0:
            words = lines.decode(errors="replace").strip().splitlines() or ["it said nothing"]
            raise StartFault(f"the database could not be prepared: {words[-1]}")
        told = msgspec.json.decode(answer, type=Prepared | NotPrepared)
        if isinstance(told, NotPrepared):
            raise StartFault(told.message, told.exit_code)
        return told

    def _choose(self, host: str) -> ports.Chosen:
        """The ports of this run; those of a broker elsewhere are not ours to choose."""
        asked = self.wishes.asked
        if not _broker_is_elsewhere():
            return ports.choose(host, asked, self.instance.last_ports())
        chosen = ports.choose(host, Ports(web=asked.web), self.instance.last_ports())
        return replace(chosen, mqtt=asked.mqtt or ports.USUAL["mqtt"], ws=asked.ws or ports.USUAL["ws"], notes=())

    def _environment(self, url: str, chosen: ports.Chosen) -> dict[str, str]:
        host = self.wishes.host
        level = "DEBUG" if os.environ.get("MARVAIN_LOG_LEVEL", "").upper() == "DEBUG" else "INFO"
        return {
            **os.environ,
            "PYTHONUNBUFFERED": "1",
            "MARVAIN_DATABASE_URL": url,
            "MARVAIN_HUB_PASSWORD_FILE": str(self.instance.hub_password_file),
            "MARVAIN_SECRETS_KEY_FILE": str(self.instance.have_secrets_key()),
            "MARVAIN_BROKER_HOST": host,
            "MARVAIN_BROKER_STORE": os.environ.get("MARVAIN_BROKER_STORE") or str(self._broker_folder()),
            "MARVAIN_MQTT_HOST": _mqtt_host(host),
            "MARVAIN_MQTT_PORT": str(chosen.mqtt),
            "MARVAIN_WS_PORT": str(chosen.ws),
            "MARVAIN_WEB_HOST": host,
            "MARVAIN_WEB_PORT": str(chosen.web),
            "MARVAIN_PUBLIC_MQTT_HOST": os.environ.get("MARVAIN_PUBLIC_MQTT_HOST") or addresses.seen_from_outside(host),
            # The console makes text of it; see marvain/console.py.
            "MARVAIN_LOG_FORMAT": "json",
            "MARVAIN_LOG_LEVEL": level,
        }

    def _broker_folder(self) -> Path:
        """Where the broker keeps what must survive a restart: people's messages, so for nobody else's eyes."""
        folder = self.instance.folder / "broker"
        # Root's can be passed through, for Mosquitto's account and its own closed folder in there.
        passable = os.environ.get("MARVAIN_BROKER") == "mosquitto" and os.geteuid() == 0
        folder.mkdir(mode=0o700, exist_ok=True)
        folder.chmod(0o711 if passable else 0o700)
        return folder

    def _add(
        self, name: str, argv: list[str], environment: dict[str, str], final: dict[int, str] | None = None
    ) -> None:
        async def launch() -> Launch:
            return Launch(argv, {"env": environment})

        self.children[name] = Child(name, launch, self.console, final=final)
        self.children[name].start()

    def _add_demo(self, broker: str) -> None:
        folder = self.instance.demo
        argv = [sys.executable, "-m", "satellite_agent", "run", *_way_to(broker)]
        argv += ["--token-file", str(folder / "token"), "--state-dir", str(folder / "state")]
        # It is a device like any other: nothing of ours is in its environment.
        environment = {key: value for key, value in os.environ.items() if not key.startswith("MARVAIN_")}
        gone = "was refused for good (revoked, or its token was replaced); it is not started again"
        self._add("satellite", argv, environment | {"PYTHONUNBUFFERED": "1"}, final={REFUSED: gone})

    async def _until_ready(self, name: str, check: Callable[[], Awaitable[bool]]) -> None:
        """Wait until `check` says so; raises StartFault when the service says it cannot, or takes too long."""
        child = self.children[name]
        deadline = time.monotonic() + READY_TIMEOUT_S
        while True:
            with contextlib.suppress(TimeoutError):
                if await asyncio.wait_for(check(), 1.0):
                    return
            words = " | ".join(child.last_lines) or "it said nothing"
            if child.exit_code == CONFIG:
                raise StartFault(f"{name} refuses its settings: {words}", CONFIG)
            if child.failures >= START_ATTEMPTS:
                raise StartFault(f"{name} does not start: {words}")
            if time.monotonic() > deadline:
                raise StartFault(f"{name} is not ready after {READY_TIMEOUT_S:.0f} s: {words}")
            await asyncio.sleep(0.02)

    async def _stop_all(self) -> None:
        self.instance.retract()
        if any(not child.ended_for_good for child in self.children.values()):
            self.console.say("stopping")
        for name in ("satellite", "web", "hub", "broker", "postgres"):
            child = self.children.get(name)
            if child is not None:
                await child.stop(POSTGRES_PATIENCE_S if name == "postgres" else STOP_PATIENCE_S, self._hurry)
        self.console.say("stopped; all data is kept in " + str(self.instance.folder))

    def _summary(self, running: Running, setup_token: str | None) -> str:
        mqtt, web = running.mqtt, running.web
        if setup_token is None:
            enter = f"sign in   {web}/sign-in"
        else:
            enter = f"set up    {web}/setup/{quote(setup_token)}\n            (works once, for the first admin)"
        outside = addresses.seen_from_outside(running.host)
        if outside != addresses.to_dial(running.host):
            _, _, port = mqtt.rpartition(":")
            mqtt = f"{addresses.join(outside, int(port))} (other machines), {mqtt} (this one)"
        return (
            f"\nMarvain is up.\n\n  {enter}\n  web       {web}\n  MQTT      {mqtt}\n  WebSocket {web}/mqtt (browsers)\n"
            f"  data      {self.instance.folder}\n{_commands()}\n  Ctrl-C stops it; nothing is lost.\n"
        )


def _broker_is_elsewhere() -> bool:
    return os.environ.get("MARVAIN_BROKER") == "external"


def _mqtt_host(host: str) -> str:
    """Where hub and web find the broker: here, unless it runs elsewhere."""
    local = addresses.to_dial(host)
    return os.environ.get("MARVAIN_MQTT_HOST") or local if _broker_is_elsewhere() else local


def _way_to(broker: str) -> list[str]:
    """The satellite's options for reaching the broker, over TLS when that has a certificate."""
    certificate = os.environ.get("MARVAIN_TLS_CERT_FILE")
    if not certificate:
        return ["--hub", f"mqtt://{broker}"]
    if name := os.environ.get("MARVAIN_PUBLIC_MQTT_HOST"):
        broker = addresses.join(name, int(broker.rpartition(":")[2]))
    # One certificate has signed itself; others come with those who signed them, whom the system knows.
    alone = Path(certificate).read_text(encoding="ascii", errors="replace").count("BEGIN CERTIFICATE") == 1
    return ["--hub", f"mqtts://{broker}", *(["--ca-file", certificate] if alone else [])]


def _commands() -> str:
    """How to have `marvain` and `marvain-satellite` in another terminal, when they are not on the path already."""
    activate = Path(sys.prefix) / "bin" / "activate"
    if shutil.which("marvain-satellite") or not activate.exists():
        return ""
    how = "in another terminal, for marvain and marvain-satellite"
    return f"  commands  . {shlex.quote(str(activate))}\n            ({how})\n"


def up(instance: Instance, wishes: Wishes, console: Console) -> int:
    """Run the instance until a signal; the exit code. Raises `Refusal`."""
    console.take_over_logging()
    with instance.held("up"):
        instance.retract()
        return asyncio.run(_run(instance, wishes, console))


async def _run(instance: Instance, wishes: Wishes, console: Console) -> int:
    return await Supervisor(instance, wishes, console).run()
