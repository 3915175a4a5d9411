"""Enrolment as people do it: a code from the page, a satellite that shows it, three words compared, and online."""

import os
import re
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from .conftest import BIN, Running, wait_until

pytestmark = pytest.mark.browser
# Where to keep pictures of the pages for somebody to look at; nowhere unless asked.
PICTURES = os.environ.get("MARVAIN_TEST_PICTURES")
CODE = r"[0-9A-Z]{4}(?:-[0-9A-Z]{4}){3}"


def picture(page: Page, name: str) -> None:
    if PICTURES:
        page.screenshot(path=Path(PICTURES) / f"{name}.png", full_page=True)


def go_live(page: Page, url: str) -> None:
    page.goto(url)
    expect(page.locator("#live-status")).to_have_attribute("data-state", "live")


def enrolling(instance, code: str, folder: Path, *more: str) -> Running:
    folder.mkdir()
    argv = [BIN / "marvain-satellite", "enrol", "--hub", instance.web, "--code", code, *more]
    return Running([*argv, "--state-dir", folder / "state"], folder / "log").start()


def words_of(device: Running) -> str:
    found = wait_until(lambda: re.search(r"for this device: ([a-z]+ [a-z]+ [a-z]+)", device.log()), "three words")
    return found[1]


def test_a_code_from_the_page_brings_a_satellite_online(instance, open_browser, tmp_path):
    page, devices = open_browser().new_page(), open_browser(viewport={"width": 390, "height": 844}).new_page()
    go_live(devices, f"{instance.web}/devices")
    page.goto(f"{instance.web}/devices/new")
    picture(page, "device-new")
    page.get_by_role("link", name="Use a claim code").click()
    page.get_by_label("Name").fill("Weather mast")
    picture(page, "claim-new")
    page.get_by_role("button", name="Make the code").click()
    code = page.locator("#claim-code").inner_text()
    assert re.fullmatch(CODE, code)
    expect(page.locator("#live-status")).to_have_attribute("data-state", "live")
    expect(page.get_by_text("waiting for a device")).to_be_visible()
    expect(page.locator(".claim-state time[data-countdown]")).to_contain_text("min")
    expect(page.get_by_role("img", name="The claim code as a picture")).to_be_visible()
    picture(page, "claim")
    expect(devices.get_by_text("One claim code is open")).to_be_visible()

    device = enrolling(instance, code, tmp_path / "mast", "--name", "mast")
    words = words_of(device)
    for one in (page, devices):
        expect(one.locator("[data-enrolment]")).to_contain_text(words)
    expect(page.locator("#claim-code")).to_be_hidden()
    picture(page, "claim-come")
    picture(devices, "phone-joining")
    devices.get_by_role("link", name="Compare and decide").click()
    expect(devices.locator(".phrase-big")).to_have_text(words)
    picture(devices, "phone-decision")
    # By keyboard: from the name to the button that says what was compared.
    devices.get_by_label("Name").fill("Tall mast")
    devices.get_by_role("button", name="The words match: approve").focus()
    devices.keyboard.press("Enter")
    expect(devices).to_have_url(re.compile(r"/devices/[0-9a-f-]{36}$"))
    assert device.process.wait(30) == 0, device.log()
    assert "weather-mast has its token" in device.log()
    expect(page.get_by_text("it has its token")).to_be_visible()
    picture(page, "claim-done")

    running = Running(
        [BIN / "marvain-satellite", "run", "--state-dir", tmp_path / "mast" / "state"], tmp_path / "run.log"
    ).start()
    try:
        expect(devices.locator("[data-field=presence]").first).to_contain_text("online")
        expect(devices.get_by_role("heading", level=1)).to_have_text("Tall mast")
        picture(devices, "phone-online")
    finally:
        assert running.stop() == 0
    again = enrolling(instance, code, tmp_path / "thief")
    assert again.process.wait(30) == 77
    assert "this code does not work" in again.log()


def test_on_the_command_line_and_rejected_in_the_browser(instance, page, tmp_path):
    made = instance.cli("device", "claim", "--name", "Porch", "--minutes", "5")
    assert made["url"] == f"{instance.web}/enrol#code={made['code']}"
    device = enrolling(instance, made["url"].partition("code=")[2], tmp_path / "porch")
    words = words_of(device)
    (waiting,) = instance.cli("device", "pending")
    assert waiting["phrase"] == words
    page.goto(f"{instance.web}/devices/enrolments/{waiting['enrolment_id']}")
    picture(page, "decision")
    page.get_by_label("Reason").fill("not one of ours")
    page.get_by_role("button", name="Reject it").click()
    expect(page).to_have_url(re.compile(r"/devices$"))
    assert device.process.wait(30) == 77
    assert "rejected: not one of ours" in device.log()
    assert instance.cli("device", "pending") == []

    second = instance.cli("device", "claim", "--name", "Porch")
    device = enrolling(instance, second["code"], tmp_path / "second")
    words_of(device)
    (waiting,) = instance.cli("device", "pending")
    approved = instance.cli("device", "approve", waiting["enrolment_id"], "--handle", "porch-light")
    assert approved["handle"] == "porch-light"
    assert device.process.wait(30) == 0
    instance.cli("device", "approve", waiting["enrolment_id"], code=4)
    third = instance.cli("device", "claim", "--for", "porch-light", "--approve")
    assert enrolling(instance, third["code"], tmp_path / "third").process.wait(30) == 0
    fourth = enrolling(instance, instance.cli("device", "claim")["code"], tmp_path / "fourth")
    words_of(fourth)
    (waiting,) = instance.cli("device", "pending")
    instance.cli("device", "reject", waiting["enrolment_id"], "--reason", "no")
    assert fourth.process.wait(30) == 77


def test_the_page_behind_the_picture_shows_the_code_and_sends_it_nowhere(instance, open_browser):
    page = open_browser(viewport={"width": 390, "height": 844}, storage_state=None).new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{instance.web}/enrol#code=K7QF-2M9X-W3TE-0HVB")
    expect(page.locator("#code")).to_have_text("K7QF-2M9X-W3TE-0HVB")
    expect(page.locator("#command")).to_contain_text(f"--hub {instance.web} --code K7QF-2M9X-W3TE-0HVB")
    picture(page, "phone-enrol")
    page.goto(f"{instance.web}/enrol#code=<b>x</b>")
    page.reload()
    expect(page.get_by_text("There is no code in this address")).to_be_visible()
    assert not any("K7QF" in url.partition("#")[0] for url in asked)


def test_a_withdrawn_code_lets_nobody_in(instance, page, tmp_path):
    made = instance.cli("device", "claim", "--name", "Cellar")
    go_live(page, f"{instance.web}/devices")
    page.locator(".joining summary").click()
    line = page.locator(".joining li", has_text="Cellar")
    picture(page, "codes")
    line.get_by_role("button", name="Withdraw").click()
    expect(page.get_by_text("is withdrawn")).to_be_visible()
    device = enrolling(instance, made["code"], tmp_path / "cellar")
    assert device.process.wait(30) == 77
    request = urllib.request.Request(f"{instance.web}/v1/enrol", data=b"{}", headers={"X-Forwarded-For": "192.0.2.1"})
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request)
    assert refused.value.code == 403
    refused.value.close()
