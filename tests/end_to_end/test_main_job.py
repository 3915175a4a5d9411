"""The main job: a satellite says hello and a person sees it live. Real processes, a real broker, a real browser."""

import os
import re
import signal
import time

import pytest
from playwright.sync_api import Page, expect

from .conftest import EMAIL, PASSWORD, wait_until

pytestmark = pytest.mark.browser


# Whatever broker runs has no part in these.
WITHOUT_BROKER = {
    "test_the_set_up_link_works_once_and_only_then",
    "test_sign_in_and_out_and_wrong_passwords_are_slowed_down",
    "test_a_silent_page_speaks_of_a_hub_that_is_gone",
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """All else on both: the rest of the product does not notice which broker runs."""
    kinds = ["embedded"] if metafunc.function.__name__ in WITHOUT_BROKER else ["embedded", "mosquitto"]
    metafunc.parametrize("broker_kind", kinds, indirect=True, scope="module")


def stay(page: Page) -> None:
    """Mark this document: a reload would lose the mark."""
    page.evaluate("document.documentElement.dataset.stayed = 'yes'")


def assert_stayed(page: Page) -> None:
    assert page.evaluate("document.documentElement.dataset.stayed") == "yes", "the page was reloaded"


def go_live(page: Page, url: str) -> None:
    page.goto(url)
    expect(page.locator("#live-status")).to_have_attribute("data-state", "live")
    stay(page)


def row(page: Page, handle: str):
    return page.locator(f"tr[data-handle='{handle}']")


def test_the_set_up_link_works_once_and_only_then(fresh, signed_in, browser):
    context = browser.new_context()
    page = context.new_page()
    answer = page.goto(fresh.set_up_link())
    assert answer.status in (404, 410)
    page.goto(f"{fresh.web}/devices")
    expect(page).to_have_url(re.compile(r"/sign-in"))
    context.close()


def test_sign_in_and_out_and_wrong_passwords_are_slowed_down(instance, browser):
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"{instance.web}/sign-in")
    for _ in range(7):
        page.get_by_label("E-mail address").fill("nobody@example.org")
        page.get_by_label("Password", exact=True).fill("not the password")
        page.get_by_role("button", name="Sign in").click()
        page.get_by_role("alert").wait_for()
    expect(page.get_by_role("alert")).to_contain_text(re.compile(r"second"))
    page.get_by_label("E-mail address").fill(EMAIL)
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    # The address is held back too, for seconds; the right password of another account works after that.
    for _ in range(40):
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_load_state()
        if "/devices" in page.url:
            break
        page.get_by_label("Password", exact=True).fill(PASSWORD)
        page.wait_for_timeout(500)
    expect(page).to_have_url(re.compile(r"/devices"))
    page.get_by_label("Your menu").click()
    page.get_by_role("button", name="Sign out").click()
    expect(page).to_have_url(re.compile(r"/sign-in"))
    page.goto(f"{instance.web}/devices")
    expect(page).to_have_url(re.compile(r"/sign-in"))
    context.close()


def test_add_run_ping_kill_and_start_again_seen_in_two_browsers(instance, open_browser, satellite):
    first, second = open_browser().new_page(), open_browser().new_page()
    go_live(second, f"{instance.web}/devices")
    first.goto(f"{instance.web}/devices")
    first.get_by_role("link", name="Add satellite").first.click()
    first.get_by_label("Name").fill("Weather Mast")
    first.get_by_role("button", name="Add satellite").click()
    token = first.locator("#token").inner_text()
    assert re.fullmatch(r"mv1\.weather-mast\.[\w-]{43}", token)
    assert f"--token {token}" in first.locator("#run-command").inner_text()
    expect(row(second, "weather-mast")).to_contain_text("never connected")

    daemon = satellite(token)
    expect(first.locator("[data-field=presence]")).to_contain_text("online")
    expect(row(second, "weather-mast")).to_contain_text("online")
    first.goto(f"{instance.web}/devices")
    first.reload()
    assert token not in first.content()  # shown once

    go_live(first, f"{instance.web}/devices")
    heard = row(first, "weather-mast").locator("[data-field=heard]")
    texts = {heard.inner_text() for _ in range(1)}
    wait_until(lambda: texts.add(heard.inner_text()) or len(texts) >= 3, "the age ticks")

    row(first, "weather-mast").locator("[data-action=ping]").click()
    for page in (first, second):
        expect(row(page, "weather-mast").locator("[data-field=command]")).to_contain_text(
            re.compile(r"pong in [\d.]+ m?s")
        )

    killed = time.monotonic()
    daemon.stop(signal.SIGKILL)
    for page in (first, second):
        expect(row(page, "weather-mast")).to_contain_text("by Will")
        expect(row(page, "weather-mast")).to_contain_text("offline")
    assert time.monotonic() - killed < 3

    satellite(token)
    for page in (first, second):
        expect(row(page, "weather-mast").locator("[data-field=presence]")).to_contain_text("online")
        assert_stayed(page)


def test_a_late_will_of_the_old_connection_cannot_turn_it_off(instance, device, satellite):
    daemon = satellite(device["token"])
    one = wait_until(lambda: online(instance, device["handle"]), "online")
    daemon.stop(signal.SIGKILL)
    wait_until(lambda: not online(instance, device["handle"]), "offline", 3)
    again = satellite(device["token"], "satellite")  # the same state folder: the epoch goes on
    two = wait_until(lambda: online(instance, device["handle"]), "online again")
    assert two.epoch > one.epoch
    again.stop(signal.SIGTERM)
    gone = wait_until(lambda: listed(instance, device["handle"], "offline"), "offline")
    assert gone.why == "said goodbye"


def listed(instance, handle, presence):
    view = instance.devices()[handle]
    return view if view.presence == presence else None


def online(instance, handle):
    return listed(instance, handle, "online")


def test_an_event_is_stored_once_and_appears_live(instance, device, satellite, page):
    daemon = satellite(device["token"])
    wait_until(lambda: "hub answered" in daemon.log(), "welcome")
    go_live(page, f"{instance.web}/events")
    sent = daemon.send("door_open", '{"angle": 12, "note": "<script>alert(1)</script>"}')
    assert sent.returncode == 0, sent.stderr
    assert "stored" in sent.stdout
    mine = page.locator("tr.event", has_text=device["name"])
    expect(mine).to_have_count(1)
    expect(mine).to_contain_text("door_open")
    mine.locator("summary").click()
    expect(mine.locator("pre")).to_contain_text("<script>alert(1)</script>")
    bad = daemon.send("door_open", "{angle: 12}")
    assert bad.returncode == 2
    assert "JSON" in bad.stderr
    expect(mine).to_have_count(1)
    assert_stayed(page)


def test_revoke_closes_the_door_at_once_and_everybody_is_told_why(instance, device, satellite, page):
    daemon = satellite(device["token"])
    go_live(page, f"{instance.web}/devices")
    expect(row(page, device["handle"])).to_contain_text("online")
    row(page, device["handle"]).locator("[data-action=revoke]").click()
    page.get_by_label("Reason").fill("lost on the train")
    page.get_by_role("button", name="Revoke it for good").click()
    assert daemon.process.wait(5) == 77
    assert f"revoked by {EMAIL}: lost on the train" in daemon.log()
    expect(row(page, device["handle"])).to_contain_text("revoked")
    expect(row(page, device["handle"])).to_contain_text("lost on the train")
    again = satellite(device["token"])
    assert again.process.wait(10) == 77
    assert device["token"] not in again.log()
    [seen] = [one for one in instance.cli("device", "list") if one["handle"] == device["handle"]]
    assert seen["revoked_reason"] == "lost on the train"
    instance.cli("device", "rotate", device["handle"], code=4)


def test_rotate_gives_a_new_token_once_and_drops_the_old_session(instance, device, satellite, page):
    daemon = satellite(device["token"])
    go_live(page, f"{instance.web}/devices")
    expect(row(page, device["handle"])).to_contain_text("online")
    row(page, device["handle"]).locator("[data-action=rotate]").click()
    page.get_by_role("button", name="Rotate the token", exact=True).click()
    token = page.locator("#token").inner_text()
    assert token != device["token"]
    assert daemon.process.wait(5) == 77
    assert "replaced" in daemon.log()
    assert satellite(device["token"], "old").process.wait(10) == 77
    satellite(token, "new")
    expect(page.locator("[data-field=presence]")).to_contain_text("online")
    page.reload()
    assert token not in page.content()


def test_a_page_left_open_while_the_broker_restarts_fills_the_gap(instance, device, satellite, page):
    daemon = satellite(device["token"])
    wait_until(lambda: online(instance, device["handle"]), "online")
    go_live(page, f"{instance.web}/events")
    instance.kill("broker")
    expect(page.locator("#live-status")).not_to_have_attribute("data-state", "live")
    sent = daemon.send("bell", '{"n": 1}', "--timeout", "30")
    assert sent.returncode == 0, sent.stderr
    expect(page.locator("tr.event", has_text=device["name"])).to_have_count(1, timeout=30_000)
    expect(page.locator("#live-status")).to_have_attribute("data-state", "live", timeout=30_000)
    assert daemon.send("bell", '{"n": 2}', "--timeout", "30").returncode == 0
    expect(page.locator("tr.event", has_text=device["name"])).to_have_count(2)
    assert_stayed(page)
    assert online(instance, device["handle"])


@pytest.mark.parametrize("module", ["hub", "web", "postgres"])
def test_any_part_may_be_killed_and_the_page_comes_back(instance, device, satellite, page, module):
    daemon = satellite(device["token"])
    wait_until(lambda: online(instance, device["handle"]), "online")
    go_live(page, f"{instance.web}/events")
    instance.kill(module)
    assert daemon.send("bell", '{"n": 1}', "--timeout", "60").returncode == 0
    expect(page.locator("tr.event", has_text=device["name"])).to_have_count(1, timeout=40_000)
    expect(page.locator("#live-status")).to_have_attribute("data-state", "live", timeout=40_000)
    assert_stayed(page)


def test_a_silent_page_speaks_of_a_hub_that_is_gone(instance, page):
    go_live(page, f"{instance.web}/devices")
    pid = instance.child("hub")

    os.kill(pid, signal.SIGSTOP)
    try:
        expect(page.locator("#live-status")).to_contain_text("hub is away", timeout=60_000)
    finally:
        os.kill(pid, signal.SIGCONT)
    expect(page.locator("#live-status")).to_have_attribute("data-state", "live", timeout=40_000)
    assert_stayed(page)


def test_the_command_is_a_row_with_its_states_and_times(instance, device, satellite, page):
    satellite(device["token"])
    wait_until(lambda: online(instance, device["handle"]), "online")
    pinged = instance.cli("device", "ping", device["handle"])
    assert pinged["status"] == "succeeded"
    page.goto(f"{instance.web}/devices/{device['device_id']}")
    for word in ("queued", "sent", "succeeded", "the broker took it"):
        expect(page.locator("main")).to_contain_text(word)
