"""Mosquitto as a process: found or named, in an account of its own, over TLS, and never left behind."""

import asyncio
import os
import pwd
import signal
import subprocess
from pathlib import Path

import pytest

from broker.mosquitto import server
from broker.mosquitto.control import BrokerAway, Control
from broker.mosquitto.document import ADAPTER, render
from hub.settings import Settings

ROOT = "marvain/v1"


@pytest.fixture
def settings(kit):
    def make(**more) -> Settings:
        return Settings(database_url="postgresql://", mqtt_port=kit.free_port(), ws_port=kit.free_port(), **more)

    return make


def with_server(settings, use) -> None:
    """Run `use(server)` in a thread while Mosquitto runs with nobody but the adapter."""

    async def run() -> None:
        one = server.Server(settings, server.find())
        try:
            await one.start(render([], ROOT, {ADAPTER: "secret"}))
            assert await one.until_listening()
            await asyncio.to_thread(use, one)
        finally:
            await one.stop()
            one.close()
        assert not one.folder.exists() or one.keeps

    asyncio.run(run())


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(server.NotInstalled, match="apt install mosquitto"):
        server.find(str(tmp_path))
    with pytest.raises(server.NotInstalled, match=r"mosquitto_dynamic_security\.so is not"):
        server.find(None, [str(tmp_path)])


def test_a_taken_port_is_no_start(settings, kit):
    taken = settings()

    def start_another(_: server.Server) -> None:
        async def run() -> None:
            second = server.Server(taken.model_copy(update={"mqtt_host": "127.0.0.2"}), server.find())
            try:
                await second.start(render([], ROOT, {}))
                assert not await second.until_listening()
            finally:
                await second.stop()
                second.close()

        asyncio.run(run())

    with_server(taken, start_another)


def test_it_runs_in_an_account_of_its_own_and_its_files_are_closed(settings):
    def look(one: server.Server) -> None:
        owner = Path(f"/proc/{one.process.pid}").stat().st_uid
        here = os.geteuid()
        assert owner == (pwd.getpwnam("mosquitto").pw_uid if here == 0 else here)
        assert one.folder.stat().st_mode & 0o777 == 0o700
        assert {file.stat().st_mode & 0o777 for file in one.folder.iterdir()} == {0o600}

    with_server(settings(), look)


# The library drops a socket whose handshake failed without closing it.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_over_tls_the_adapter_trusts_this_certificate_alone(settings, tmp_path):
    for name in ("own", "other"):
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
                *("-subj", f"/CN={name}", "-days", "2"),
                *("-keyout", tmp_path / f"{name}.key", "-out", tmp_path / f"{name}.pem"),
            ],
            check=True,
            capture_output=True,
        )
    own = settings(tls_cert_file=tmp_path / "own.pem", tls_key_file=tmp_path / "own.key")

    def dial(_: server.Server) -> None:
        control = Control("127.0.0.1", own.mqtt_port, ADAPTER, "secret", own.tls_cert_file)
        control.open()
        control.settle()
        control.close()
        with pytest.raises(BrokerAway):
            Control("127.0.0.1", own.mqtt_port, ADAPTER, "secret", tmp_path / "other.pem").open()

    with_server(own, dial)


def test_it_ends_with_a_broker_process_that_is_killed(own_house_with_mosquitto, kit):
    house = own_house_with_mosquitto
    told = next(line for line in house.broker.log().splitlines() if "mosquitto_pid" in line)
    child = int(told.split('"mosquitto_pid": ')[1].split(",")[0].rstrip("}"))
    assert Path(f"/proc/{child}").exists()
    house.broker.stop(signal.SIGKILL)
    kit.wait_until(lambda: not _runs(child))


def _runs(pid: int) -> bool:
    try:
        return "mosquitto" in Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8")
    except OSError:
        return False


@pytest.fixture(scope="module")
def own_house_with_mosquitto(house_with):
    """Without a store: everything in a temporary folder. And without the debug log."""
    return house_with({"MARVAIN_BROKER": "mosquitto", "MARVAIN_MOSQUITTO_REFUSALS": "false"})
