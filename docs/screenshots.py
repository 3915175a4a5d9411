"""Takes the screenshots of README and docs: a fresh instance, a small household of satellites, a real browser.

Run `python docs/screenshots.py`; it writes docs/images/*.png.
"""

import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

BIN = Path(sys.executable).parent
IMAGES = Path(__file__).parent / "images"
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
HOUSEHOLD = ("Front door", "Greenhouse", "Weather mast", "Workshop lamp")
EVENTS = (
    ("front-door", "door_open", {"angle": 12}),
    ("greenhouse", "too_warm", {"celsius": 31.5, "window": "closed"}),
    ("weather-mast", "gust", {"metres_per_second": 17.2}),
    ("front-door", "door_closed", {}),
)
PATIENCE_S = 60.0


def main() -> None:
    """Start an instance, fill it, photograph it, stop everything that was started."""
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        scene = Scene(Path(folder))
        try:
            scene.build()
            with sync_playwright() as playwright:
                browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=FLAGS)
                scene.photograph(browser)
        finally:
            scene.clear()


class Scene:
    """One instance with its satellites."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.data = folder, folder / "data"
        self.log = (folder / "log").open("w+")
        self.running: list[subprocess.Popen[bytes]] = []

    def build(self) -> None:
        self._run("marvain", "up", "--data", self.data, "--no-demo")
        self._wait((self.data / "run.json").exists)
        self.where = json.loads((self.data / "run.json").read_text())
        for name in HOUSEHOLD:
            device = self._cli("device", "add", name, "--space", "Home")
            state = self.folder / device["handle"]
            hub = f"mqtt://{self.where['mqtt']}"
            self._run("marvain-satellite", "run", "--hub", hub, "--token", device["token"], "--state-dir", state)
        self._wait(lambda: sum(one["presence"] == "online" for one in self._cli("device", "list")) == len(HOUSEHOLD))
        for handle, kind, payload in EVENTS:
            self._send(handle, kind, payload)
        for handle in ("front-door", "greenhouse"):
            self._cli("device", "ping", handle)
        self._cli("integration", "add", "Home Assistant")
        lamp = self.running.pop()
        lamp.kill()
        lamp.wait()
        self._wait(lambda: sum(one["presence"] == "offline" for one in self._cli("device", "list")) == 1)

    def photograph(self, browser: Browser) -> None:
        wide = browser.new_context(viewport={"width": 1280, "height": 800})
        page = wide.new_page()
        self._sign_up(page)
        self._shoot(page, "/devices", "devices")
        self._shoot(page, "/events", "events")
        page.goto(self.where["web"] + "/devices")
        page.locator("a.device-name").first.click()
        self._shoot(page, None, "device")
        self._shoot_role(page)
        self._shoot(page, "/access/sessions", "sessions")
        narrow = browser.new_context(
            viewport={"width": 390, "height": 844}, color_scheme="dark", storage_state=wide.storage_state()
        )
        self._shoot(narrow.new_page(), "/devices", "devices-phone")

    def clear(self) -> None:
        for process in reversed(self.running):
            process.terminate()
            process.wait(30)

    def _sign_up(self, page: Page) -> None:
        self.log.flush()
        link = re.search(r"http://\S+/setup/[\w-]+", (self.folder / "log").read_text())
        if link is None:
            raise LookupError("no set-up link was printed")
        page.goto(link[0])
        page.get_by_label("E-mail address").fill("ann@example.org")
        page.get_by_label("Your name").fill("Ann")
        for label in ("Password", "Password, once more"):
            page.get_by_label(label, exact=True).fill("a quiet harbour at night")
        page.get_by_role("button", name="Create the account").click()

    def _shoot(self, page: Page, path: str | None, name: str) -> None:
        if path:
            page.goto(self.where["web"] + path)
        page.locator("#live-status[data-state=live]").wait_for()
        page.get_by_text("ms behind").wait_for()
        page.screenshot(path=IMAGES / f"{name}.png")

    def _shoot_role(self, page: Page) -> None:
        """A role as it is made, with what it will change."""
        page.goto(self.where["web"] + "/access/roles/new")
        page.get_by_label("Name").fill("Greenhouse keeper")
        page.get_by_label("What it is for").fill("The greenhouse and Home Assistant agree on the windows")
        for action, topic in (("publish", "x/{agent}/greenhouse/+"), ("subscribe", "x/{agent}/greenhouse/#")):
            if page.locator("#grants [data-input=filter]").last.input_value():
                page.get_by_role("button", name="Add a grant").click()
            page.locator("#grants [data-input=action]").last.select_option(action)
            page.locator("#grants [data-input=filter]").last.fill(topic)
        page.locator(".bearers label", has_text="greenhouse").click()
        page.locator(".bearers label", has_text="home-assistant").click()
        page.locator("#preview summary").first.wait_for()
        page.locator("#preview summary").first.click()
        page.set_viewport_size({"width": 1280, "height": 1250})
        self._shoot(page, None, "role")
        page.set_viewport_size({"width": 1280, "height": 800})
        page.get_by_role("button", name="Save").click()
        page.get_by_text("Undo").first.wait_for()

    def _run(self, program: str, *argv: Any) -> None:
        command = [str(BIN / program), *(str(one) for one in argv)]
        self.running.append(subprocess.Popen(command, stdout=self.log, stderr=self.log))  # noqa: S603  (our own)

    def _cli(self, *argv: str) -> Any:
        command = [str(BIN / "marvain"), *argv, "--data", str(self.data), "--json"]
        return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)  # noqa: S603  (our own)

    def _send(self, handle: str, kind: str, payload: dict[str, Any]) -> None:
        command = [str(BIN / "marvain-satellite"), "send", kind, json.dumps(payload)]
        subprocess.run([*command, "--state-dir", str(self.folder / handle)], check=True, capture_output=True)  # noqa: S603

    @staticmethod
    def _wait(condition: Any) -> None:
        end = time.monotonic() + PATIENCE_S
        while not condition():
            if time.monotonic() > end:
                raise TimeoutError("the scene is not ready")
            time.sleep(0.1)


if __name__ == "__main__":
    main()
