"""`doctor`: each fault is found where it is, with what mends it; then all is well, whether a satellite runs or not."""

import json
import socket
import sqlite3
from contextlib import closing
from datetime import timedelta

import pytest

from .conftest import OTHER_TOKEN, TOKEN


@pytest.fixture
def look(cli, broker):
    """Run doctor; returns its findings by part, and the exit code."""

    def run(*arguments, hub=None, token=TOKEN):
        done = cli("doctor", "--json", "--hub", hub or broker.url, "--token", token, *arguments)
        assert "Traceback" not in done.stderr, done.stderr
        assert token not in done.stdout
        found = [json.loads(line) for line in done.stdout.splitlines()]
        return {one["part"]: one for one in found}, done.returncode

    return run


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ("colour = 1", "colour"),
        ("[verbs.shell]", "verbs.shell"),
        ("[telemetry.t]\nsystem = 'mood'", "telemetry.t"),
        ("heartbeat = 'often'", "heartbeat"),
    ],
)
def test_a_bad_config_is_named(look, tmp_path, config, says):
    file = tmp_path / "satellite.toml"
    file.write_text(config)
    found, code = look("--config", str(file))
    assert (code, list(found), found["config"]["verdict"]) == (1, ["config"], "fail")
    assert says in found["config"]["told"]
    assert found["config"]["do"]


def test_each_step_of_the_way_is_found_out(look, broker, tmp_path):
    found, code = look(hub="mqtt://no-such-host.invalid")
    assert (code, found["dns"]["verdict"], "tcp" in found) == (1, "fail", False)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        found, _ = look(hub=f"mqtt://127.0.0.1:{taken.getsockname()[1]}")
        assert (found["tcp"]["verdict"], "log-in" in found) == ("fail", False)
    found, _ = look(hub=f"mqtts://127.0.0.1:{broker.port}")
    assert (found["tls"]["verdict"], "does this port speak TLS?" in found["tls"]["do"]) == ("fail", True)
    found, _ = look(token=OTHER_TOKEN)
    assert (found["log-in"]["verdict"], "new token" in found["log-in"]["do"]) == ("fail", True)


def test_a_state_folder_that_cannot_be_written_and_a_damaged_database(look, state_dir):
    found, code = look("--state-dir", "/proc/self/state")
    assert (code, found["state"]["verdict"]) == (1, "fail")
    state_dir.mkdir()
    (state_dir / "satellite.db").write_bytes(b"not a database" * 1000)
    found, code = look()
    assert (code, found["outbox"]["verdict"], "move it away" in found["outbox"]["do"]) == (1, "fail", True)


def test_a_program_that_is_not_there_is_a_warning(look, tmp_path):
    file = tmp_path / "satellite.toml"
    file.write_text("[verbs.run_action.a]\ncommand = ['/nonexistent/x']\n[telemetry.t]\ncommand = ['/bin/cat']\n")
    found, code = look("--config", str(file))
    assert (code, found["program"]["verdict"]) == (0, "warn")
    assert "/nonexistent/x" in found["program"]["told"]


def test_all_is_well_without_a_running_satellite_and_nobody_is_disturbed(look, hub):
    found, code = look()
    assert code == 0, found
    assert {one["verdict"] for one in found.values()} == {"ok"}
    assert list(found) == ["config", "disk", "outbox", "dns", "tcp", "log-in", "clock"]
    assert hub.heard == []


def test_a_running_satellite_is_asked(look, hub, start, state_dir, broker):
    hub.clock_offset = timedelta(days=-1)
    start().wait_log("hub answered")
    found, code = look()
    assert (code, found["session"]["verdict"], "online since" in found["session"]["told"]) == (0, "ok", True)
    assert (found["clock"]["verdict"], "86400 s ahead" in found["clock"]["told"]) == ("warn", True)
    with closing(sqlite3.connect(state_dir / "satellite.db")) as db, db:
        db.execute("INSERT INTO refused VALUES (1, 'e1', 'event', 'x', X'', 'no such space')")
    broker.stop()
    hub.wait(lambda: look()[0]["session"]["verdict"] == "fail", "it is away")
    found, code = look()
    assert (code, "such as: no such space" in found["refused"]["told"]) == (1, True)


def test_it_is_readable(cli, broker):
    done = cli("doctor", "--hub", broker.url, "--token", OTHER_TOKEN)
    assert done.returncode == 1
    assert "fail  log-in" in done.stdout
    assert "→ make a new token" in done.stdout
