"""A PostgreSQL of our own in a folder: made, started, stopped, and never left behind.

As a normal user it runs as that user with its files in `folder/postgres`. As root it runs as the system account
`marvain`; when that account cannot reach the folder, the files live below /var/lib/marvain/instances and
`folder/postgres-is-elsewhere` says where. It listens on one port of 127.0.0.1 and asks everybody for a password.
"""

import contextlib
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import IO, Any

import psycopg
import structlog
from psycopg import sql

from marvain.parent_death import die_with_parent
from marvain.postgres_cluster import ELSEWHERE, ROLE, SUPERUSER, Cluster, plain_environment
from marvain.refusal import PostgresFault

log = structlog.get_logger(__name__)

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0

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
        self.cluster = Cluster(folder, durable=durable)
        self.port = port
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where the application connects, password included; valid after `prepare` or for a running server."""
        return self.cluster.url(ROLE, ROLE, self.port)

    @property
    def superuser_url(self) -> str:
        """Where the superuser connects; for tests and for what only a superuser may do."""
        return self.cluster.url(SUPERUSER, SUPERUSER, self.port)

    def start(self) -> str:
        """Start it as a child of this process and return its URL when it answers."""
        for attempt in range(5):
            self.prepare()
            self.cluster.home.joinpath("log").touch()
            with self.cluster.home.joinpath("log").open("ab") as output:
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
        shutil.rmtree(self.cluster.home, ignore_errors=True)
        self.cluster.folder.joinpath(ELSEWHERE).unlink(missing_ok=True)

    # What the supervisor uses: prepare, then a process of argv() with popen_options(), then wait_ready().

    def prepare(self) -> None:
        """Everything before the server runs: account, binaries, folder, initdb, a left-over server stopped, a port."""
        self.cluster.initialise()
        self._stop_left_over()
        if self.port is None:
            self.port = free_port()

    def exists(self) -> bool:
        """Whether there is a database for this folder already; looking changes nothing."""
        return self.cluster.exists()

    def argv(self) -> list[str]:
        settings = SETTINGS | ({} if self.cluster.durable else FORGETFUL) | {"port": str(self.port)}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        return [str(self.cluster.bundle.binary("postgres")), "-D", str(self.cluster.data), *options]

    def popen_options(self) -> dict[str, Any]:
        """Keyword arguments for subprocess.Popen or asyncio.create_subprocess_exec."""
        return {
            "stdin": subprocess.DEVNULL,
            "env": plain_environment(),
            "cwd": "/",
            "process_group": 0,
            "preexec_fn": die_with_parent(signal.SIGINT),
            **self.cluster.as_account(),
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
        running = self.cluster.running()
        if running is None or running != (pid, self.port):
            return False
        self._complete()
        return True

    def attach(self) -> str | None:
        """The URL of the server that already runs in this folder, if one does; nothing is started or changed."""
        running = self.cluster.running()
        if running is None:
            return None
        self.port = running[1]
        return self.url

    def _complete(self) -> None:
        """Role, database and the vector extension, once per version of the bundle."""
        marker, version = self.cluster.home / "bundle", str(self.cluster.bundle.root)
        if marker.exists() and marker.read_text(encoding="utf-8") == version:
            return
        with psycopg.connect(self.cluster.url(SUPERUSER, "template1", self.port), autocommit=True) as connection:
            _bring_vector(connection)
            secret = connection.pgconn.encrypt_password(
                self.cluster.password(ROLE).encode(), ROLE.encode(), b"scram-sha-256"
            )
            verb = "ALTER" if _has(connection, "SELECT 1 FROM pg_roles WHERE rolname = %s", ROLE) else "CREATE"
            connection.execute(
                sql.SQL("{} ROLE {} LOGIN {} PASSWORD {}").format(
                    sql.SQL(verb),
                    sql.Identifier(ROLE),
                    sql.SQL("NOCREATEDB" if self.cluster.durable else "CREATEDB"),
                    sql.Literal(secret.decode()),
                )
            )
        with psycopg.connect(self.cluster.url(SUPERUSER, "postgres", self.port), autocommit=True) as connection:
            if not _has(connection, "SELECT 1 FROM pg_database WHERE datname = %s", ROLE):
                connection.execute(
                    sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(ROLE), sql.Identifier(ROLE))
                )
        with psycopg.connect(self.cluster.url(SUPERUSER, ROLE, self.port), autocommit=True) as connection:
            _bring_vector(connection)
        marker.write_text(version, encoding="utf-8")

    def _stop_left_over(self) -> None:
        """Stop a server whose supervisor died; a stale postmaster.pid alone PostgreSQL handles itself."""
        if not self.cluster.data.joinpath("postmaster.pid").exists():
            return
        control = [str(self.cluster.bundle.binary("pg_ctl")), "-D", str(self.cluster.data)]
        if self.cluster.ask([*control, "status"]).returncode != 0:
            return
        log.warning("postgres.left_over_stopped", home=str(self.cluster.home))
        self.cluster.run(
            [*control, "stop", "-m", "fast", "-w", "-t", "30"], f"the PostgreSQL left over in {self.cluster.home} stays"
        )

    def _last_words(self) -> str:
        try:
            lines = self.cluster.home.joinpath("log").read_text(encoding="utf-8", errors="replace").splitlines()
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


def _has(connection: psycopg.Connection[Any], query: str, name: str) -> bool:
    return connection.execute(query.encode(), (name,)).fetchone() is not None


def _bring_vector(connection: psycopg.Connection[Any]) -> None:
    connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
    connection.execute("ALTER EXTENSION vector UPDATE")
