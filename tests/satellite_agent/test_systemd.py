"""systemd is told that the satellite is ready, that it moves, and that it stops; a missing systemd is no fault."""

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys

import pytest

from satellite_agent.systemd import Systemd

from .conftest import PATIENCE_S, TOKEN, clean_env, wait_until


@pytest.fixture
def ear(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bound:
        bound.bind(str(tmp_path / "notify"))
        bound.settimeout(10)
        yield bound


async def test_without_systemd_nothing_happens(tmp_path):
    for environ in ({}, {"NOTIFY_SOCKET": str(tmp_path / "none")}):
        async with Systemd(environ).told(lambda: "online"):
            await asyncio.sleep(0)


async def test_it_is_told_and_at_twice_the_pace_of_the_watchdog(ear):
    environ = {"NOTIFY_SOCKET": ear.getsockname(), "WATCHDOG_USEC": "200000", "WATCHDOG_PID": str(os.getpid())}
    async with Systemd(environ).told(lambda: "online"):
        said = [await asyncio.to_thread(ear.recv, 4096) for _ in range(4)]
    assert said[0] == b"READY=1\nSTATUS=online"
    assert said[1:] == [b"WATCHDOG=1\nSTATUS=online"] * 3
    assert ear.recv(4096).startswith((b"STOPPING=1", b"WATCHDOG"))


async def test_an_abstract_socket_is_known(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bound:
        bound.bind("\0marvain-test-" + str(os.getpid()))
        Systemd({"NOTIFY_SOCKET": "@marvain-test-" + str(os.getpid())}).tell("READY=1")
        assert bound.recv(100) == b"READY=1"


def test_a_real_satellite_is_ready_without_its_hub_and_a_stopped_one_is_silent(ear, tmp_path):
    """What systemd's watchdog lives on: a process that stands still says nothing."""
    environ = clean_env(NOTIFY_SOCKET=ear.getsockname(), WATCHDOG_USEC="200000")
    arguments = ["run", "--hub", "mqtt://127.0.0.1:9", "--token", TOKEN, "--state-dir", str(tmp_path / "state")]
    process = subprocess.Popen([sys.executable, "-m", "satellite_agent", *arguments], env=environ)
    try:
        ear.settimeout(PATIENCE_S)
        assert ear.recv(4096).startswith(b"READY=1")
        wait_until(lambda: b"waiting" in ear.recv(4096), "its status")
        process.send_signal(signal.SIGSTOP)
        ear.setblocking(False)
        with contextlib.suppress(BlockingIOError):  # what was said before
            while ear.recv(4096):
                pass
        ear.settimeout(0.5)
        with pytest.raises(TimeoutError):
            ear.recv(4096)
        process.send_signal(signal.SIGCONT)
        ear.settimeout(PATIENCE_S)
        assert ear.recv(4096).startswith(b"WATCHDOG=1")
        process.terminate()
        wait_until(lambda: ear.recv(4096) == b"STOPPING=1", "its end")
        assert process.wait(PATIENCE_S) == 0
    finally:
        process.kill()
        process.wait()
