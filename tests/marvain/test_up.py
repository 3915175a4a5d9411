"""`marvain up` with its real services: refusals first, then starts, crashes and stops."""

import json
import os
import signal
import socket
import stat
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(240)
SERVICES = {"postgres", "broker", "hub", "web"}


def taken_port() -> tuple[socket.socket, int]:
    held = socket.socket()
    held.bind(("127.0.0.1", 0))
    held.listen()
    return held, held.getsockname()[1]


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def wait_gone(pids: list[int], within_s: float = 30) -> None:
    deadline = time.monotonic() + within_s
    while any(map(alive, pids)):
        assert time.monotonic() < deadline, f"still there: {[pid for pid in pids if alive(pid)]}"
        time.sleep(0.05)


def test_a_port_that_was_asked_for_and_is_taken_is_refused(run_cli: Callable, folder: Path) -> None:
    held, port = taken_port()
    with held:
        done = run_cli("up", "--data", str(folder), "--mqtt-port", str(port))
    assert done.returncode == 69
    assert f"--mqtt-port {port}" in done.stderr
    assert "taken" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (folder / "run.json").exists()


@pytest.mark.parametrize("port", ["0", "65536", "web"])
def test_a_port_that_is_none_is_refused(run_cli: Callable, folder: Path, port: str) -> None:
    done = run_cli("up", "--data", str(folder), "--web-port", port)
    assert done.returncode == 2
    assert "--web-port" in done.stderr


def test_one_port_for_two_services_is_refused(run_cli: Callable, folder: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    done = run_cli("up", "--data", str(folder), "--web-port", port, "--ws-port", port)
    assert done.returncode == 69
    assert "twice" in done.stderr


def test_a_database_that_does_not_answer_is_named(run_cli: Callable, folder: Path) -> None:
    url = "postgresql://nobody:secret@127.0.0.1:1/none"
    done = run_cli("up", "--data", str(folder), environment={"MARVAIN_DATABASE_URL": url})
    assert done.returncode == 69
    assert "secret" not in done.stderr
    assert "Traceback" not in done.stderr


def test_a_host_that_is_not_ours_is_refused(run_cli: Callable, folder: Path) -> None:
    done = run_cli("up", "--data", str(folder), "--host", "192.0.2.1")
    assert done.returncode == 69
    assert "192.0.2.1" in done.stderr


def test_it_starts_says_where_and_keeps_everything(start: Callable, run_cli: Callable, folder: Path) -> None:
    up = start()
    told = up.ready()
    assert told["pid"] == up.process.pid
    for name in ("web", "mqtt", "ws"):
        host, _, port = str(told[name]).removeprefix("http://").rpartition(":")
        with socket.create_connection((host, int(port)), timeout=5):
            pass
    with urllib.request.urlopen(f"{told['web']}/sign-in", timeout=5) as answer:
        assert answer.status == 200
    assert set(up.children()) == SERVICES
    assert f"{told['web']}/setup/" in up.output
    for file in (folder / "secrets").iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert file.read_text().strip() not in up.output
        for pid in up.children().values():
            assert file.read_text().strip().encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()

    second = run_cli("up", "--data", str(folder))
    assert second.returncode == 4
    assert str(up.process.pid) in second.stderr
    assert "already running" in second.stderr

    added = json.loads(run_cli("device", "add", "Porch lamp", "--json", "--data", str(folder)).stdout)
    children = list(up.children().values())
    assert up.stop() == 0
    wait_gone(children)
    assert not (folder / "run.json").exists()
    assert "Traceback" not in up.output

    began = time.monotonic()
    again = start(ports=False)
    assert again.ready()["mqtt"] == told["mqtt"]
    assert time.monotonic() - began < 30
    listed = json.loads(run_cli("device", "list", "--json", "--data", str(folder)).stdout)
    assert [device["device_id"] for device in listed] == [added["device_id"]]
    assert again.stop(signal.SIGINT) == 0


def test_a_killed_child_comes_back_and_the_log_says_so(start: Callable) -> None:
    up = start()
    up.ready()
    for name in ("broker", "web", "hub", "postgres"):
        before = up.children()[name]
        os.kill(before, signal.SIGKILL)
        up.says(rf"{name} was killed by SIGKILL, restarting in [0-9.]+ s")
        deadline = time.monotonic() + 30
        while up.children().get(name) in {None, before}:
            assert time.monotonic() < deadline, up.output
            time.sleep(0.05)
    # All that hangs on PostgreSQL and on the broker finds its way back.
    deadline = time.monotonic() + 60
    url = json.loads(up.run_file.read_text())["web"] + "/sign-in"
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                assert answer.status == 200
                break
        except OSError:
            assert time.monotonic() < deadline, up.output
            time.sleep(0.2)
    assert up.stop() == 0


def test_a_usual_port_that_is_taken_is_replaced_and_said(start: Callable, folder: Path) -> None:
    held, port = taken_port()
    folder.mkdir(parents=True)
    (folder / "ports.json").write_text(json.dumps({"web": port}))
    with held:
        up = start(ports=False)
        told = up.ready()
    assert not str(told["web"]).endswith(f":{port}")
    assert f"port {port} for web is taken" in up.output
    assert up.stop() == 0


def test_nothing_outlives_a_killed_supervisor(start: Callable, folder: Path) -> None:
    up = start()
    up.ready()
    children = list(up.children().values())
    up.process.kill()
    wait_gone(children, 40)
    # What it left behind does not count as running, and the next one starts.
    assert (folder / "run.json").exists()
    again = start(ports=False)
    again.ready()
    assert again.stop() == 0


def test_ctrl_c_while_it_starts_stops_it(start: Callable) -> None:
    up = start()
    up.says("postgres.initialised")
    assert up.stop(signal.SIGINT) == 0
    assert not up.run_file.exists()
    assert "Traceback" not in up.output


def test_the_demo_satellite_comes_online_and_stays_away_once_revoked(
    start: Callable, run_cli: Callable, folder: Path
) -> None:
    up = start(demo=True)
    up.ready()

    def presence() -> str:
        return json.loads(run_cli("device", "list", "--json", "--data", str(folder)).stdout)[0]["presence"]

    deadline = time.monotonic() + 30
    while presence() != "online":
        assert time.monotonic() < deadline, up.output
    pong = json.loads(run_cli("device", "ping", "demo", "--json", "--data", str(folder)).stdout)
    assert pong["status"] == "succeeded"
    assert pong["rtt_ms"] < 5000
    token = (folder / "demo" / "token").read_text().strip()
    assert stat.S_IMODE((folder / "demo" / "token").stat().st_mode) == 0o600
    assert run_cli("device", "revoke", "demo", "--reason", "not needed", "--data", str(folder)).returncode == 0
    up.says("satellite was refused for good")
    assert "satellite_agent" not in up.children()
    assert token not in up.output
    doctor = run_cli("doctor", "--data", str(folder))
    assert doctor.returncode == 0, doctor.stdout
    assert up.stop() == 0
    # The next start leaves it alone too.
    again = start(ports=False, demo=True)
    again.ready()
    again.says("demo.revoked")
    assert "satellite_agent" not in again.children()
    assert again.stop() == 0
