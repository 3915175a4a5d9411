"""Access while devices speak: what is refused shows at once and can be granted, sessions are patched and ended."""

import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import paho.mqtt.client as paho
import pytest
from playwright.sync_api import Expect, Page, sync_playwright

from hub import devices, identity
from hub.database import Database
from hub.settings import Settings
from web.security import SESSION_COOKIE

pytestmark = pytest.mark.browser
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
WAIT_MS = 15_000
expect = Expect()
expect.set_options(timeout=WAIT_MS)
WAIT_S = 15.0
XSS = "<img src=x onerror=alert(1)>"
Service = Any  # tests/web/live/conftest.py
OpenPage = Callable[[str], Page]


@pytest.fixture
def open_page(served: str, owner_token: str, hub: Service) -> Iterator[OpenPage]:
    """Opens live pages of the owner's browser; whatever goes wrong in them fails the test."""
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
def connections() -> threading.Semaphore:
    """Released each time that the device has connected."""
    return threading.Semaphore(0)


@pytest.fixture
def device(
    database: Database, settings: Settings, owner_token: str, hub: Service, connections: threading.Semaphore
) -> Iterator[paho.Client]:
    """A connected device "porch" that comes back when it is thrown out."""
    with database.transaction() as session:
        agent = identity.find_agent(session)
        token = devices.add(session, agent.agent_id, "Porch", scopes=["commands:receive"], by="a test").token
    client = paho.Client(paho.CallbackAPIVersion.VERSION2, "porch", protocol=paho.MQTTv311)
    client.username_pw_set("porch", token)
    client.reconnect_delay_set(1, 1)

    def connected(*_: object) -> None:
        client.subscribe("marvain/v1/d/porch/cmd/#", 1)
        connections.release()

    client.on_connect = connected
    client.connect("127.0.0.1", settings.mqtt_port)
    client.loop_start()
    assert connections.acquire(timeout=WAIT_S)
    yield client
    client.disconnect()
    client.loop_stop()


def test_what_is_refused_shows_at_once_and_is_granted_in_place(
    open_page: OpenPage, device: paho.Client, connections: threading.Semaphore
) -> None:
    page = open_page("/access/denials")
    expect(page.get_by_text("Nothing was refused")).to_be_visible()
    heard = threading.Event()
    device.on_message = lambda *_: heard.set()
    device.subscribe("marvain/v1/hub/status", 1)
    device.publish(f"marvain/v1/d/other/{XSS}", b"{}", 1)
    rows = page.locator("tr.denial")
    expect(rows).to_have_count(2, timeout=WAIT_MS)
    expect(page.get_by_text(XSS).first).to_be_visible()
    page.get_by_role("link", name="Grant exactly this: porch may subscribe marvain/v1/hub/status").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("1 new permission")
    assert page.evaluate("document.documentElement.dataset.untouched === 'yes'")
    dialog.get_by_role("button", name="Grant it").click()
    expect(page.get_by_text("It is in effect already.")).to_be_visible()
    for _ in range(20):  # effective within a second; the retained status is then replayed
        device.subscribe("marvain/v1/hub/status", 1)
        if heard.wait(0.5):
            break
    assert heard.is_set()


def test_sessions_are_patched_in_place_and_ended(
    open_page: OpenPage, device: paho.Client, connections: threading.Semaphore
) -> None:
    page = open_page("/access/sessions")
    row = page.locator('tr[data-row="porch"]')
    expect(row).to_contain_text("connected", timeout=WAIT_MS)
    row.locator("summary").click()
    expect(row).to_contain_text("marvain/v1/d/porch/cmd/#")
    ask = row.get_by_role("link", name="Disconnect Porch")
    ask.focus()
    sent = json.dumps({"epoch": 1})
    for _ in range(3):
        device.publish("marvain/v1/d/porch/reply/none", sent, 1).wait_for_publish(WAIT_S)
    device.subscribe("marvain/v1/d/porch/welcome", 1)
    expect(row).to_contain_text("marvain/v1/d/porch/welcome", timeout=WAIT_MS)  # still open, with what is new
    expect(ask).to_be_focused()

    ask.press("Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("it may come back at once")
    dialog.get_by_label("Reason").fill(XSS)
    dialog.get_by_role("button", name="Disconnect").click()
    expect(page.locator(".toast")).to_contain_text("porch is disconnected.")
    expect(dialog).to_have_count(0)
    assert connections.acquire(timeout=WAIT_S)  # it was thrown out, and came back
    expect(row).to_contain_text("connected", timeout=WAIT_MS)
    assert page.evaluate("document.documentElement.dataset.untouched === 'yes'")
