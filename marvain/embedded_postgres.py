"""A PostgreSQL of our own in a folder: made, started, stopped, and never left behind.

As a normal user it runs as that user with its files in `folder/postgres`. As root it runs as the system account
`marvain`; when that account cannot reach the folder, the files live below /var/lib/marvain/instances and
`folder/postgres-is-elsewhere` says where. It listens on one port of 127.0.0.1 and asks everybody for a password.
"""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import psycopg
import structlog
from psycopg import sql

from marvain.parent_death import die_with_parent
from marvain.postgres_bundle import Account, Bundle, find_bundle, service_account, system_folder
from marvain.refusal import PostgresFault

log = structlog.get_logger(__name__)

ROLE = "marvain"
SUPERUSER = "postgres"
START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0
ELSEWHERE = "postgres-is-elsewhere"

SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "shared_buffers": "64MB",
    "max_connections": "100",
    "max_wal_size": "512MB",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "lc_messages": "C",
    "log_line_prefix": "",
    "log_checkpoints": "off",
    # Rows and statements may hold what nobody may read in a log.
    "log_error_verbosity": "terse",
    "log_min_error_statement": "panic",
}
# For tests alone: a crash of the machine may lose the database.
FORGETFUL = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "autovacuum_naptime": "1h"}


class EmbeddedPostgres:
    """One PostgreSQL server for one folder; `durable=False` is for tests: fast, and the role may create databases."""

    def __init__(self, folder: Path, *, port: int | None = None, durable: bool = True) -> None:
        self.folder = folder.absolute()
        self.port = port
        self.durable = durable
        self._account: Account | None = None
        self._bundle: Bundle | None = None
        self._home: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where the application connects, password included; valid after `prepare` or for a running server."""
        return self._url(ROLE, ROLE)

    @property
    def home(self) -> Path:
        """The folder that holds PostgreSQL's `data`."""
        if self._home is None:
            self._home = self._find_home()
        return self._home

    def start(self) -> str:
        """Start it as a child of this process and return its URL when it answers."""
        for attempt in range(5):
            self.prepare()
            self.home.joinpath("log").touch()
            with self.home.joinpath("log").open("ab") as output:
                self._process = self.spawn(output)
            try:
                self.wait_ready(self._process)
            except PostgresFault:
                # Somebody may have taken the port since it was chosen.
                self.stop()
                if attempt == 4 or self.port is None or not _taken(self.port):
                    raise
                self.port = None
                continue
            break
        return self.url

    def stop(self) -> None:
        """Stop the server that `start` started, orderly first; nothing when there is none."""
        process, self._process = self._process, None
        if process is None:
            return
        for hint, patience in ((signal.SIGINT, STOP_TIMEOUT_S), (signal.SIGQUIT, 5.0)):
            if process.poll() is None:
                process.send_signal(hint)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(patience)
                return
        process.kill()
        process.wait()

    def destroy(self) -> None:
        """Stop it and remove all its files; for tests."""
        self.stop()
        shutil.rmtree(self.home, ignore_errors=True)
        self.folder.joinpath(ELSEWHERE).unlink(missing_ok=True)

    # What the supervisor uses: prepare, then a process of argv() with popen_options(), then wait_ready().

    def prepare(self) -> None:
        """Everything before the server runs: account, binaries, folder, initdb, a left-over server stopped, a port."""
        self._account = service_account()
        self._bundle = find_bundle(self._account)
        if not self.data.joinpath("PG_VERSION").exists():
            self._initialise()
        self._check_version()
        self._stop_left_over()
        if self.port is None:
            self.port = free_port()

    def exists(self) -> bool:
        """Whether there is a database for this folder already; looking changes nothing."""
        return (self.folder / ELSEWHERE).exists() or (self.folder / "postgres" / "data").exists()

    def argv(self) -> list[str]:
        settings = SETTINGS | ({} if self.durable else FORGETFUL) | {"port": str(self.port)}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [str(self._ready_bundle.binary("postgres")), "-D", str(self.data), *options]

    def popen_options(self) -> dict[str, Any]:
        """Keyword arguments for subprocess.Popen or asyncio.create_subprocess_exec."""
        return {
            "stdin": subprocess.DEVNULL,
            "env": _plain_environment(),
            "cwd": "/",
            "process_group": 0,
            "preexec_fn": die_with_parent(signal.SIGINT),
            **self._as_account(),
        }

    def spawn(self, output: IO[bytes]) -> subprocess.Popen[bytes]:
        return subprocess.Popen(  # noqa: S603
            self.argv(), stdout=output, stderr=subprocess.STDOUT, **self.popen_options()
        )

    def wait_ready(self, process: subprocess.Popen[bytes], timeout_s: float = START_TIMEOUT_S) -> None:
        """Return when the role can connect; raise when the server ends first or is not ready in time."""
        deadline = time.monotonic() + timeout_s
        while not self.poll_ready(process.pid):
            if process.poll() is not None:
                raise PostgresFault(f"PostgreSQL ended at its start with {process.returncode}: {self._last_words()}")
            if time.monotonic() > deadline:
                raise PostgresFault(f"PostgreSQL did not answer within {timeout_s:.0f} s: {self._last_words()}")
            time.sleep(0.01)

    def poll_ready(self, pid: int) -> bool:
        """Whether server `pid` is up; completes the first start (role, database, vector) as soon as it is."""
        running = self.running()
        if running is None or running != (pid, self.port):
            return False
        self._complete()
        return True

    def running(self) -> tuple[int, int] | None:
        """(pid, port) of the server in this folder when it runs and says it is ready."""
        try:
            lines = self.data.joinpath("postmaster.pid").read_text(encoding="utf-8").splitlines()
            pid, port, state = int(lines[0]), int(lines[3]), lines[7].strip()
        except (OSError, IndexError, ValueError):
            return None
        return (pid, port) if state == "ready" and _alive(pid) else None

    def attach(self) -> str | None:
        """The URL of the server that already runs in this folder, if one does; nothing is started or changed."""
        running = self.running()
        if running is None:
            return None
        self.port = running[1]
        return self.url

    @property
    def data(self) -> Path:
        return self.home / "data"

    @property
    def _ready_bundle(self) -> Bundle:
        if self._bundle is None:
            raise PostgresFault("prepare() comes first")
        return self._bundle

    def _url(self, role: str, database: str) -> str:
        return f"postgresql://{role}:{self._password(role)}@127.0.0.1:{self.port}/{database}"

    def _password(self, role: str) -> str:
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
            return Path(note.read_text(encoding="utf-8").splitlines()[0])
        here = self.folder / "postgres"
        account = service_account()
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

    def _initialise(self) -> None:
        # Only `data` belongs to the account: what root writes beside it must not be the account's to replace.
        self.home.mkdir(mode=0o711, parents=True, exist_ok=True)
        fresh, password_file = self.home / "data.new", self.home / "password.new"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(mode=0o700)
        password_file.unlink(missing_ok=True)
        password_file.touch(mode=0o600)
        password_file.write_text(self._password(SUPERUSER) + "\n", encoding="utf-8")
        self._own(fresh)
        self._own(password_file)
        command = [str(self._ready_bundle.binary("initdb")), "-D", str(fresh), "-U", SUPERUSER, "-E", "UTF8"]
        command += ["--no-locale", "--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--auth=scram-sha-256"]
        command += [f"--pwfile={password_file}"] + ([] if self.durable else ["--no-sync"])
        try:
            self._run(command, f"a new database could not be made in {self.home}")
        finally:
            password_file.unlink(missing_ok=True)
        fresh.rename(self.data)
        log.info("postgres.initialised", home=str(self.home), version=self._ready_bundle.version)

    def _check_version(self) -> None:
        found = self.data.joinpath("PG_VERSION").read_text(encoding="ascii").strip()
        ours = self._ready_bundle.version.partition(".")[0]
        if found != ours:
            raise PostgresFault(f"{self.data} was made by PostgreSQL {found} and needs that version; this is {ours}")

    def _complete(self) -> None:
        """Role, database and the vector extension, once per version of the bundle."""
        marker, version = self.home / "bundle", str(self._ready_bundle.root)
        if marker.exists() and marker.read_text(encoding="utf-8") == version:
            return
        with psycopg.connect(self._url(SUPERUSER, "template1"), autocommit=True) as connection:
            _bring_vector(connection)
            secret = connection.pgconn.encrypt_password(self._password(ROLE).encode(), ROLE.encode(), b"scram-sha-256")
            verb = "ALTER" if _has(connection, "SELECT 1 FROM pg_roles WHERE rolname = %s", ROLE) else "CREATE"
            connection.execute(
                sql.SQL("{} ROLE {} LOGIN {} PASSWORD {}").format(
                    sql.SQL(verb),
                    sql.Identifier(ROLE),
                    sql.SQL("NOCREATEDB" if self.durable else "CREATEDB"),
                    sql.Literal(secret.decode()),
                )
            )
        with psycopg.connect(self._url(SUPERUSER, "postgres"), autocommit=True) as connection:
            if not _has(connection, "SELECT 1 FROM pg_database WHERE datname = %s", ROLE):
                connection.execute(
                    sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(ROLE), sql.Identifier(ROLE))
                )
        with psycopg.connect(self._url(SUPERUSER, ROLE), autocommit=True) as connection:
            _bring_vector(connection)
        marker.write_text(version, encoding="utf-8")

    def _stop_left_over(self) -> None:
        """Stop a server whose supervisor died; a stale postmaster.pid alone PostgreSQL handles itself."""
        if not self.data.joinpath("postmaster.pid").exists():
            return
        control = [str(self._ready_bundle.binary("pg_ctl")), "-D", str(self.data)]
        if self._ask([*control, "status"]).returncode != 0:
            return
        log.warning("postgres.left_over_stopped", home=str(self.home))
        self._run([*control, "stop", "-m", "fast", "-w", "-t", "30"], f"the PostgreSQL left over in {self.home} stays")

    def _run(self, command: list[str], failure: str) -> None:
        done = self._ask(command)
        if done.returncode != 0:
            raise PostgresFault(f"{failure}: {(done.stderr or done.stdout).strip()}")

    def _ask(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        options: dict[str, Any] = {"env": _plain_environment(), "cwd": "/", **self._as_account()}
        return subprocess.run(command, capture_output=True, text=True, check=False, **options)  # noqa: S603

    def _as_account(self) -> dict[str, Any]:
        if self._account is None:
            return {}
        return {"user": self._account.uid, "group": self._account.gid, "extra_groups": []}

    def _own(self, path: Path) -> None:
        if self._account is not None:
            os.chown(path, self._account.uid, self._account.gid)

    def _last_words(self) -> str:
        try:
            lines = self.home.joinpath("log").read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return "it left no log"
        return " | ".join(lines[-5:])


def free_port() -> int:
    """A port of 127.0.0.1 that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _taken(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _plain_environment() -> Mapping[str, str]:
    """No PG…, no locale and no secrets of ours reach PostgreSQL."""
    return {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}


def _has(connection: psycopg.Connection[Any], query: str, name: str) -> bool:
    return connection.execute(query.encode(), (name,)).fetchone() is not None


def _bring_vector(connection: psycopg.Connection[Any]) -> None:
    connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
    connection.execute("ALTER EXTENSION vector UPDATE")
