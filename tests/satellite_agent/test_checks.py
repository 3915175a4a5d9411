"""Checks of remotes: what the machine's own file does not allow is not looked at; else real sockets and devices."""

import asyncio
import contextlib
import os
import pty
import socket

import pytest

from hub_protocol.messages import Check
from satellite_agent import checks
from satellite_agent.checks import Allowed, Checks, Wanted, look
from satellite_agent.settings import SettingsError

LOCAL = checks.read({"network": {"allow": ["127.0.0.0/8"]}})


@pytest.fixture
def listener():
    """A port that takes connections; and whatever is written to it is kept."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield listening


def address(listening) -> str:
    return f"127.0.0.1:{listening.getsockname()[1]}"


def network(where: str, **facts) -> Wanted:
    return Wanted("printer", "network", where, **facts)


@pytest.mark.parametrize(
    ("tables", "field"),
    [
        ({"bluetooth": {}}, "checks.bluetooth"),
        ({"network": {"deny": []}}, "checks.network"),
        ({"network": {"allow": ["10.0.0.1/8"]}}, "checks.network"),
        ({"network": {"allow": ["a b"]}}, "checks.network"),
        ({"network": {"allow": "10.0.0.0/8"}}, "checks.network"),
        ({"serial": {"allow": ["/etc/passwd"]}}, "checks.serial"),
        ({"serial": {"allow": ["/dev/../etc/passwd"]}}, "checks.serial"),
    ],
)
def test_a_table_that_is_wrong_is_named(tables, field):
    with pytest.raises(SettingsError) as error:
        checks.read(tables)
    assert error.value.field == field


@pytest.mark.parametrize("allow", [[], ["10.0.0.0/8"], ["printer.local"]])
async def test_what_is_not_allowed_is_not_looked_at(listener, allow):
    found = await look(network(address(listener)), checks.read({"network": {"allow": allow}}))
    assert found.reachable is None
    assert "[checks.network]" in found.why
    listener.settimeout(0.2)
    with pytest.raises(TimeoutError):
        listener.accept()


@pytest.mark.parametrize("where", ["localhost", "[::ffff:127.0.0.1]"])
async def test_a_name_and_a_mapped_address_are_what_they_resolve_to(listener, where):
    port = listener.getsockname()[1]
    allowed = checks.read({"network": {"allow": ["10.0.0.0/8"]}})
    assert (await look(network(f"{where}:{port}"), allowed)).reachable is None
    assert (await look(network(f"localhost:{port}"), checks.read({"network": {"allow": ["localhost"]}}))).reachable


async def test_a_port_that_takes_a_connection_is_there_and_hears_nothing(listener):
    assert await look(network(address(listener)), LOCAL) == Check(reachable=True)
    taken, _ = listener.accept()
    with taken:
        assert taken.recv(1) == b""


async def test_a_closed_port_is_tried_twice_and_then_gone(listener, monkeypatch):
    monkeypatch.setattr(checks, "PAUSE_S", 0.01)
    where = address(listener)
    listener.close()
    assert await look(network(where), LOCAL) == Check(reachable=False, why="connection refused")


async def test_serial_ports_open_or_do_not_and_only_those_that_are_allowed(monkeypatch, tmp_path):
    monkeypatch.setattr(checks, "PAUSE_S", 0.01)
    ours, theirs = pty.openpty()
    path = os.ttyname(theirs)
    try:
        allowed = Allowed(ports=frozenset({path, "/dev/ttyNONE"}))
        assert await look(Wanted("meter", "serial", path), allowed) == Check(reachable=True)
        os.set_blocking(ours, False)
        with pytest.raises(BlockingIOError):
            os.read(ours, 1)  # nothing was written to it
        gone = await look(Wanted("meter", "serial", "/dev/ttyNONE"), allowed)
        assert (gone.reachable, gone.why) == (False, "no such file or directory")
        assert (await look(Wanted("meter", "serial", "/dev/null"), allowed)).reachable is None
    finally:
        os.close(ours)
        os.close(theirs)
    plain = tmp_path / "plain"
    plain.touch()
    assert checks._open_and_close(str(plain)) == "it is no device"


def test_a_config_that_is_malformed_or_too_long_is_left_alone_in_part():
    entries = [{"remote": f"r{n}", "check": "network", "address": "a:1", "every_s": 5} for n in range(40)]
    odd = [7, {"remote": "UP", "check": "network", "address": "a:1"}, {"remote": "x", "check": "ping", "address": "a"}]
    odd += [{"remote": "x", "check": "network", "address": "a:1", "every_s": 0.1}]
    assert len(checks.wanted({"remotes": odd + entries})) == checks.MOST
    assert checks.wanted({"remotes": "all"}) == []


async def test_what_is_wanted_changes_while_it_runs_and_results_travel_together(listener):
    one = {"remote": "one", "check": "network", "address": address(listener), "every_s": 3600}
    values = {"remotes": [one, one | {"remote": "two"}]}
    told: list[dict[str, Check]] = []
    heard = asyncio.Event()

    async def tell(found: dict[str, Check]) -> None:
        told.append(found)
        heard.set()

    running = Checks(LOCAL, lambda: values)
    task = asyncio.create_task(running.run(tell))
    try:
        async with asyncio.timeout(10):
            await heard.wait()
            heard.clear()
            values = {"remotes": [one | {"remote": "three"}]}
            running.settings_changed()
            await heard.wait()
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    assert [sorted(found) for found in told] == [["one", "two"], ["three"]]
