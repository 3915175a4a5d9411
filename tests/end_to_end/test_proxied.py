"""A real satellite that checks a real port for a remote: online, offline, and unknown when it is gone itself."""

import contextlib
import signal
import socket

import pytest
from playwright.sync_api import expect

from .conftest import BIN, Running, wait_until


class Printer:
    """A port that takes connections while it is switched on."""

    def __init__(self) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._listening: socket.socket | None = None

    def switch_on(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", self.port))

    def switch_off(self) -> None:
        if self._listening is not None:
            self._listening.close()


@pytest.fixture
def printer():
    one = Printer()
    one.switch_on()
    yield one
    one.switch_off()


@pytest.fixture
def start(instance, tmp_path):
    """Starts the satellite with a config of its own, which opens this machine's network to checks."""
    config = tmp_path / "satellite.toml"
    config.write_text('[checks.network]\nallow = ["127.0.0.0/8"]\n', encoding="utf-8")
    started = []

    def run(token: str) -> Running:
        host, port = instance.mqtt
        argv = [BIN / "marvain-satellite", "run", "--hub", f"mqtt://{host}:{port}", "--token", token]
        one = Running([*argv, "--config", config, "--state-dir", tmp_path / "state"], tmp_path / "log")
        one.start()
        started.append(one)
        return one

    yield run
    for one in started:
        with contextlib.suppress(ProcessLookupError):
            one.stop(signal.SIGKILL)


@pytest.mark.browser
def test_a_satellite_reports_for_what_cannot_speak_and_its_silence_is_not_held_against_it(
    instance, page, printer, start
):
    porch = instance.cli("device", "add", "Near the printer")
    satellite = start(porch["token"])
    wait_until(lambda: instance.devices()["near-the-printer"].presence == "online", "the satellite is online")
    page.goto(f"{instance.web}/remotes/new")
    page.get_by_label("Name", exact=True).fill("Printer")
    page.get_by_text("It cannot run anything?").click()
    page.get_by_label("Satellite that checks it").select_option(label="Near the printer (online)")
    page.get_by_label("Address").fill(f"127.0.0.1:{printer.port}")
    page.get_by_label("Seconds between two checks").fill("5")
    page.get_by_role("button", name="Add remote").click()
    presence = page.locator("[data-part=presence] [data-field=presence]")
    because = page.locator("[data-part=presence] [data-field=why]")
    expect(presence).to_contain_text("online")
    expect(because).to_have_text("near-the-printer reaches it")
    expect(page.locator("[data-part=presence] [data-field=source]")).to_have_text("another satellite")

    printer.switch_off()
    expect(presence).to_contain_text("offline", timeout=15_000)
    expect(because).to_have_text("near-the-printer does not reach it: connection refused")
    printer.switch_on()
    expect(presence).to_contain_text("online", timeout=15_000)

    satellite.stop(signal.SIGKILL)
    expect(presence).to_contain_text("unknown")
    expect(because).to_contain_text("near-the-printer, which checks it, is offline: by Will")
    assert instance.devices()["printer"].presence == "unknown"
    # Its history has grown with each verdict, without anybody having loaded the page again.
    page.locator("[data-part=history] summary").click()
    expect(page.locator("[data-part=history] tbody tr").first).to_contain_text("near-the-printer, which checks it")
    assert page.locator("[data-part=history] tbody tr").count() >= 5
    page.goto(f"{instance.web}/remotes")
    row = page.locator("tr[data-handle='printer']")
    expect(row.locator("[data-field=presence]")).to_contain_text("unknown")

    start(porch["token"])
    expect(row.locator("[data-field=presence]")).to_contain_text("online")

    # What the satellite's own file does not open it does not look at, and says so.
    page.locator("tr[data-handle='printer'] .device-name").click()
    page.get_by_text("Change what is checked").click()
    page.get_by_label("It is there when").select_option(label="a serial port opens")
    page.get_by_label("Address").fill("/dev/ttyUSB0")
    page.get_by_role("button", name="Save", exact=True).first.click()
    expect(because).to_contain_text("does not allow this port")
    expect(presence).to_contain_text("unknown")
