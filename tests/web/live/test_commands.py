"""Commands and config in a real browser, live: typed text stays, faults stand at their fields."""

import json
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import paho.mqtt.client as paho
import pytest
from playwright.sync_api import Page, expect, sync_playwright

from hub import devices, identity, tags
from hub.database import Database
from hub.settings import Settings
from web.security import SESSION_COOKIE

pytestmark = pytest.mark.browser
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
WAIT_MS = 15_000
PHONE = 390
Service = Any  # tests/web/live/conftest.py
Enrol = Callable[[str], tuple[str, str]]
SCHEMA = {
    "type": "object",
    "required": ["times"],
    "properties": {"times": {"type": "integer", "maximum": 9}, "colour": {"enum": ["red", "green"]}},
}
VERBS = [{"name": "blink", "args_schema": SCHEMA}, {"name": "wipe", "risk": "high"}]


class Lamp:
    """A device by hand: reports half the way of each command, ends it when told to, and applies every config."""

    def __init__(self, settings: Settings, handle: str, token: str) -> None:
        self._base = f"{settings.root}/d/{handle}"
        self.asked: list[tuple[str, Any]] = []
        self.client = paho.Client(paho.CallbackAPIVersion.VERSION2, handle, protocol=paho.MQTTv311)
        self.client.username_pw_set(handle, token)
        self.client.on_connect = self._greet
        self.client.on_message = self._obey
        self.client.connect("127.0.0.1", settings.mqtt_port)
        self.client.loop_start()

    def say(self, what: str, **payload: Any) -> None:
        self.client.publish(f"{self._base}/{what}", json.dumps({"epoch": 1} | payload), 1)

    def finish(self) -> None:
        self.say(f"reply/{self.asked[-1][0]}", status="succeeded", result={"lit": True})

    def leave(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()

    def _greet(self, *_: Any) -> None:
        self.client.subscribe([(f"{self._base}/cmd/#", 1), (f"{self._base}/config", 1)])
        self.say("hello", verbs=VERBS)

    def _obey(self, _client: Any, _userdata: Any, message: paho.MQTTMessage) -> None:
        payload = json.loads(message.payload)
        if message.topic.endswith("/config"):
            self.say("config_reply", rev=payload["rev"], ok=True, reported=payload["values"] | {"own": 1})
            return
        self.asked.append((message.topic.rpartition("/")[2], payload["args"]))
        self.say(f"reply/{self.asked[-1][0]}", status="running", progress=0.5)


@pytest.fixture
def open_page(served: str, owner_token: str, hub: Service) -> Iterator[Callable[..., Page]]:
    """Opens live pages of one signed-in browser; whatever goes wrong in them fails the test."""
    faults: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)

        def start(path: str, width: int = 1280) -> Page:
            context = browser.new_context(viewport={"width": width, "height": 800})
            context.add_cookies([{"name": SESSION_COOKIE, "value": owner_token, "url": served}])
            page = context.new_page()
            page.set_default_timeout(WAIT_MS)
            page.on("pageerror", lambda error: faults.append(str(error)))
            page.on("console", lambda said: faults.append(said.text) if "Content Security" in said.text else None)
            page.goto(served + path)
            expect(page.locator("#live-status")).to_contain_text("live", timeout=WAIT_MS)
            return page

        yield start
        browser.close()
    assert faults == []


@pytest.fixture
def enrol(database: Database, owner_token: str) -> Enrol:
    def add(name: str) -> tuple[str, str]:
        with database.transaction() as session:
            agent = identity.find_agent(session)
            new = devices.add(session, agent.agent_id, name, scopes=list(devices.DEFAULT_SCOPES), by="a test")
            tags.set_tags(session, new.device, ["lamps"], by="a test")
            return str(new.device.device_id), new.token

    return add


def test_a_command_runs_before_ones_eyes_while_one_types(
    open_page: Callable[..., Page], enrol: Enrol, settings: Settings
) -> None:
    device_id, token = enrol("Lamp")
    page = open_page(f"/devices/{device_id}")
    lamp = Lamp(settings, "lamp", token)
    blink = page.locator('[data-verb="blink"]')
    blink.wait_for()  # the verbs came with its hello
    blink.locator("summary").press("Enter")
    page.get_by_label("times").fill("12")
    page.get_by_role("button", name="Send blink").press("Enter")
    expect(page.get_by_text("12 is greater than the maximum of 9")).to_be_visible()
    expect(page.get_by_label("times")).to_be_focused()
    page.get_by_label("times").fill("3")
    page.get_by_label("colour").select_option(label="green")
    page.get_by_role("button", name="Send blink").press("Enter")
    expect(page.locator("[data-part=commands] progress")).to_have_attribute("value", "0.5")
    expect(page.get_by_label("times")).to_have_value("3")  # a changed ledger takes nothing away
    assert lamp.asked[-1][1] == {"times": 3, "colour": "green"}
    lamp.finish()
    expect(page.locator("[data-part=commands]")).to_contain_text("blink done")
    expect(page.locator("[data-part=commands] progress")).to_have_count(0)

    wipe = page.locator('[data-verb="wipe"]')
    wipe.locator("summary").click()
    page.get_by_role("button", name="Send wipe").click()
    expect(wipe.get_by_text("tick that you mean it")).to_be_visible()
    wipe.get_by_label("I mean it").check()
    page.get_by_role("button", name="Send wipe").click()
    expect(page.locator("[data-part=commands] li").first).to_contain_text("wipe running")

    page.get_by_text("Change what is wanted").click()
    page.locator("[name=key]").first.fill("Bad Key")
    expect(page.get_by_text("a key is 1 to 63")).to_be_visible()
    page.locator("[name=key]").first.fill("colour")
    page.locator("[name=value]").first.fill("red")
    page.locator("#config").get_by_role("button", name="Save", exact=True).click()
    expect(page.locator('tr[data-key="colour"]')).to_contain_text("applied")
    expect(page.locator('tr[data-key="own"]')).to_contain_text("its own")
    lamp.leave()


def test_what_waits_for_many_is_followed_and_taken_back_on_a_phone(
    open_page: Callable[..., Page], enrol: Enrol, settings: Settings
) -> None:
    there, token = enrol("Lamp")
    away, _ = enrol("Barn " + "long" * 15)
    lamp = Lamp(settings, "lamp", token)
    page = open_page("/devices?tag=lamps", PHONE)
    expect(page.locator('[data-handle="lamp"] [data-field=presence] .chip')).to_have_text("online")
    page.get_by_role("link", name="Command to all with lamps").click()
    page.get_by_label("blink").check()
    page.get_by_role("button", name="Next").click()
    page.get_by_label("times").fill("2")
    page.get_by_role("button", name="Show whom it reaches").click()
    page.get_by_role("button", name="Send to 2").click()
    expect(page.locator("[data-part=counts]")).to_contain_text("1 running")
    lamp.finish()
    expect(page.locator("[data-part=counts]")).to_contain_text("1 succeeded")
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE
    page.get_by_role("button", name="Cancel the 1 that wait").click()
    expect(page.locator("[data-part=counts]")).to_contain_text("1 cancelled")
    for path in (
        f"/devices/{there}",
        f"/devices/{away}",
        f"/devices/{there}/commands",
        "/devices?tag=lamps",
        "/batches",
    ):
        page.goto(page.url.split("/batches")[0].split("/devices")[0] + path)
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE, path
    assert uuid.UUID(lamp.asked[-1][0])
    lamp.leave()
