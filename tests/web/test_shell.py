"""The frame in a real browser, under its strict policy, on a wide screen and a phone; and the process around it."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright
from ports import free_port

from hub import sign_in
from hub.database import Database

PASSWORD = "three quiet satellites"
WIDE = {"width": 1280, "height": 800}
PHONE = {"width": 390, "height": 844}
CHROMIUM = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=CHROMIUM)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Browser, served: str) -> Iterator[Callable[..., Page]]:
    """Opens pages; at the end, none of them may have complained (the policy included)."""
    contexts: list[BrowserContext] = []
    complaints: list[str] = []

    def open_one(
        path: str, *, viewport: dict[str, int] = WIDE, scheme: str = "light", token: str = "", watched: bool = True
    ) -> Page:
        context = browser.new_context(
            base_url=served, viewport=viewport, color_scheme=scheme, permissions=["clipboard-read", "clipboard-write"]
        )
        contexts.append(context)
        if token:
            context.add_cookies([{"name": "marvain_session", "value": token, "url": served}])
        page = context.new_page()
        # No broker runs here, so the page's live connection is none of these tests' business.
        page.route("**/live/**", lambda route: route.abort())
        if watched:
            page.on("pageerror", lambda error: complaints.append(str(error)))
            page.on("console", lambda said: complaints.append(said.text) if "Content Security" in said.text else None)
        page.goto(path)
        return page

    yield open_one
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.mark.browser
def test_a_person_sets_up_signs_out_and_in_again(open_page: Callable[..., Page], database: Database) -> None:
    with database.transaction() as session:
        token = sign_in.setup_link(session, datetime.now(UTC))
    page = open_page(f"/setup/{token}")
    page.get_by_label("E-mail address").fill("ann@example.org")
    page.get_by_label("Your name").fill("Ann")
    page.get_by_label("Password", exact=True).fill("short")
    page.get_by_label("Password, once more", exact=True).fill("short")
    page.get_by_role("button", name="Create the account").click()
    expect(page.get_by_text("Use at least 10 characters.")).to_be_visible()
    expect(page.get_by_label("Password", exact=True)).to_be_focused()

    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_role("button", name="Show password", exact=True).click()
    expect(page.get_by_label("Password", exact=True)).to_have_attribute("type", "text")
    page.get_by_label("Password, once more", exact=True).fill(PASSWORD)
    page.get_by_role("button", name="Create the account").click()
    expect(page).to_have_url(re.compile("/devices$"))
    expect(page.locator(".toast")).to_contain_text("Welcome, Ann.")

    page.get_by_role("button", name="Your menu").click()
    page.get_by_role("button", name="Sign out").click()
    expect(page).to_have_url(re.compile("/sign-in$"))
    page.get_by_label("E-mail address").fill("ann@example.org")
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Devices")).to_be_visible()


@pytest.mark.browser
def test_the_theme_is_chosen_and_kept(open_page: Callable[..., Page], owner_token: str) -> None:
    page = open_page("/account", scheme="dark", token=owner_token)
    ground = "getComputedStyle(document.documentElement).backgroundColor"
    dark = page.evaluate(ground)
    page.get_by_role("button", name="Your menu").click()
    page.get_by_text("Light").click()
    light = page.evaluate(ground)
    assert light != dark
    page.reload()
    assert page.evaluate(ground) == light
    assert page.locator("[data-theme-switch] input[value=light]").is_checked()


@pytest.mark.browser
@pytest.mark.parametrize("path", ["/devices", "/events", "/account", "/devices/new"])
def test_on_a_phone_nothing_is_wider_than_the_screen(
    open_page: Callable[..., Page], owner_token: str, path: str
) -> None:
    page = open_page(path, viewport=PHONE, token=owner_token)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    nav = page.get_by_role("navigation", name="Main")
    expect(nav).to_be_hidden()
    page.get_by_role("button", name="Open the navigation").click()
    expect(nav.get_by_role("link", name="Events")).to_be_visible()
    page.keyboard.press("Escape")
    expect(nav).to_be_hidden()


@pytest.mark.browser
def test_on_a_wide_screen_the_navigation_stands_there(open_page: Callable[..., Page], owner_token: str) -> None:
    page = open_page("/devices", token=owner_token)
    here = page.get_by_role("navigation", name="Main").get_by_role("link", name="Devices")
    expect(here).to_have_attribute("aria-current", "page")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()


@pytest.mark.browser
def test_times_tick_by_the_hubs_clock_and_keep_a_selection(open_page: Callable[..., Page], owner_token: str) -> None:
    page = open_page("/account", token=owner_token)
    first = page.locator("time[data-relative]").first
    expect(first).to_have_text(re.compile(r"^(now|\d+ s ago)$"))
    page.evaluate("window.marvainClock.setOffset(7_200_000)")
    expect(first).to_have_text("2 h ago")
    assert first.get_attribute("title")
    page.evaluate("getSelection().selectAllChildren(document.querySelector('time[data-relative]'))")
    page.wait_for_timeout(1200)
    assert page.evaluate("getSelection().toString()") == "2 h ago"


@pytest.mark.browser
def test_copying_says_so_and_messages_are_text(open_page: Callable[..., Page], owner_token: str) -> None:
    page = open_page("/account", token=owner_token)
    page.evaluate(
        """() => {
          const box = document.createElement("div");
          const code = Object.assign(document.createElement("code"), {id: "secret", textContent: "mv1.kitchen.abc"});
          const button = Object.assign(document.createElement("button"), {textContent: "Copy"});
          button.dataset.copy = "#secret";
          box.append(code, button);
          document.querySelector("main").append(box);
        }"""
    )
    page.get_by_role("button", name="Copy").click()
    expect(page.locator(".toast")).to_contain_text("Copied.")
    assert page.evaluate("navigator.clipboard.readText()") == "mv1.kitchen.abc"
    page.evaluate(
        """document.body.dispatchEvent(new CustomEvent("marvain:toast",
           {bubbles: true, detail: {message: "<img src=x onerror=alert(1)>", level: "error"}}))"""
    )
    expect(page.get_by_role("alert")).to_contain_text("<img src=x")
    assert page.locator(".toast img").count() == 0


@pytest.mark.browser
def test_the_policy_stops_inline_script_and_lets_our_modules_and_socket_through(
    open_page: Callable[..., Page], owner_token: str
) -> None:
    page = open_page("/account", token=owner_token, watched=False)
    stopped = page.evaluate(
        """async () => {
          const script = Object.assign(document.createElement("script"), {textContent: "window.hacked = true"});
          const stopped = new Promise((done) => addEventListener("securitypolicyviolation", done, {once: true}));
          document.body.append(script);
          return [(await stopped).effectiveDirective, window.hacked ?? null];
        }"""
    )
    assert stopped == ["script-src-elem", None]
    built = page.locator("link[rel=icon]").get_attribute("href").rsplit("/img/", 1)[0]
    assert (
        page.evaluate(f"import('{built}/vendor/mqtt-5.16.0.esm.js').then((m) => typeof m.default.connect)")
        == "function"
    )
    blocked = page.evaluate(
        """() => new Promise((done) => {
          addEventListener("securitypolicyviolation", () => done(true), {once: true});
          const socket = new WebSocket(`ws://${location.host}/mqtt`, "mqtt");
          socket.onopen = socket.onclose = () => done(false);
        })"""
    )
    assert blocked is False


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_enough_contrast_in_both_themes(open_page: Callable[..., Page], owner_token: str, scheme: str) -> None:
    page = open_page("/account", scheme=scheme, token=owner_token)
    pairs = [
        *(
            (ink, ground)
            for ink in ("ink", "ink-soft", "ink-faint")
            for ground in ("ground", "surface", "surface-sunk")
        ),
        *((tone, f"{tone}-wash") for tone in ("good", "warn", "bad", "info", "calm", "accent")),
        *((tone, "surface") for tone in ("good", "warn", "bad", "accent")),
        ("accent-ink", "accent"),
        ("accent-ink", "accent-strong"),
        ("danger-ink", "danger"),
    ]
    ratios = page.evaluate(
        """(pairs) => {
          const canvas = new OffscreenCanvas(1, 1).getContext("2d", {willReadFrequently: true});
          const probe = document.body.appendChild(document.createElement("i"));
          const luminance = (name) => {
            probe.style.color = `var(--${name})`;
            canvas.fillStyle = getComputedStyle(probe).color;
            canvas.fillRect(0, 0, 1, 1);
            const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].map((part) => {
              const value = part / 255;
              return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
            });
            return 0.2126 * r + 0.7152 * g + 0.0722 * b;
          };
          return pairs.map(([ink, ground]) => {
            const [high, low] = [luminance(ink), luminance(ground)].sort((a, b) => b - a);
            return (high + 0.05) / (low + 0.05);
          });
        }""",
        pairs,
    )
    poor = {pair: round(ratio, 2) for pair, ratio in zip(pairs, ratios, strict=True) if ratio < 4.5}
    assert poor == {}


def run_web(database_url: str, port: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "web"],
        env={**os.environ, "MARVAIN_DATABASE_URL": database_url, "MARVAIN_WEB_PORT": str(port)},
        cwd=Path(__file__).parents[2],
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_taken_port_and_an_old_schema_are_said_with_their_exit_codes(
    database_url: str, empty_database_url: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = run_web(database_url, port)
        _, said = process.communicate(timeout=60)
    assert process.returncode == os.EX_UNAVAILABLE
    assert "port is taken" in said
    process = run_web(empty_database_url, free_port())
    _, said = process.communicate(timeout=60)
    assert process.returncode == os.EX_CONFIG
    assert "marvain migrate" in said
    process = run_web("postgresql://nobody@127.0.0.1:1/none", free_port())
    _, said = process.communicate(timeout=60)
    assert process.returncode == os.EX_UNAVAILABLE
    process = run_web("nonsense", free_port())
    _, said = process.communicate(timeout=60)
    assert process.returncode == os.EX_CONFIG
    assert "Traceback" not in said


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_in_order(database_url: str, number: signal.Signals) -> None:
    port = free_port()
    process = run_web(database_url, port)
    assert process.stderr is not None
    for line in process.stderr:
        if "web.ready" in line:
            assert f"http://127.0.0.1:{port}" in line
            break
    process.send_signal(number)
    _, said = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "web.stopped" in said
    assert "Traceback" not in said
