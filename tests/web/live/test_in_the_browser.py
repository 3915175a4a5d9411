"""The live pages in a real browser, with the real hub and broker behind them and a device that is played by hand."""

import json
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import paho.mqtt.client as paho
import pytest
from playwright.sync_api import Page, expect, sync_playwright

from hub import device_views, devices, identity
from hub.database import Database
from hub.settings import Settings
from web.security import SESSION_COOKIE

pytestmark = pytest.mark.browser
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
WAIT_MS = 15_000
XSS = "<img src=x onerror=alert(1)>"
Service = Any  # tests/web/live/conftest.py
OpenPage = Callable[[str], Page]


class HandMadeDevice:
    """Speaks the protocol with a plain MQTT client, and answers pings."""

    def __init__(self, settings: Settings, handle: str, token: str, epoch: int) -> None:
        self._base, self._epoch = f"{settings.root}/d/{handle}", epoch
        self.client = paho.Client(paho.CallbackAPIVersion.VERSION2, handle, protocol=paho.MQTTv311)
        self.client.username_pw_set(handle, token)
        self.client.will_set(f"{self._base}/state", json.dumps({"state": "lost", "epoch": epoch}), 1, retain=True)
        self.client.on_connect = self._greet
        self.client.on_message = self._answer
        self.client.reconnect_delay_set(1, 1)
        self.client.connect("127.0.0.1", settings.mqtt_port)
        self.client.loop_start()

    def say(self, what: str, **payload: Any) -> None:
        self.client.publish(f"{self._base}/{what}", json.dumps({"epoch": self._epoch} | payload), 1)

    def report(self, kind: str, payload: dict[str, Any]) -> None:
        self.say(f"event/{kind}", id=uuid.uuid4().hex, payload=payload)

    def crash(self) -> None:
        """The connection breaks without a word."""
        self.client.loop_stop()
        sock = self.client.socket()
        assert sock is not None
        sock.close()

    def leave(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()

    def _greet(self, *_: Any) -> None:
        self.client.subscribe(f"{self._base}/cmd/#", 1)
        self.say("hello", agent=XSS, heartbeat_s=15)

    def _answer(self, _client: Any, _userdata: Any, message: paho.MQTTMessage) -> None:
        self.say(f"reply/{message.topic.rpartition('/')[2]}", status="succeeded")


@pytest.fixture
def open_page(served: str, owner_token: str, hub: Service) -> Iterator[OpenPage]:
    """Opens pages of one signed-in browser; whatever goes wrong in them fails the test."""
    faults: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
        context = browser.new_context(viewport={"width": 1280, "height": 800})
        context.add_cookies([{"name": SESSION_COOKIE, "value": owner_token, "url": served}])

        def start(path: str) -> Page:
            page = context.new_page()
            page.set_default_timeout(WAIT_MS)
            page.on("pageerror", lambda error: faults.append(str(error)))
            page.on("dialog", lambda dialog: (faults.append(dialog.message), dialog.dismiss()))
            page.goto(served + path)
            expect(page.locator("#live-status")).to_contain_text("live", timeout=WAIT_MS)
            page.evaluate("document.documentElement.dataset.untouched = 'yes'")
            return page

        yield start
        browser.close()
    assert faults == []


@pytest.fixture
def enrol(database: Database, owner_token: str) -> Callable[[str], tuple[str, str]]:
    """Registers a device: its handle and token."""

    def add(name: str) -> tuple[str, str]:
        with database.transaction() as session:
            agent = identity.find_agent(session)
            new = devices.add(session, agent.agent_id, name, scopes=list(devices.DEFAULT_SCOPES), by="a test")
            return new.device.handle, new.token

    return add


def chip(page: Page, handle: str) -> Any:
    return page.locator(f'[data-handle="{handle}"] [data-field=presence] .chip')


def never_reloaded(page: Page) -> bool:
    return bool(page.evaluate("document.documentElement.dataset.untouched === 'yes'"))


def test_a_device_comes_answers_and_crashes_while_somebody_types(
    open_page: OpenPage, enrol: Callable[[str], tuple[str, str]], settings: Settings
) -> None:
    page = open_page("/devices")
    handle, token = enrol(f"Porch {XSS}")
    expect(chip(page, handle)).to_have_text("offline", timeout=WAIT_MS)  # the row came by itself

    row = page.locator(f'[data-handle="{handle}"]')
    row.locator("[data-action=revoke]").click()
    page.fill("#revoke-reason", "half a thou")
    page.locator("#revoke-reason").focus()

    device = HandMadeDevice(settings, handle, token, 1)
    expect(chip(page, handle)).to_have_text("online", timeout=WAIT_MS)
    page.keyboard.type("ght")
    assert page.input_value("#revoke-reason") == "half a thought"
    page.keyboard.press("Escape")

    row.locator("[data-action=ping]").click()
    expect(row.locator("[data-field=command]")).to_contain_text("pong in", timeout=WAIT_MS)

    device.crash()
    expect(chip(page, handle)).to_have_text("offline", timeout=WAIT_MS)
    expect(row.locator("[data-field=why]")).to_contain_text("by Will")
    again = HandMadeDevice(settings, handle, token, 2)
    expect(chip(page, handle)).to_have_text("online", timeout=WAIT_MS)

    row.locator("[data-action=revoke]").click()
    page.fill("#revoke-reason", XSS)
    page.locator("#revoke-dialog button[type=submit]").click()
    expect(chip(page, handle)).to_have_text("revoked", timeout=WAIT_MS)
    expect(row).to_contain_text(f"by ann@example.org: {XSS}")
    assert never_reloaded(page)
    again.leave()


def test_events_enter_quietly_and_wait_behind_the_pill(
    open_page: OpenPage, enrol: Callable[[str], tuple[str, str]], settings: Settings
) -> None:
    handle, token = enrol("Porch")
    device = HandMadeDevice(settings, handle, token, 1)
    page = open_page("/events")
    device.report("door_open", {"note": XSS})
    rows = page.locator("tr.event")
    expect(rows).to_have_count(1, timeout=WAIT_MS)
    expect(rows.first).to_contain_text(XSS)
    rows.first.locator("summary").click()

    for n in range(60):
        device.report("tick", {"n": n})
    expect(rows).to_have_count(61, timeout=WAIT_MS)
    expect(page.locator("tr.event details[open]")).to_have_count(1)  # what was open stays open

    page.mouse.wheel(0, 900)
    page.wait_for_selector("tr.event >> nth=20")
    for n in range(12):
        device.report("motion", {"n": n})
    expect(page.locator("#event-pill")).to_have_text("12 new", timeout=WAIT_MS)
    expect(rows).to_have_count(61)
    page.click("#event-pill")
    expect(rows).to_have_count(73, timeout=WAIT_MS)

    page.select_option("select[name=type]", "door_open")
    expect(rows).to_have_count(1, timeout=WAIT_MS)
    device.report("motion", {})
    device.report("door_open", {})
    expect(rows).to_have_count(2, timeout=WAIT_MS)
    assert never_reloaded(page)
    device.leave()


def test_a_page_that_was_cut_off_fills_the_gap(
    open_page: OpenPage,
    enrol: Callable[[str], tuple[str, str]],
    settings: Settings,
    broker: Service,
    database: Database,
) -> None:
    handle, token = enrol("Porch")
    device = HandMadeDevice(settings, handle, token, 1)
    page = open_page("/devices")
    expect(chip(page, handle)).to_have_text("online", timeout=WAIT_MS)
    broker.stop()
    expect(page.locator("#live-status")).to_contain_text("connecting", timeout=WAIT_MS)
    other, _ = enrol("Garage")  # told while nobody could hear it
    broker.start()
    expect(page.locator("#live-status")).to_contain_text("live", timeout=60_000)
    expect(chip(page, other)).to_have_text("offline", timeout=WAIT_MS)
    with database.transaction() as session:
        agent = identity.find_agent(session)
        deadline = time.monotonic() + 30
        while not any(view.presence == "online" for view in device_views.overview(session, agent.agent_id)):
            assert time.monotonic() < deadline
            page.wait_for_timeout(100)
    expect(chip(page, handle)).to_have_text("online", timeout=WAIT_MS)
    assert never_reloaded(page)
    device.leave()
