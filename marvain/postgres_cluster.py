"""The files of an embedded PostgreSQL: where they are, how they come to be, whose they are, and its passwords."""

import os
import secrets
import shutil
import subprocess
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import structlog

from marvain.postgres_bundle import SYSTEM_FOLDER, Account, Bundle, find_bundle, service_account, system_folder
from marvain.refusal import PostgresFault

log = structlog.get_logger(__name__)

ROLE = "marvain"
SUPERUSER = "postgres"
ELSEWHERE = "postgres-is-elsewhere"


class Cluster:
    """A database cluster, as PostgreSQL calls it, that belongs to the data folder `folder`."""

    def __init__(self, folder: Path, *, durable: bool) -> None:
        self.folder = folder.absolute()
        self.durable = durable
        self._home: Path | None = None

    @cached_property
    def account(self) -> Account | None:
        """Who PostgreSQL runs as; None for ourselves."""
        return service_account()

    @cached_property
    def bundle(self) -> Bundle:
        return find_bundle(self.account)

    def exists(self) -> bool:
        """Whether there is a database for this folder already; looking changes nothing."""
        return (self.folder / ELSEWHERE).exists() or (self.folder / "postgres" / "data").exists()

    def running(self) -> tuple[int, int] | None:
        """(pid, port) of the server in this folder when it runs and says it is ready."""
        try:
            lines = self.data.joinpath("postmaster.pid").read_text(encoding="utf-8").splitlines()
            pid, port, state = int(lines[0]), int(lines[3]), lines[7].strip()
        except (OSError, IndexError, ValueError):
            return None
        return (pid, port) if state == "ready" and _alive(pid) else None

    @property
    def home(self) -> Path:
        """The folder that holds PostgreSQL's `data`."""
        if self._home is None:
            self._home = self._find_home()
        return self._home

    @property
    def data(self) -> Path:
        return self.home / "data"

    def url(self, role: str, database: str, port: int | None) -> str:
        """Where a role connects, password included."""
        return f"postgresql://{role}:{self.password(role)}@127.0.0.1:{port}/{database}"

    def password(self, role: str) -> str:
        """The password of a role; made at the first call."""
        name = "postgres-password" if role == ROLE else "postgres-superuser-password"
        file = self.folder / "secrets" / name
        try:
            return file.read_text(encoding="utf-8").strip()
        except FileNotFoundError:
            pass
        if self.home.joinpath("bundle").exists():
            raise PostgresFault(f"{file} is missing, and the database in {self.home} opens with nothing else")
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        password = secrets.token_urlsafe(32)
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
            opened.write(password + "\n")
        return password

    def _find_home(self) -> Path:
        note = self.folder / ELSEWHERE
        if note.exists():
            told = Path(note.read_text(encoding="utf-8").partition("\n")[0])
            if told.parent != SYSTEM_FOLDER / "instances":
                raise PostgresFault(f"{note} names {told}, which is no folder of ours")
            return told
        here = self.folder / "postgres"
        account = self.account
        if here.exists() or account is None:
            return here
        self.folder.mkdir(mode=0o711, parents=True, exist_ok=True)
        if account.may_enter(self.folder):
            return here
        home = system_folder("instances") / f"{self.folder.name}-{secrets.token_hex(6)}"
        note.write_text(
            f"{home}\nThe account {account.name} that runs PostgreSQL cannot reach {self.folder}, "
            "so the database is kept in the folder named above.\n",
            encoding="utf-8",
        )
        log.info("postgres.elsewhere", home=str(home), why=f"{account.name} cannot reach {self.folder}")
        return home

    def initialise(self) -> None:
        """initdb, when there is no database yet; refuses one that another version made."""
        if not self.data.joinpath("PG_VERSION").exists():
            self._initialise()
        self._check_version()
        # A missing one is said before anything runs.
        for role in (ROLE, SUPERUSER):
            self.password(role)

    def _initialise(self) -> None:
        # Only `data` belongs to the account: what root writes beside it must not be the account's to replace.
        self.home.mkdir(mode=0o711, parents=True, exist_ok=True)
        fresh, password_file = self.home / "data.new", self.home / "password.new"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        password_file.unlink(missing_ok=True)
        password_file.touch(mode=0o600)
        password_file.write_text(self.password(SUPERUSER) + "\n", encoding="utf-8")
        self._own(fresh)
        self._own(password_file)
        command = [str(self.bundle.binary("initdb")), "-D", str(fresh), "-U", SUPERUSER, "-E", "UTF8"]
        command += ["--no-locale", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--auth=scram-sha-256"]
        command += [f"--pwfile={password_file}"] + ([] if self.durable else ["--no-sync"])
        try:
            self.run(command, f"a new database could not be made in {self.home}")
        finally:
            password_file.unlink(missing_ok=True)
        fresh.rename(self.data)
        log.info("postgres.initialised", home=str(self.home), version=self.bundle.version)

    def _check_version(self) -> None:
        found = self.data.joinpath("PG_VERSION").read_text(encoding="ascii").strip()
        ours = self.bundle.version.partition(".")[0]
        if found != ours:
            raise PostgresFault(f"{self.data} was made by PostgreSQL {found} and needs that version; this is {ours}")

    def run(self, command: list[str], failure: str) -> None:
        """Run a program of the bundle as the account; raises PostgresFault that begins with `failure`."""
        done = self.ask(command)
        if done.returncode != 0:
            raise PostgresFault(f"{failure}: {(done.stderr or done.stdout).strip()}")

    def ask(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        options: dict[str, Any] = {"env": plain_environment(), "cwd": "/", **self.as_account()}
        return subprocess.run(command, capture_output=True, text=True, check=False, **options)  # noqa: S603

    def as_account(self) -> dict[str, Any]:
        if self.account is None:
            return {}
        return {"user": self.account.uid, "group": self.account.gid, "extra_groups": []}

    def _own(self, path: Path) -> None:
        if self.account is not None:
            os.chown(path, self.account.uid, self.account.gid)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def plain_environment() -> Mapping[str, str]:
    """No PG…, no locale and no secrets of ours reach PostgreSQL."""
    return {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}
