"""From an event of a real satellite to what it does about it: automation, proposal, a yes in a browser, the result."""

import contextlib
import signal

import pytest
from playwright.sync_api import Page, expect

from .conftest import BIN, Running, wait_until

pytestmark = [pytest.mark.browser, pytest.mark.timeout(240)]

CONFIG = """
[verbs.run_action.chime]
command = ["/bin/echo", "ding", "dong"]
about = "Ring the bell"
"""


@pytest.fixture
def start(instance, tmp_path):
    """Starts a satellite that may ring a bell, and sends its events."""
    config = tmp_path / "satellite.toml"
    config.write_text(CONFIG, encoding="utf-8")
    started = []

    def run(token: str) -> Running:
        host, port = instance.mqtt
        argv = [BIN / "marvain-satellite", "run", "--hub", f"mqtt://{host}:{port}", "--token", token]
        one = Running([*argv, "--config", config, "--state-dir", tmp_path / "state"], tmp_path / "log")
        one.start()
        started.append(one)
        return one

    yield run
    for one in started:
        with contextlib.suppress(ProcessLookupError):
            one.stop(signal.SIGKILL)


def go_live(page: Page, url: str) -> None:
    page.goto(url)
    expect(page.locator("#live-status")).to_have_attribute("data-state", "live", timeout=20_000)
    page.evaluate("document.documentElement.dataset.stayed = 'yes'")


def kill_hub(instance) -> None:
    """Killed, and back: the supervisor starts it again."""
    before = instance.child("hub")
    instance.kill("hub")

    def is_back() -> bool:
        with contextlib.suppress(LookupError):
            return instance.child("hub") != before
        return False

    wait_until(is_back, "the hub is started again", 40)


def write_automation(page: Page, web: str) -> None:
    """In the browser: when the door opens wide, the satellite that says so is to ring its bell; tried, kept, on."""
    page.goto(f"{web}/automations/new?kind=event&tool=device_command")
    page.get_by_label("Name", exact=True).fill("Chime")
    page.get_by_label("Type of the event").fill("door_open")
    page.locator("[name='path.0']").fill("event.payload.angle")
    page.locator("[name='is.0']").select_option("at_least")
    page.locator("[name='value.0']").fill("10")
    page.locator("[name='arg.device']").fill("{{device.handle}}")
    page.locator("[name='arg.verb']").fill("run_action")
    page.locator("[name='arg.args']").fill('{"name": "chime"}')
    page.get_by_role("button", name="Try it against the last 7 days").click()
    expect(page.locator("#told")).to_contain_text("would have proposed 0 times")
    page.get_by_role("button", name="Keep it").click()
    expect(page.locator("h1")).to_have_text("Chime")
    page.get_by_role("button", name="Switch on").click()
    expect(page.get_by_role("button", name="Switch off")).to_be_visible()


def test_an_event_leads_to_a_proposal_that_one_of_two_approves_and_the_satellite_does(
    instance, open_browser, start, tmp_path
):
    door = instance.cli("device", "add", "Front door")
    satellite = start(door["token"])
    wait_until(lambda: instance.devices()["front-door"].presence == "online", "the satellite is online")
    first, second = open_browser().new_page(), open_browser(viewport={"width": 390, "height": 844}).new_page()

    write_automation(first, instance.web)

    say = [BIN / "marvain-satellite", "send", "door_open"]

    def send(angle: int) -> None:
        payload = f'{{"angle": {angle}}}'
        sent = Running([*say, payload, "--state-dir", tmp_path / "state"], tmp_path / "send.log").start()
        assert sent.process.wait(30) == 0, sent.log()

    # Once as it should be, and once with the hub killed between any two steps.
    for kills in (False, True):
        for page in (first, second):
            go_live(page, f"{instance.web}/actions")
        send(5)
        send(12)
        if kills:
            kill_hub(instance)
        for page in (first, second):
            expect(page.locator("[data-action-id]")).to_have_count(1, timeout=40_000)
            expect(page.locator("[data-action-id]")).to_contain_text("Tell front-door: run_action", timeout=40_000)
        if kills:
            kill_hub(instance)
        second.get_by_role("button", name="Approve").click()
        second.get_by_label("Why").fill("let it ring")
        second.get_by_role("dialog").get_by_role("button", name="Approve").click()
        expect(second.get_by_role("dialog")).to_have_count(0)
        if kills:
            kill_hub(instance)
        for page in (first, second):
            expect(page.locator("[data-action-id]")).to_have_count(0, timeout=40_000)
            expect(page.locator("[data-part=rest] tbody tr").first).to_contain_text("done", timeout=40_000)
            assert page.evaluate("document.documentElement.dataset.stayed") == "yes"

        first.locator("[data-part=rest] tbody tr a").first.click()
        expect(first.locator("[data-part=result]")).to_contain_text("ding dong")
        expect(first.locator("[data-part=timeline]")).to_contain_text("let it ring")
        expect(first.locator("[data-part=facts]")).to_contain_text("Chime")
        expect(first.locator("[data-part=facts]")).to_contain_text("door_open")
        first.goto(f"{instance.web}/events?type=action_result")
        expect(first.locator("#event-rows tr")).to_have_count(2 if kills else 1)
    actions = instance.cli("actions", "list")
    assert [one["status"] for one in actions] == ["executed", "executed"]
    told = [one["action"] for one in instance.cli("audit", "list", "--agent", "Home", "--limit", "200")]
    assert (told.count("action.proposed"), told.count("action.approved"), told.count("action.executed")) == (2, 2, 2)
    assert satellite.process.poll() is None
