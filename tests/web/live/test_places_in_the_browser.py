"""People, spaces and agents in a real browser: two people at once, on a desk and on a phone."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from web.security import SESSION_COOKIE

pytestmark = pytest.mark.browser
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
PICTURES = os.environ.get("MARVAIN_TEST_PICTURES", "")
PASSWORD = "violet teapot on the nineteenth stair"


@pytest.fixture
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
        yield browser
        browser.close()


def context_of(browser: Browser, width: int, scheme: str = "light") -> BrowserContext:
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    context.set_default_timeout(20_000)
    return context


@pytest.fixture
def desk(browser: Browser, served: str, owner_token: str) -> Page:
    context = context_of(browser, 1280, "dark")
    context.add_cookies([{"name": SESSION_COOKIE, "value": owner_token, "url": served}])
    return context.new_page()


def look(page: Page, name: str) -> None:
    """Nothing sticks out; a picture, where there is a folder for pictures."""
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{name} is wider than its window"
    if PICTURES:
        page.screenshot(path=Path(PICTURES) / f"{name}.png", full_page=True)


def test_somebody_is_invited_comes_on_a_phone_and_is_shown_out(browser: Browser, desk: Page, served: str) -> None:
    desk.goto(f"{served}/people")
    desk.get_by_label("E-mail address").fill("ben..b@example.org")
    desk.get_by_role("button", name="Invite").click()
    expect(desk.get_by_label("E-mail address")).to_have_value("ben..b@example.org")
    expect(desk.locator("#email-error, .field-error").first).to_be_visible()
    look(desk, "people-wrong")
    desk.get_by_label("E-mail address").fill("ben@example.org")
    desk.get_by_label("member").check()
    desk.get_by_role("button", name="Invite").click()
    expect(desk.get_by_role("heading", name="Invitation for ben@example.org")).to_be_visible()
    link = desk.locator("[data-copy-source], code").filter(has_text="/invite/").first.inner_text().strip()

    phone = context_of(browser, 390).new_page()
    phone.goto(link)
    phone.get_by_label("Your name").fill("Ben <b>the builder</b>")
    phone.get_by_label("Password", exact=True).fill(PASSWORD)
    phone.get_by_label("Password, once more", exact=True).fill(PASSWORD)
    look(phone, "invite-390")
    phone.get_by_role("button", name="Join").click()
    phone.wait_for_url("**/devices*")
    phone.goto(f"{served}/people")
    expect(phone.get_by_role("button", name="Invite")).to_have_count(0)
    look(phone, "people-390")

    desk.goto(f"{served}/people")
    look(desk, "people-1280")
    desk.get_by_role("link", name="Ben <b>the builder</b>").click()
    desk.get_by_label("admin").check()
    desk.get_by_role("button", name="Save the role").click()
    phone.reload()
    expect(phone.get_by_role("button", name="Invite")).to_have_count(1)
    desk.goto(f"{served}/people")
    desk.get_by_role("link", name="Ben <b>the builder</b>").click()
    look(desk, "person-1280")
    desk.get_by_role("button", name="Block").click()
    phone.reload()
    expect(phone.get_by_text("not a member of any agent")).to_be_visible()
    look(phone, "nowhere-390")


def test_a_space_is_made_kept_private_and_deleted(desk: Page, served: str) -> None:
    desk.set_viewport_size({"width": 390, "height": 900})
    desk.goto(f"{served}/spaces")
    desk.get_by_label("Name").fill("Cellar")
    desk.get_by_role("button", name="Add space").click()
    desk.goto(f"{served}/spaces")
    look(desk, "spaces-390")
    desk.get_by_role("link", name="Cellar").click()
    desk.get_by_role("button", name="Make it private").click()
    expect(desk.get_by_text("Nothing that happens here is stored")).to_be_visible()
    look(desk, "space-390")
    desk.get_by_role("button", name="Delete Cellar").click()
    expect(desk.get_by_text("privacy").first).to_be_visible()
    desk.goto(f"{served}/spaces")
    desk.get_by_role("link", name="Cellar").click()
    desk.get_by_role("button", name="Switch privacy off").click()
    desk.get_by_label("Type Cellar to delete it").fill("Cellar")
    desk.get_by_role("button", name="Delete Cellar").click()
    desk.wait_for_url("**/spaces*")
    expect(desk.get_by_role("link", name="Cellar")).to_have_count(0)


def test_an_agent_is_made_switched_off_and_deleted(desk: Page, served: str) -> None:
    desk.goto(f"{served}/agents")
    desk.get_by_label("Name").fill("Cabin")
    desk.get_by_role("button", name="Make agent").click()
    desk.wait_for_url("**/devices?agent=*")
    desk.goto(f"{served}/agents")
    look(desk, "agents-1280")
    card = desk.locator(".agent-cards li").filter(has_text="Cabin")
    card.get_by_role("link", name="Settings").click()
    desk.get_by_role("button", name="Switch it off").click()
    expect(desk.get_by_text("Switched off.", exact=True)).to_be_visible()
    look(desk, "agent-off-1280")
    desk.get_by_role("button", name="Switch it on").click()
    desk.get_by_label("Type Cabin to delete it").fill("Home")
    desk.get_by_role("button", name="Delete Cabin for good").click()
    expect(desk.locator(".field-error").first).to_be_visible()
    desk.get_by_label("Type Cabin to delete it").fill("Cabin")
    desk.get_by_role("button", name="Delete Cabin for good").click()
    desk.wait_for_url("**/agents")
    expect(desk.get_by_text("being removed", exact=True)).to_be_visible()
    look(desk, "agents-going-1280")
