"""`marvain simulate`: a fleet that speaks as satellites do, in an agent of its own, and goes without a trace."""

import json
import re
import stat
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from marvain.simulation import wire

pytestmark = pytest.mark.timeout(240)


def test_what_cannot_be_is_refused(run_cli: Callable, tmp_path: Path) -> None:
    for given in (("--satellites", "0"), ("--satellites", "1000000"), ("--rate", "-1"), ("--heartbeat", "0")):
        done = run_cli("simulate", *given, "--data", str(tmp_path / "none"), "--json")
        assert done.returncode == 2, done.stderr
    assert run_cli("simulate", "--data", str(tmp_path / "none")).returncode == 3  # there is no Marvain


def test_a_fleet_is_stored_commanded_and_removed(start: Callable, run_cli: Callable, folder: Path) -> None:
    up = start()
    up.ready()
    running = threading.Thread(
        target=lambda: told.append(
            run_cli(
                "simulate", "--satellites", "20", "--rate", "100", "--seconds", "9", "--json", "--data", str(folder)
            )
        )
    )
    told: list = []
    running.start()

    def listed() -> list[dict]:
        return json.loads(
            run_cli("device", "list", "--agent", "Simulated fleet", "--json", "--data", str(folder)).stdout or "[]"
        )

    deadline = time.monotonic() + 60
    while not (online := [one for one in listed() if one["presence"] == "online"]):
        assert time.monotonic() < deadline, up.output
    pong = json.loads(run_cli("device", "ping", online[0]["handle"], "--json", "--data", str(folder)).stdout)
    assert pong["status"] == "succeeded"
    running.join(60)
    counts = json.loads(told[0].stdout)
    assert counts["connects"] == 20
    assert counts["denied"] == 0, counts
    assert counts["events"] > 300
    assert counts["receipts"] > 0.9 * counts["events"]
    assert counts["commands"] >= 1
    assert {one["presence"] for one in listed()} == {"offline"}  # they said goodbye
    kept = folder / "secrets" / "simulated-fleet"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    gone = run_cli("simulate", "--remove", "--json", "--data", str(folder))
    assert json.loads(gone.stdout) == {"removed": 20}
    assert not kept.exists()
    assert json.loads(run_cli("simulate", "--remove", "--json", "--data", str(folder)).stdout) == {"removed": 0}
    agents = json.loads(run_cli("agent", "list", "--json", "--data", str(folder)).stdout)
    assert [one["name"] for one in agents] == ["Home"]
    assert not re.search("Traceback", up.output)


@pytest.mark.parametrize("size", [0, 1, 127, 128, 16_383, 16_384, 70_000])
async def test_packets_of_every_length_come_apart_wherever_they_are_cut(size: int) -> None:
    heard: list[tuple[str, bytes]] = []
    link = wire.Link(b"", lambda: None, lambda topic, payload: heard.append((topic, payload)), list, lambda _why: None)
    packet = wire.publish(b"a/b", b"x" * size, 0, 0, retain=False) * 2
    for cut in {1, 2, 3, len(packet) // 2, len(packet) - 1}:
        heard.clear()
        link.data_received(packet[:cut])
        link.data_received(packet[cut:])
        assert heard == [("a/b", b"x" * size)] * 2


def test_the_wire_is_a_brokers_too() -> None:
    """CONNECT as its bytes stand in the standard."""
    packet = wire.connect("a", "p", b"w", b"m", 20)
    assert packet == bytes.fromhex("10 19 0004 4d515454 04 ee 0014 0001 61 0001 77 0001 6d 0001 61 0001 70")
