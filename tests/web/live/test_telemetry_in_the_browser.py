"""Charts in a real browser: the first sample makes one appear, the next ones enter it, and a phone has room for it."""

import json
import os
import re
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from math import sin
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright
from sqlalchemy import text

from hub import devices, identity
from hub.database import Database
from hub.settings import Settings
from hub.telemetry import rollups, samples
from hub.telemetry.samples import NewSamples
from web.security import SESSION_COOKIE

pytestmark = pytest.mark.browser
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
WAIT_MS = 20_000
# A folder for pictures to look at; none are taken without it.
PICTURES = os.environ.get("MARVAIN_TEST_PICTURES", "")


@pytest.fixture
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Browser, served: str, owner_token: str) -> Iterator[Callable[..., Page]]:
    faults: list[str] = []

    def start(path: str, width: int = 1280, scheme: str = "light") -> Page:
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        context.add_cookies([{"name": SESSION_COOKIE, "value": owner_token, "url": served}])
        page = context.new_page()
        page.set_default_timeout(WAIT_MS)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda said: faults.append(said.text) if "Content Security" in said.text else None)
        page.goto(served + path)
        return page

    yield start
    assert faults == []


@pytest.fixture
def porch(database: Database, owner_token: str) -> tuple[uuid.UUID, uuid.UUID, str]:
    with database.transaction() as session:
        agent = identity.find_agent(session)
        new = devices.add(session, agent.agent_id, "Porch", scopes=list(devices.DEFAULT_SCOPES), by="a test")
        return new.device.device_id, agent.agent_id, new.token


def picture(page: Page, name: str) -> None:
    if PICTURES:
        page.locator("#telemetry").scroll_into_view_if_needed()
        page.screenshot(path=Path(PICTURES) / f"{name}.png", full_page=True)


def test_a_first_sample_brings_a_chart_and_the_next_ones_enter_it(
    open_page: Callable[..., Page], porch: Any, settings: Settings, hub: Any, database: Database
) -> None:
    device_id, _, token = porch
    page = open_page(f"/devices/{device_id}")
    expect(page.locator("#live-status")).to_contain_text("live", timeout=WAIT_MS)
    expect(page.locator("[data-empty]")).to_contain_text("no samples yet")
    picture(page, "empty")
    page.evaluate("document.documentElement.dataset.untouched = 'yes'")
    page.wait_for_function("performance.getEntriesByType('resource').some((one) => one.name.includes('/watch'))")

    client = paho.Client(paho.CallbackAPIVersion.VERSION2, "porch", protocol=paho.MQTTv311)
    client.username_pw_set("porch", token)
    client.connect("127.0.0.1", settings.mqtt_port)
    client.loop_start()
    topic = f"{settings.root}/d/porch/telemetry/temperature"

    def send(value: float) -> None:
        client.publish(topic, json.dumps(value), 1).wait_for_publish(20)

    stream = page.locator('[data-stream="temperature"]')
    for number in range(40):  # until the hub has learnt that somebody looks
        send(number / 8)
        page.wait_for_timeout(100)
        if stream.count():
            break
    stream.scroll_into_view_if_needed()  # a chart is read when it comes into sight
    expect(stream.locator("canvas")).to_be_visible(timeout=WAIT_MS)
    send(21.25)
    expect(stream.locator("[data-now]")).to_have_text("21.25", timeout=WAIT_MS)
    expect(stream.locator("[data-readout]")).to_contain_text("to 21.25 in this time", timeout=WAIT_MS)
    expect(page.locator("[data-empty]")).to_have_count(0)

    stream.locator("summary").click()
    send(23.5)
    expect(stream.locator("tbody tr:first-child td:last-child")).to_have_text("23.5", timeout=WAIT_MS)
    assert page.evaluate("document.documentElement.dataset.untouched") == "yes"

    stream.locator("[data-forget]").click()
    page.locator("#forget-dialog button[type=submit]").click()
    expect(stream).to_have_count(0)
    with database.transaction() as session:
        assert session.execute(text("SELECT count(*) FROM telemetry_streams")).scalar_one() == 0
    client.disconnect()
    client.loop_stop()


@pytest.fixture
def filled(database: Database, porch: Any) -> uuid.UUID:
    """A day of three streams."""
    device_id, agent_id, _ = porch
    now = datetime.now(UTC)
    with database.transaction() as session:
        for name, scale in (("temperature", 21.0), ("humidity", 55.0), ("battery_mV", 3700.0)):
            pairs = [
                (now - timedelta(seconds=second), scale + scale / 20 * sin(second / 4000 + scale) + second % 7 / 10)
                for second in range(5, 86_400, 30)
                if not 600 < second < 900
            ]
            samples.append(session, [NewSamples(device_id, agent_id, name, pairs)])
        while rollups.downsample(session):
            pass
    return device_id


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (390, "light")])
def test_a_chart_has_spans_a_crosshair_and_a_table(
    open_page: Callable[..., Page], filled: uuid.UUID, width: int, scheme: str
) -> None:
    page = open_page(f"/devices/{filled}", width, scheme)
    stream = page.locator('[data-stream="temperature"]')
    stream.scroll_into_view_if_needed()
    expect(stream.locator("canvas")).to_be_visible(timeout=WAIT_MS)
    expect(stream.locator("[data-readout]")).to_contain_text("in this time", timeout=WAIT_MS)
    page.locator("[data-span='86400']").click()
    expect(page.locator("[data-span='86400']")).to_have_attribute("aria-pressed", "true")
    expect(stream.locator("[data-csv]")).to_have_attribute("href", re.compile(r"since="))
    page.wait_for_load_state("networkidle")
    stream.locator("[data-chart]").focus()
    page.keyboard.press("ArrowLeft")
    first = stream.locator("[data-readout]")
    # The newest point may hold one sample only and has no range then; the one before it is whole.
    expect(first).to_contain_text(re.compile(r": \d+\.\d+"), timeout=WAIT_MS)
    words = first.text_content()
    page.keyboard.press("ArrowLeft")
    expect(first).not_to_have_text(words or "")
    expect(first).to_contain_text(re.compile(r": \d+\.\d+ \(\d"), timeout=WAIT_MS)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    picture(page, f"charts-{width}-{scheme}")
    with page.expect_download() as download:
        stream.locator("[data-csv]").click()
    file = Path(download.value.path())
    assert download.value.suggested_filename == "porch-temperature-raw.csv"
    assert file.read_text("utf-8").startswith("at,value\n")
