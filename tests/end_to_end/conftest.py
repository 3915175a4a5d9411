"""The whole of Marvain as a user has it: `marvain up`, satellites in processes of their own, and a real browser."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright
from ports import free_port

from hub import commands, device_views, devices, identity
from hub.commands import CommandView
from hub.device_views import DeviceView
from marvain.instance import Instance as Folder
from marvain.reach import database

BIN = Path(sys.executable).parent
CHROMIUM = "/usr/bin/chromium"
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
EMAIL, PASSWORD = "ann@example.org", "a quiet harbour at night"
PATIENCE_S = 20.0

expect.set_options(timeout=10_000)


def wait_until(condition: Callable[[], Any], what: str, within_s: float = PATIENCE_S) -> Any:
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.01)
    return pytest.fail(f"not within {within_s} s: {what}")


class Running:
    """A process whose output is kept."""

    def __init__(self, argv: list[Any], log: Path, variables: dict[str, str] | None = None) -> None:
        self.argv, self.log_path = [str(one) for one in argv], log
        self.environment = os.environ | (variables or {})
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> "Running":
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(self.argv, stdout=log, stderr=log, env=self.environment)
        return self

    def log(self) -> str:
        return re.sub(r"\x1b\[[0-9;]*m", "", self.log_path.read_text(errors="replace"))

    def stop(self, number: int = signal.SIGTERM, within_s: float = 30.0) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.process.wait(within_s)


class Instance:
    """One `marvain up` on free ports with its data in a folder of its own."""

    def __init__(self, folder: Path, broker: str = "embedded") -> None:
        self.folder = folder
        self.data = folder / "data"
        ports = [free_port() for _ in range(3)]
        self.process = Running(
            [BIN / "marvain", "up", "--data", self.data, "--no-demo"]
            + [f"--{name}-port={port}" for name, port in zip(("web", "mqtt", "ws"), ports, strict=True)],
            folder / "up.log",
            {"MARVAIN_BROKER": broker},
        )

    def start(self) -> "Instance":
        self.process.start()
        wait_until(lambda: self._is_ready() or self.process.process.poll() is not None, "marvain up", 60)
        assert self._is_ready(), self.process.log()
        return self

    def _is_ready(self) -> bool:
        return (self.data / "run.json").exists()

    @property
    def run(self) -> dict[str, Any]:
        return json.loads((self.data / "run.json").read_text())

    @property
    def web(self) -> str:
        return self.run["web"]

    @property
    def mqtt(self) -> tuple[str, str]:
        host, _, port = self.run["mqtt"].rpartition(":")
        return host, port

    def set_up_link(self) -> str:
        return re.search(r"http://\S+/setup/\S+", self.process.log())[0]

    def cli(self, *argv: str, code: int = 0, input_: str | None = None) -> Any:
        """Run `marvain …` against this instance; its JSON, or its error text for another exit code."""
        run = subprocess.run(
            [BIN / "marvain", *argv, "--data", self.data, "--json"],
            capture_output=True,
            text=True,
            check=False,
            input=input_,
        )
        assert run.returncode == code, run.stdout + run.stderr
        return json.loads(run.stdout) if code == 0 else run.stderr

    def devices(self) -> dict[str, DeviceView]:
        """All devices by handle, read beside the running services."""
        with database(Folder(self.data)) as opened, opened.transaction() as session:
            agent = identity.find_agent(session)
            return {view.handle: view for view in device_views.overview(session, agent.agent_id)}

    def ping(self, handle: str) -> CommandView:
        """Ask for a ping as a page does, and wait for its end."""
        with database(Folder(self.data)) as opened:
            with opened.transaction() as session:
                device = devices.by_handle(session, handle)
                asked = commands.request(session, device, "ping", by="the test")

            def ended() -> CommandView | None:
                with opened.transaction() as session:
                    seen = commands.get(session, asked.agent_id, asked.command_id)
                    return seen if seen.finished_at else None

            return wait_until(ended, "the end of the ping", 40)

    def child(self, module: str) -> int:
        """The process id of a service that this instance runs."""
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                argv = (entry / "cmdline").read_bytes().split(b"\0")
            except (OSError, IndexError):
                continue
            if parent == self.run["pid"] and any(one.rpartition(b"/")[2] == module.encode() for one in argv):
                return int(entry.name)
        raise LookupError(module)

    def kill(self, module: str) -> None:
        os.kill(self.child(module), signal.SIGKILL)


class Satellite(Running):
    """`marvain-satellite run` with a state folder of its own."""

    def __init__(self, instance: Instance, token: str, folder: Path) -> None:
        self.state = folder
        host, port = instance.mqtt
        folder.mkdir(parents=True, exist_ok=True)
        state = ["--state-dir", folder]
        super().__init__(
            [BIN / "marvain-satellite", "run", "--hub", f"mqtt://{host}:{port}", "--token", token, *state],
            folder / "log",
        )

    def send(self, type_: str, payload: str, *more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [BIN / "marvain-satellite", "send", type_, payload, "--state-dir", self.state, *more],
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Per module: while it is open its event loop counts as running, and no other test may have one."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def broker_kind(request: pytest.FixtureRequest) -> str:
    """Which broker the instance of a module runs; modules that run on several give it as a parameter."""
    return getattr(request, "param", "embedded")


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory, broker_kind: str) -> Iterator[Instance]:
    """The instance of a module, just started: nobody owns it yet."""
    instance = Instance(tmp_path_factory.mktemp("instance"), broker_kind)
    try:
        yield instance.start()
    finally:
        assert instance.process.stop() == 0, instance.process.log()[-3000:]
        print(instance.process.log()[-20_000:])  # noqa: T201  (shown when a test failed)


@pytest.fixture(scope="module")
def signed_in(fresh: Instance, browser: Browser) -> dict[str, Any]:
    """The owner's cookies, from the set-up link."""
    context = browser.new_context()
    page = context.new_page()
    page.goto(fresh.set_up_link())
    page.get_by_label("E-mail address").fill(EMAIL)
    page.get_by_label("Your name").fill("Ann")
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.get_by_label("Password, once more", exact=True).fill(PASSWORD)
    page.get_by_role("button", name="Create the account").click()
    expect(page).to_have_url(re.compile(r"/devices$"))
    state = context.storage_state()
    context.close()
    return state


@pytest.fixture
def instance(fresh: Instance, signed_in: dict[str, Any]) -> Instance:
    """The instance with its owner."""
    return fresh


@pytest.fixture
def open_browser(browser: Browser, signed_in: dict[str, Any]) -> Iterator[Callable[..., BrowserContext]]:
    """Another browser of the owner; any error on the page's console fails the test."""
    contexts: list[BrowserContext] = []
    troubles: list[str] = []

    def open_(**facts) -> BrowserContext:
        context = browser.new_context(**({"storage_state": signed_in} | facts))
        context.on("weberror", lambda error: troubles.append(str(error.error)))
        context.on(
            "console",
            lambda message: troubles.append(message.text) if "Content Security Policy" in message.text else None,
        )
        contexts.append(context)
        return context

    yield open_
    for context in contexts:
        context.close()
    assert troubles == []


@pytest.fixture
def page(open_browser: Callable[..., BrowserContext]) -> Page:
    return open_browser().new_page()


@pytest.fixture
def satellite(instance: Instance, tmp_path: Path) -> Iterator[Callable[..., Satellite]]:
    """Starts satellites with a token, stops them at the end."""
    started: list[Satellite] = []

    def start(token: str, name: str = "satellite") -> Satellite:
        one = Satellite(instance, token, tmp_path / name)
        one.start()
        started.append(one)
        return one

    yield start
    for one in started:
        one.stop(signal.SIGKILL)


@pytest.fixture
def device(instance: Instance, request: pytest.FixtureRequest) -> dict[str, Any]:
    """A device of this test alone, added on the command line."""
    name = re.sub(r"[^a-z0-9]+", " ", request.node.name.removeprefix("test_").lower()).strip()
    # Both ends: parameters, which tell tests of one name apart, stand last.
    name = name if len(name) <= 50 else f"{name[:25]} {name[-24:]}"
    return instance.cli("device", "add", name) | {"name": " ".join(name.split())}
