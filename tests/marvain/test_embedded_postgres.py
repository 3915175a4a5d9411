"""The embedded PostgreSQL by itself: what it refuses, that it keeps everything, and that it is never left behind."""

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest

from marvain.embedded_postgres import EmbeddedPostgres
from marvain.postgres_bundle import Account
from marvain.refusal import PostgresFault

STARTER = """
import pathlib, sys, time
from marvain.embedded_postgres import EmbeddedPostgres
server = EmbeddedPostgres(pathlib.Path(sys.argv[1]), durable=False)
server.start()
print("pid", server.cluster.running()[0], flush=True)
time.sleep(600)
"""


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_nobody_gets_in_without_the_password(folder: Path) -> None:
    server = EmbeddedPostgres(folder, durable=False)
    url = server.start()
    try:
        for role in ("marvain", "postgres"):
            for password in ("", role, "postgres"):
                with pytest.raises(psycopg.OperationalError, match="password"):
                    psycopg.connect(f"postgresql://{role}:{password}@127.0.0.1:{server.port}/marvain")
        with psycopg.connect(url) as connection:
            row = connection.execute("SELECT rolsuper, rolcreaterole FROM pg_roles WHERE rolname = current_user")
            assert row.fetchone() == (False, False)
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                connection.execute("COPY (SELECT 1) TO PROGRAM 'true'")
    finally:
        server.stop()
    for file in (folder / "secrets").iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_lost_password_is_named(folder: Path) -> None:
    server = EmbeddedPostgres(folder, durable=False)
    server.start()
    server.stop()
    (folder / "secrets" / "postgres-password").unlink()
    with pytest.raises(PostgresFault, match="postgres-password is missing"):
        EmbeddedPostgres(folder, durable=False).start()


def test_another_version_s_database_is_refused(folder: Path) -> None:
    server = EmbeddedPostgres(folder, durable=False)
    server.prepare()
    (server.cluster.data / "PG_VERSION").write_text("12\n")
    with pytest.raises(PostgresFault, match="made by PostgreSQL 12"):
        EmbeddedPostgres(folder, durable=False).prepare()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's files are ever kept elsewhere")
def test_a_note_that_names_a_foreign_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    folder.mkdir()
    note = folder / "postgres-is-elsewhere"
    note.write_text(f"{tmp_path}\n")
    with pytest.raises(PostgresFault, match="no folder of ours"):
        EmbeddedPostgres(folder, durable=False).prepare()
    note.unlink()


def test_it_starts_again_quickly_with_everything_kept(folder: Path) -> None:
    server = EmbeddedPostgres(folder, durable=False)
    with psycopg.connect(server.start(), autocommit=True) as connection:
        connection.execute("CREATE TABLE kept AS SELECT '[1,2,3]'::vector AS v")
        assert connection.execute("SHOW server_encoding").fetchone() == ("UTF8",)
        assert connection.execute("SELECT lower('ÄÖ')").fetchone() == ("äö",)
    server.stop()
    began = time.monotonic()
    again = EmbeddedPostgres(folder, durable=False)
    url = again.start()
    assert time.monotonic() - began < 5
    try:
        with psycopg.connect(url) as connection:
            assert connection.execute("SELECT v::text FROM kept").fetchone() == ("[1,2,3]",)
    finally:
        again.stop()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the next start clears what was left")
def test_it_ends_when_its_parent_is_killed(folder: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", STARTER, str(folder)], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        postmaster = next(int(line[4:]) for line in parent.stdout if line.startswith("pid "))
        assert alive(postmaster)
        parent.kill()
        parent.wait()
    deadline = time.monotonic() + 30
    while alive(postmaster):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_left_over_server_is_stopped_first_and_a_killed_one_recovers(folder: Path) -> None:
    first = EmbeddedPostgres(folder, durable=False)
    first.start()
    running = first.cluster.running()
    assert running is not None
    second = EmbeddedPostgres(folder, durable=False)
    second.start()
    assert not alive(running[0])
    now = second.cluster.running()
    assert now is not None
    os.kill(now[0], signal.SIGKILL)
    first.stop()
    second.stop()
    third = EmbeddedPostgres(folder, durable=False)
    with psycopg.connect(third.start()) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)
    third.stop()


def test_who_may_enter_is_read_from_the_modes(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    stranger = Account("stranger", 64_000, 64_000)
    owner = Account("owner", os.geteuid(), os.getegid())
    assert owner.may_enter(closed)
    assert not stranger.may_enter(closed)
    closed.chmod(0o711)
    program = closed / "program"
    program.touch(mode=0o644)
    assert not owner.may_run(program)
