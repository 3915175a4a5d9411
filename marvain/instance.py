"""The data folder of one Marvain: where its parts stand, its secrets, who uses it now and under which addresses."""

import contextlib
import fcntl
import json
import os
import secrets
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import msgspec
from platformdirs import user_data_path

from marvain.postgres_bundle import SYSTEM_FOLDER
from marvain.refusal import InUse, NotOurs


class Running(msgspec.Struct, frozen=True):
    """What `run.json` says while an instance is up; no secrets."""

    web: str
    mqtt: str
    ws: str
    pid: int
    host: str = "127.0.0.1"


class Ports(msgspec.Struct, frozen=True):
    """The ports used last, so that the next start prefers them: devices were told these."""

    web: int | None = None
    mqtt: int | None = None
    ws: int | None = None


def default_folder() -> Path:
    """MARVAIN_DATA; else /var/lib/marvain/default for root, and a user's own data folder for everybody else."""
    chosen = os.environ.get("MARVAIN_DATA")
    if chosen:
        return Path(chosen)
    return SYSTEM_FOLDER / "default" if os.geteuid() == 0 else user_data_path("marvain")


class Instance:
    """One data folder; made when it is missing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.expanduser().absolute()
        self.run_file = self.folder / "run.json"
        self.ports_file = self.folder / "ports.json"
        self.secrets = self.folder / "secrets"
        self.demo = self.folder / "demo"
        self.hub_password_file = self.secrets / "hub-password"
        self.secrets_key_file = self.secrets / "secrets-key"
        self.database_url_file = self.secrets / "database-url"
        self.schema_file = self.folder / "schema"
        self._lock_file = self.folder / "lock"

    def make(self) -> None:
        """Make the folder. Root's can be passed through, for PostgreSQL's account; a user's is closed to others."""
        self.folder.mkdir(mode=0o711 if os.geteuid() == 0 else 0o700, parents=True, exist_ok=True)
        self._check_owner(self.folder)
        self.secrets.mkdir(mode=0o700, exist_ok=True)
        self._check_owner(self.secrets)

    def _check_owner(self, folder: Path) -> None:
        """Whoever else could put files or links here would read our secrets, and make root write to any place."""
        facts = folder.stat()
        if facts.st_uid != os.geteuid():
            raise NotOurs(f"{folder} belongs to another user; name a folder of your own with --data")
        if facts.st_mode & stat.S_IWOTH:
            raise NotOurs(f"anybody may write to {folder}; run `chmod o-w {folder}` or name another with --data")

    def hub_password(self) -> str:
        """The hub service's MQTT password; made at the first call."""
        with contextlib.suppress(FileNotFoundError):
            # An empty one would let anybody be the hub.
            if kept := self.hub_password_file.read_text(encoding="utf-8").strip():
                return kept
        password = secrets.token_urlsafe(32)
        write_private(self.hub_password_file, password + "\n")
        return password

    def have_secrets_key(self) -> Path:
        """The file with the key of the secrets in the database; made at the first call, and never again."""
        if not self.secrets_key_file.exists():
            write_private(self.secrets_key_file, secrets.token_hex(32) + "\n")
        return self.secrets_key_file

    def running(self) -> Running | None:
        """Where the instance answers, when one is up; a `run.json` that a killed one left behind does not count."""
        if self.holder() is None:
            return None
        try:
            return msgspec.json.decode(self.run_file.read_bytes(), type=Running)
        except (FileNotFoundError, msgspec.DecodeError):
            return None

    def announce(self, running: Running) -> None:
        write_whole(self.run_file, msgspec.json.format(msgspec.json.encode(running), indent=2) + b"\n", mode=0o644)

    def retract(self) -> None:
        self.run_file.unlink(missing_ok=True)

    def has_schema(self, digest: str) -> bool:
        """Whether the database was last prepared for exactly these files of `sql/`; a hint, the services check it."""
        try:
            return self.schema_file.read_text(encoding="utf-8").strip() == digest
        except FileNotFoundError:
            return False

    def note_schema(self, digest: str | None) -> None:
        if digest is None:
            self.schema_file.unlink(missing_ok=True)
            return
        write_whole(self.schema_file, f"{digest}\n".encode(), mode=0o644)

    def last_ports(self) -> Ports:
        try:
            return msgspec.json.decode(self.ports_file.read_bytes(), type=Ports)
        except (FileNotFoundError, msgspec.DecodeError):
            return Ports()

    def remember_ports(self, ports: Ports) -> None:
        write_whole(self.ports_file, msgspec.json.encode(ports) + b"\n", mode=0o644)

    def holder(self) -> tuple[int, str] | None:
        """(pid, use) of the process that holds the folder now."""
        try:
            descriptor = os.open(self._lock_file, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            with contextlib.suppress(ValueError, KeyError, TypeError):
                told = json.loads(os.read(descriptor, 200))
                return int(told["pid"]), str(told["use"])
            return 0, "command"
        finally:
            os.close(descriptor)
        return None

    @contextlib.contextmanager
    def held(self, use: Literal["up", "command"], patience_s: float = 15.0) -> Iterator[None]:
        """Hold the folder alone; raises InUse at once when an instance is up, after `patience_s` for a command."""
        self.make()
        descriptor = os.open(self._lock_file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
        try:
            self._take(descriptor, patience_s)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps({"pid": os.getpid(), "use": use}).encode(), 0)
            yield
        finally:
            os.close(descriptor)

    def _take(self, descriptor: int, patience_s: float) -> None:
        deadline = time.monotonic() + patience_s
        while True:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            holder = self.holder()
            if holder is not None and (holder[1] == "up" or time.monotonic() > deadline):
                what = "Marvain is already running" if holder[1] == "up" else "another marvain command is at work"
                raise InUse(f"{what} on {self.folder} (process {holder[0]})")
            time.sleep(0.05)


def write_private(file: Path, text: str) -> None:
    """Write a secret: readable by its owner alone from the first byte on."""
    write_whole(file, text.encode(), mode=0o600)


def write_whole(file: Path, content: bytes, *, mode: int) -> None:
    """Write a file so that a reader sees the old one or the new one, never a part."""
    scratch = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as opened:
            opened.write(content)
            opened.flush()
            os.fsync(opened.fileno())
        scratch.replace(file)
    except BaseException:
        scratch.unlink(missing_ok=True)
        raise
