"""Remotes as a person adds them: what the page shows is pasted as it stands, into a real broker and a real hub."""

import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from playwright.sync_api import expect

from .conftest import wait_until

BOARD = Path(__file__).parents[1] / "support/micropython/board.py"
WAYS = ("linux", "container", "micropython", "beat")


@pytest.fixture
def added(instance, page):
    """Adds a remote by the page and returns what can be pasted, by its way."""

    def add(name: str) -> dict[str, str]:
        page.goto(f"{instance.web}/remotes/new")
        page.get_by_label("Name", exact=True).fill(name)
        page.get_by_role("button", name="Add remote").click()
        expect(page.get_by_text("the only time the token is shown")).to_be_visible()
        for way in WAYS:
            page.locator(f"details[data-way={way}] > summary").click()
        return {way: page.locator(f"#way-{way}").inner_text() for way in WAYS}

    return add


@pytest.fixture
def run(tmp_path):
    """Starts programs in a folder of their own, as sessions that end with the test."""
    started = []

    def start(argv, **facts) -> subprocess.Popen:
        one = subprocess.Popen(argv, cwd=tmp_path, start_new_session=True, **facts)
        started.append(one)
        return one

    yield start
    for one in started:
        if one.poll() is None:
            os.killpg(one.pid, signal.SIGKILL)
        one.wait()


@pytest.mark.browser
def test_plain_mqtt_is_online_while_it_runs_and_offline_by_its_will(instance, page, added, run):
    pasted = added("Shed")["beat"]
    page.goto(f"{instance.web}/remotes")
    row = page.locator("tr[data-handle='shed']")
    expect(row).to_contain_text("offline")
    shell = run(["sh", "-c", pasted])
    expect(row.locator("[data-field=presence]")).to_contain_text("online")
    os.killpg(shell.pid, signal.SIGKILL)
    expect(row).to_contain_text("by Will")
    seen = instance.devices()["shed"]
    assert (seen.metadata["is_remote"], seen.presence) == (True, "offline")


@pytest.mark.browser
def test_the_micropython_program_connects_answers_pings_and_comes_back(instance, page, added, run, tmp_path):
    pasted = added("Board")["micropython"]
    compile(pasted, "main.py", "exec")
    (tmp_path / "main.py").write_text(pasted, encoding="utf-8")
    page.goto(f"{instance.web}/remotes")
    row = page.locator("tr[data-handle='board']")
    program = [sys.executable, str(BOARD), "main.py"]
    board = run(program)
    expect(row.locator("[data-field=presence]")).to_contain_text("online")
    row.get_by_role("button", name="Ping").click()
    expect(row.locator("[data-field=command]")).to_contain_text(re.compile(r"pong in [\d.]+ ms"))
    first = instance.devices()["board"]
    assert first.hello["agent"] == "MicroPython"
    os.killpg(board.pid, signal.SIGKILL)
    expect(row).to_contain_text("by Will")
    run(program)
    expect(row.locator("[data-field=presence]")).to_contain_text("online")
    wait_until(lambda: instance.devices()["board"].epoch == first.epoch + 1, "the epoch has risen by one")


@pytest.mark.browser
def test_the_other_ways_are_what_a_shell_understands(instance, page, added):
    pasted = added("Cabin")
    host, port = instance.mqtt
    for way in ("linux", "container", "beat"):
        subprocess.run(["sh", "-n", "-c", pasted[way]], check=True)
    container = shlex.split(pasted["container"])
    assert container[:5] == ["docker", "run", "-d", "--name", "marvain-cabin"]
    assert f"MARVAIN_SATELLITE_HUB=mqtt://{host}:{port}" in container
    assert container[-1] == "marvain-satellite"
    token = page.locator("#token").inner_text()
    assert f"MARVAIN_SATELLITE_TOKEN={token}" in container
    # The token goes through a pipe: other users of the machine see what a command is called with.
    piped, _, installed = pasted["linux"].rpartition("|")
    assert token in piped
    assert token not in installed
    assert shlex.split(installed)[-2:] == ["--token-file", "-"]
