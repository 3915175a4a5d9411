"""What could not be stored and who is set aside, in a real browser, on a desk and on a phone."""

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright
from sqlalchemy import text

from hub import dead_letters, devices, identity, quarantines
from hub.database import Database
from hub.quarantines import Spell
from web.security import SESSION_COOKIE

pytestmark = pytest.mark.browser
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
PICTURES = os.environ.get("MARVAIN_TEST_PICTURES", "")
HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Browser, served: str, owner_token: str):
    def open_(width: int, scheme: str = "light") -> Page:
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        context.set_default_timeout(20_000)
        context.add_cookies([{"name": SESSION_COOKIE, "value": owner_token, "url": served}])
        page = context.new_page()
        page.on("dialog", lambda _: pytest.fail("a script of a device ran"))
        return page

    return open_


def look(page: Page, name: str) -> None:
    """Nothing sticks out; a picture, where there is a folder for pictures."""
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{name} is wider than its window"
    if PICTURES:
        page.screenshot(path=Path(PICTURES) / f"{name}.png", full_page=True)


def test_dead_letters_are_read_tried_again_and_discarded(database: Database, open_page, served: str) -> None:
    now = datetime.now(UTC)
    with database.transaction() as session:
        agent_id = identity.ensure_first_agent(session).agent_id
        handle = devices.add(session, agent_id, "Porch", scopes=["*"], by="ann").device.handle
        for n in range(3):
            payload = f'{{"id": "e{n}", "epoch": 1, "payload": {{"note": "{HOSTILE}"}}}}'.encode()
            error = f"DataError: {HOSTILE}"
            topic = f"marvain/v1/d/{handle}/event/tick"
            dead_letters.park(session, topic, payload, error, now, direction="in", handle=handle)
    desk, phone = open_page(1280, "dark"), open_page(390)
    desk.goto(f"{served}/dead-letters")
    expect(desk.get_by_role("heading", name="3 in all")).to_be_visible()
    look(desk, "dead-letters")
    phone.goto(f"{served}/dead-letters")
    look(phone, "dead-letters-390")

    desk.locator(".dead-letters a").first.click()
    expect(desk.locator(".dead-letter-payload").first).to_contain_text(HOSTILE)
    look(desk, "dead-letter")
    desk.get_by_role("button", name="Try again").click()
    desk.wait_for_url("**/dead-letters**")
    with database.transaction() as session:
        left = session.execute(text("SELECT count(*) FROM dead_letters")).scalar_one()
        stored = session.execute(text("SELECT count(*) FROM events")).scalar_one()
    assert (left, stored) == (2, 1), "it was tried again, and this time it could be stored"

    phone.reload()
    phone.locator(".dead-letters a").first.click()
    phone.get_by_role("button", name="Discard", exact=True).click()
    expect(phone.get_by_role("dialog")).to_contain_text("is gone then")
    phone.get_by_role("button", name="Keep it").click()
    phone.get_by_role("button", name="Discard", exact=True).click()
    phone.get_by_role("button", name="Discard for good").click()
    phone.wait_for_url("**/dead-letters")
    desk.goto(f"{served}/dead-letters")
    desk.get_by_label("Type").fill("7")
    desk.get_by_role("button", name="Discard for good").click()
    expect(desk.locator("#field-typed-error")).to_be_visible()
    count = desk.get_by_label("Type")
    count.fill(desk.locator("label[for=field-typed]").inner_text().split()[1])
    desk.get_by_role("button", name="Discard for good").click()
    expect(desk.get_by_role("heading", name="Nothing was left over")).to_be_visible()


def test_who_is_in_quarantine_is_seen_and_let_go(database: Database, open_page, served: str) -> None:
    now = datetime.now(UTC)
    with database.transaction() as session:
        agent_id = identity.ensure_first_agent(session).agent_id
        device = devices.add(session, agent_id, "Porch", scopes=["*"], by="ann").device
        spell = Spell("flood", "it sent more than 500 messages a second", now + timedelta(minutes=1), 1_234, HOSTILE)
        quarantines.note(session, {device.handle: spell}, now)
    for width in (1280, 390):
        page = open_page(width)
        page.goto(f"{served}/devices/{device.device_id}")
        expect(page.get_by_text("In quarantine:")).to_be_visible()
        expect(page.get_by_text("1,234")).to_be_visible()
        look(page, f"quarantine-{width}")
    page.get_by_role("button", name="Let it go now").click()
    page.wait_for_url(f"**/devices/{device.device_id}*")
    expect(page.get_by_text("In quarantine:")).to_have_count(0)
    with database.transaction() as session:
        assert session.execute(text("SELECT count(*) FROM quarantines")).scalar_one() == 0
