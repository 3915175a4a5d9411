"""Access in a real browser: by keyboard, with faults and effects as one types, two people at once, on a phone too."""

import uuid
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Expect, Page, sync_playwright

from hub import devices
from hub.access import roles
from hub.database import Database
from web.security import SESSION_COOKIE

pytestmark = pytest.mark.browser
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
WIDE = {"width": 1280, "height": 800}
PHONE = {"width": 390, "height": 844}
WAIT_MS = 15_000
expect = Expect()
expect.set_options(timeout=WAIT_MS)
XSS = "<img src=x onerror=alert(1)>"
OpenPage = Callable[..., Page]
MakeRole = Callable[..., uuid.UUID]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Browser, served: str, owner_token: str) -> Iterator[OpenPage]:
    """Opens pages of the owner's browser; at the end, none may have complained (the content policy included)."""
    contexts: list[BrowserContext] = []
    complaints: list[str] = []

    def start(path: str, viewport: dict[str, int] = WIDE) -> Page:
        context = browser.new_context(base_url=served, viewport=viewport)  # type: ignore[arg-type]
        contexts.append(context)
        context.add_cookies([{"name": SESSION_COOKIE, "value": owner_token, "url": served}])
        page = context.new_page()
        page.set_default_timeout(WAIT_MS)
        # No broker runs here, so the page's live connection is none of these tests' business.
        page.route("**/live/**", lambda route: route.abort())
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda said: complaints.append(said.text) if "Content Security" in said.text else None)
        page.on("dialog", lambda dialog: (complaints.append(dialog.message), dialog.dismiss()))
        page.goto(path)
        return page

    yield start
    for context in contexts:
        context.close()
    assert complaints == []


def save_button(page: Page) -> str:
    return page.locator("[data-save]").inner_text()


def test_a_role_is_made_by_keyboard_with_its_faults_and_effects_in_sight(
    open_page: OpenPage, database: Database, home: uuid.UUID, porch: uuid.UUID
) -> None:
    with database.transaction() as session:
        devices.add(session, home, XSS, scopes=[], by="a test", handle="hostile")
    page = open_page("/access/roles/new")
    expect(page.get_by_label("Name")).to_be_focused()
    page.keyboard.type(f"Helpers {XSS}")
    filters = page.locator("[data-input=filter]")
    filters.first.focus()
    page.keyboard.type("ui/#")
    expect(page.get_by_text("cannot be granted; to publish there are")).to_be_visible()
    expect(filters.first).to_have_attribute("aria-invalid", "true")
    expect(page.locator("#preview")).to_contain_text("first mend what is marked")
    assert save_button(page) == "Preview"

    page.keyboard.press("Control+a")
    page.keyboard.type("x/{agent}/help")
    expect(filters.first).not_to_have_attribute("aria-invalid", "true")
    page.keyboard.press("Enter")  # the next row
    expect(filters).to_have_count(2)
    expect(filters.nth(1)).to_be_focused()
    page.keyboard.type("x/{agent}/more")
    page.get_by_role("button", name="Remove this grant").nth(1).press("Enter")
    expect(filters).to_have_count(1)
    expect(filters.first).to_be_focused()

    page.get_by_label("Porch").press("Space")
    expect(page.locator("#preview")).to_contain_text("1 new permission")
    page.locator("#preview summary").press("Enter")
    expect(page.locator("#preview")).to_contain_text("porch may")
    page.get_by_label(XSS).press("Space")  # patched while it is open: it stays open
    expect(page.locator("#preview")).to_contain_text("2 new permissions")
    expect(page.locator("#preview details[open]")).to_have_count(1)
    save = page.get_by_role("button", name="Save", exact=True)
    save.press("Enter")
    expect(page.get_by_text("It is in effect already.")).to_be_visible()
    with database.transaction() as session:
        assert [one.name for one in roles.list_roles(session, home)] == [f"Helpers {XSS}"]

    # Before its scripts have run, the link leads to the question on a page of its own.
    page.wait_for_load_state("load")
    page.get_by_role("link", name="Delete this role").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("2 permissions lost")
    page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    expect(page.get_by_role("link", name="Delete this role")).to_be_focused()
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_text("No roles yet")).to_be_visible()


def test_two_people_at_once_and_questions_that_can_be_passed_on(
    open_page: OpenPage, make_role: MakeRole, porch: uuid.UUID
) -> None:
    role = make_role("Helpers", ("publish", "x/{agent}/help"), devices=(porch,))
    mine, theirs = open_page(f"/access/roles/{role}"), open_page(f"/access/roles/{role}")
    for page, words in ((theirs, "theirs"), (mine, "mine")):
        page.get_by_label("What it is for").fill(words)
        page.get_by_role("button", name="Save", exact=True).click()
    expect(theirs.get_by_text("Saved.")).to_be_visible()
    expect(mine.get_by_text("Somebody else changed this role meanwhile.")).to_be_visible()
    assert mine.get_by_label("What it is for").input_value() == "mine"
    mine.get_by_role("button", name="Save mine over theirs").click()
    expect(mine.get_by_text("Saved.")).to_be_visible()

    page = open_page("/access/try")
    page.get_by_label("Who").select_option("porch")
    page.get_by_label("Topic or filter").fill("marvain/v1/hub/status")
    expect(page.locator("#verdict")).to_contain_text("Refused")
    page.reload()
    expect(page.locator("#verdict")).to_contain_text("Refused")
    page.get_by_label("wants to").select_option("connect")
    expect(page.locator("#verdict")).to_contain_text("Allowed")
    expect(page.get_by_label("Topic or filter")).to_be_hidden()


def test_on_a_phone_nothing_is_wider_than_the_screen(
    open_page: OpenPage, make_role: MakeRole, porch: uuid.UUID
) -> None:
    role = make_role("Helpers " * 9, ("publish", "x/{agent}/" + "long" * 40), devices=(porch,))
    page = open_page("/access", PHONE)
    for path in (
        "/access",
        "/access/topics?action=publish&topic=" + "long/" * 60,
        "/access/roles",
        f"/access/roles/{role}",
        "/access/try?username=porch&action=publish&topic=" + "long" * 60,
        "/access/denials",
        "/access/sessions",
        "/access/history",
        f"/access/devices/{porch}",
        "/integrations",
        "/integrations/new",
    ):
        page.goto(path)
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"], path
