"""Debian's Mosquitto as a private child: found, configured, started, stopped, and never left behind."""

import asyncio
import contextlib
import ctypes
import fcntl
import os
import pwd
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import structlog

from hub.errors import HubError
from hub.settings import Settings

log = structlog.get_logger(__name__)

PLUGIN: Final = "mosquitto_dynamic_security.so"
LIBRARIES: Final = ("/usr/lib", "/usr/local/lib", "/opt/homebrew/lib")
ACCOUNT: Final = "mosquitto"
START_TIMEOUT_S: Final = 10.0
STOP_TIMEOUT_S: Final = 8.0
# What the adapter and the largest role of ours need, whatever devices may send.
_LEAST_PACKET: Final = 256 * 1024
_QUEUED_MESSAGES: Final = 20_000
_QUEUED_BYTES: Final = 64 * 1024**2
# While the hub stores some, the next are on their way to it.
_INFLIGHT: Final = 4_000
_LOG_BYTES: Final = 2**20
_PR_SET_PDEATHSIG: Final = 1
# Looked up before any fork: the time between fork and exec is no time for loading libraries.
_prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else None
# For each command the plugin builds its whole file in small pieces and frees them: without these, glibc gives the
# memory back and takes it again each time, and merges the pieces. Some 20 MB stay.
_ALLOCATOR: Final = ":".join(
    f"glibc.malloc.{name}"
    for name in ("trim_threshold=268435456", "top_pad=16777216", "mmap_threshold=33554432", "mxfast=0")
)


class NotInstalled(HubError):
    """Mosquitto or its plugin is not on this machine."""


class DidNotStart(OSError):
    """Mosquitto ended at its start, or does not listen."""


@dataclass(frozen=True, slots=True)
class Installed:
    """Where the program and the plugin are."""

    program: Path
    plugin: Path


def find(programs: str | None = None, libraries: Sequence[str] = LIBRARIES) -> Installed:
    """Mosquitto as it is installed here; raises `NotInstalled` with what to install.

    `programs` are folders as in PATH, by default that and where Debian keeps servers.
    """
    path = f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/usr/local/sbin" if programs is None else programs
    program = shutil.which("mosquitto", path=path)
    if program is None:
        raise NotInstalled(
            "MARVAIN_BROKER=mosquitto needs Mosquitto 2; install it (Debian: apt install mosquitto), or use the"
            " embedded broker"
        )
    for place in libraries:
        for plugin in sorted([*Path(place).glob(PLUGIN), *Path(place).glob(f"*/{PLUGIN}")]):
            return Installed(Path(program), plugin)
    raise NotInstalled(
        f"Mosquitto is here, and its plugin {PLUGIN} is not; it comes with Mosquitto 2 (Debian: apt install mosquitto)"
    )


class Server:
    """One folder, in which Mosquitto is started again and again."""

    def __init__(self, settings: Settings, installed: Installed) -> None:
        self._settings = settings
        self._installed = installed
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        if settings.broker_store is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="marvain-mosquitto-")
            store = Path(self._temporary.name)
        else:
            store = settings.broker_store
            store.mkdir(mode=0o711 if os.geteuid() == 0 else 0o700, parents=True, exist_ok=True)
        self.store = store
        self.folder = store / "mosquitto"
        self.folder.mkdir(mode=0o700, exist_ok=True)
        self._account = _account(store, is_temporary=self._temporary is not None)
        self.process: asyncio.subprocess.Process | None = None

    @property
    def keeps(self) -> bool:
        """Whether sessions and retained messages outlive a restart."""
        return self._temporary is None

    def close(self) -> None:
        if self._temporary is not None:
            self._temporary.cleanup()

    async def start(self, document: bytes) -> asyncio.StreamReader:
        """Start it with this configuration of the plugin; its log. Raises `DidNotStart` when it cannot run at all."""
        self._write("dynamic-security.json", document)
        self._write("mosquitto.conf", self._configuration().encode())
        options: dict[str, Any] = {}
        if self._account is not None:
            for file in (self.folder, *self.folder.iterdir()):
                os.chown(file, self._account.pw_uid, self._account.pw_gid)
            options = {"user": self._account.pw_uid, "group": self._account.pw_gid, "extra_groups": []}
        log_end, its_end = _pipe()
        try:
            self.process = await asyncio.create_subprocess_exec(
                self._installed.program,
                "-c",
                self.folder / "mosquitto.conf",
                stdin=asyncio.subprocess.DEVNULL,
                stdout=its_end,
                stderr=asyncio.subprocess.STDOUT,
                env={"PATH": os.defpath, "GLIBC_TUNABLES": _ALLOCATOR},
                cwd="/",
                process_group=0,
                preexec_fn=_die_with_us(),
                **options,
            )
        except OSError as error:
            os.close(log_end)
            raise DidNotStart(f"{self._installed.program} cannot be run: {error}") from None
        finally:
            os.close(its_end)
        log_ = asyncio.StreamReader(_LOG_BYTES)
        await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(log_), os.fdopen(log_end, "rb", 0)
        )
        return log_

    async def until_listening(self) -> bool:
        """Whether it listens; False when it has ended, or takes too long."""
        process = self.process
        deadline = asyncio.get_running_loop().time() + START_TIMEOUT_S
        while process is not None and process.returncode is None and asyncio.get_running_loop().time() < deadline:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection(self._settings.mqtt_host, self._settings.mqtt_port)
                writer.close()
                return process.returncode is None
            await asyncio.sleep(0.02)
        return False

    async def stop(self) -> None:
        """End it in order, so that it writes down what it keeps; by force when it takes too long."""
        process = self.process
        if process is None:
            return
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), STOP_TIMEOUT_S)
                return

    def _configuration(self) -> str:
        settings = self._settings
        lines = [
            "per_listener_settings false",
            "allow_anonymous false",
            "allow_zero_length_clientid false",
            f"plugin {self._installed.plugin}",
            f"plugin_opt_config_file {self.folder / 'dynamic-security.json'}",
            f"persistence {'true' if self.keeps else 'false'}",
            f"persistence_location {self.folder}/",
            "persistence_file mosquitto.db",
            "autosave_interval 60",
            # Hours are the smallest unit but one that it takes.
            f"persistent_client_expiration {max(1, round(settings.broker_session_expiry_s / 3600))}h",
            f"max_packet_size {max(settings.broker_max_packet_bytes, _LEAST_PACKET)}",
            f"max_inflight_messages {_INFLIGHT}",
            f"max_queued_messages {_QUEUED_MESSAGES}",
            f"max_queued_bytes {_QUEUED_BYTES}",
            "upgrade_outgoing_qos false",
            "set_tcp_nodelay true",
            "sys_interval 10",
            "connection_messages true",
            "log_timestamp false",
            *(f"log_type {kind}" for kind in ("error", "warning", "notice", "subscribe", "unsubscribe")),
            # The debug log tells what was refused, and has a line for each message: gathered, not written one by one.
            *(["log_dest stdout", "log_type debug"] if settings.mosquitto_refusals else ["log_dest stderr"]),
        ]
        if self._account is None and os.geteuid() == 0:
            lines.append("user root")
        tls = self._tls()
        for port, protocol in ((settings.mqtt_port, "mqtt"), (settings.ws_port, "websockets")):
            lines += [f"listener {port} {settings.broker_host}", f"protocol {protocol}", *tls]
        return "\n".join(lines) + "\n"

    def _tls(self) -> list[str]:
        """The certificate beside the configuration, where the account that runs it can read it."""
        lines = []
        for name, file in (("certfile", self._settings.tls_cert_file), ("keyfile", self._settings.tls_key_file)):
            if file is not None:
                self._write(f"{name}.pem", file.read_bytes())
                lines.append(f"{name} {self.folder / f'{name}.pem'}")
        return [*lines, "tls_version tlsv1.2"] if lines else []

    def _write(self, name: str, content: bytes) -> None:
        # Anew and never through what stands there: the folder may belong to another account.
        file = self.folder / name
        file.unlink(missing_ok=True)
        with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as opened:
            opened.write(content)


def _pipe() -> tuple[int, int]:
    """A pipe for the log, (for us, for it), that holds much: while nobody reads from a full one Mosquitto waits."""
    ours, its = os.pipe()
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            fcntl.fcntl(its, fcntl.F_SETPIPE_SZ, _LOG_BYTES)
    return ours, its


def _account(store: Path, *, is_temporary: bool) -> pwd.struct_passwd | None:
    """Whom root runs Mosquitto as: Debian's account, when there is one and it can reach the folder."""
    if os.geteuid() != 0:
        return None
    try:
        account = pwd.getpwnam(ACCOUNT)
    except KeyError:
        return None
    if is_temporary:
        store.chmod(0o711)
    closed = next((str(one) for one in (store, *store.absolute().parents) if not one.stat().st_mode & 0o001), None)
    if closed is None:
        return account
    log.warning("mosquitto.runs_as_root", why=f"the account {ACCOUNT} cannot pass through {closed}")
    return None


def _die_with_us() -> Callable[[], None] | None:
    """Have the kernel end the child when we are gone, even by kill -9; after the change of user, which clears it."""
    if _prctl is None:
        return None
    prctl, parent = _prctl, os.getpid()

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM.value)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGTERM)

    return ask
