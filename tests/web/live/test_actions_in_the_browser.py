"""Two people, two browsers, one proposal: it comes live to both, one decides, the other sees it; keys and a phone."""

import os
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from hub import identity
from hub.actions import proposing
from hub.actions.proposing import Proposal, Proposer
from hub.audit.actors import Actor
from web.security import SESSION_COOKIE

pytestmark = pytest.mark.browser
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
PICTURES = os.environ.get("MARVAIN_TEST_PICTURES", "")
HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture
def browser():
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Browser, served: str, make_user, enter):
    def open_(name: str, role: str, width: int, scheme: str = "light") -> Page:
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        context.set_default_timeout(20_000)
        token = enter(make_user(f"{name}@example.org", role))
        context.add_cookies([{"name": SESSION_COOKIE, "value": token, "url": served}])
        page = context.new_page()
        page.on("dialog", lambda _: pytest.fail("a script of a device ran"))
        return page

    return open_


@pytest.fixture
def propose(database):
    with database.transaction() as session:
        home = identity.ensure_first_agent(session).agent_id

    def propose(words: str, **facts):
        with database.transaction() as session:
            proposal = Proposal("send_message", {"text": words}, **facts)
            proposer = Proposer("device:porch", Actor("porch", "device"))
            return proposing.propose(session, home, proposal, proposer=proposer, now=datetime.now(UTC)).action

    return propose


def look(page: Page, name: str) -> None:
    """Nothing sticks out; a picture, where there is a folder for pictures."""
    wide = "[...document.querySelectorAll('main *')].filter((e) => e.getBoundingClientRect().right > innerWidth + 1)"
    assert page.evaluate(f"{wide}.map((e) => e.outerHTML.slice(0, 200))") == [], f"{name} is wider than its window"
    if PICTURES:
        page.screenshot(path=Path(PICTURES) / f"{name}.png", full_page=True)


def go_live(page: Page, url: str) -> None:
    page.goto(url)
    expect(page.locator("#live-status")).to_have_attribute("data-state", "live")
    page.evaluate("document.documentElement.dataset.stayed = 'yes'")


def test_two_people_decide_what_comes_while_they_look(hub, open_page, served, propose):
    ann, bob = open_page("ann", "owner", 1280, "dark"), open_page("bob", "member", 390)
    go_live(ann, f"{served}/actions")
    go_live(bob, f"{served}/actions")
    expect(ann.get_by_text("Nothing waits")).to_be_visible()
    look(ann, "actions-empty")

    first = propose("Dinner!", why=f"it is six {HOSTILE}")
    for page in (ann, bob):
        expect(page.locator("[data-action-id]")).to_contain_text("Say “Dinner!”")
        expect(page).to_have_title("(1) Actions · Marvain")
    expect(ann.locator("[data-badge=actions]")).to_be_visible()
    look(ann, "actions-waiting")
    look(bob, "actions-waiting-390")

    # Bob is about to decide while Ann is quicker, with keys alone.
    bob.get_by_role("button", name="Reject").click()
    bob.get_by_label("Why").fill("I am not hungry")
    ann.keyboard.press("j")
    ann.keyboard.press("a")
    expect(ann.get_by_role("dialog")).to_contain_text("Say “Dinner!”")
    ann.get_by_label("Why").fill("good")
    ann.keyboard.press("Enter")
    decided = time.monotonic()
    expect(bob.locator("[data-decide-error]")).to_contain_text("already")
    assert time.monotonic() - decided < 3
    expect(bob.get_by_label("Why")).to_have_value("I am not hungry")
    bob.get_by_role("button", name="Not now").click()
    expect(bob.locator("[data-action-id]")).to_have_count(0)
    # The hub does it, and both see what came of it.
    for page in (ann, bob):
        expect(page.locator("[data-part=rest] tbody tr").first).to_contain_text("done")
        expect(page).to_have_title("Actions · Marvain")
        assert page.evaluate("document.documentElement.dataset.stayed") == "yes"

    go_live(bob, f"{served}/actions/{first.action_id}")
    expect(bob.locator("[data-part=timeline]")).to_contain_text("good")
    expect(bob.locator("[data-part=result]")).to_contain_text("message_id")
    look(bob, "action-390")


def test_what_is_typed_stays_though_others_change_the_proposal(hub, open_page, served, propose):
    ann, bob = open_page("ann", "owner", 1280, "dark"), open_page("bob", "member", 390)
    second = propose("Supper!")
    go_live(ann, f"{served}/actions/{second.action_id}")
    go_live(bob, f"{served}/actions/{second.action_id}")
    bob.locator("#reason").fill("half a sentence")
    ann.get_by_text("Change them before it is approved").click()
    ann.locator("#edit-1").fill("Supper at eight!")
    look(ann, "action-edit")
    ann.get_by_role("button", name="Change", exact=True).click()
    expect(ann.locator("h1")).to_contain_text("Supper at eight!")
    expect(bob.locator("h1")).to_contain_text("Supper at eight!")
    expect(bob.locator("#reason")).to_have_value("half a sentence")
    bob.get_by_role("button", name="Approve").click()
    expect(bob.get_by_role("alert")).to_contain_text("It was changed since you looked at it")
    expect(bob.locator("#reason")).to_have_value("half a sentence")
    bob.get_by_role("button", name="Approve").click()
    expect(bob.locator("[data-field=status]")).to_contain_text("done")

    ann.goto(f"{served}/actions/new?tool=send_message")
    ann.get_by_role("textbox", name="Message").fill("From a form")
    look(ann, "action-new")
    ann.get_by_role("button", name="Propose").click()
    expect(ann.locator("h1")).to_contain_text("From a form")
    ann.goto(f"{served}/tools")
    look(ann, "tools")
    bob.goto(f"{served}/tools")
    look(bob, "tools-390")
