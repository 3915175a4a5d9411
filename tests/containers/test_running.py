"""The containers at work: built, started, the main job done against them. Where a Docker engine answers."""

import json
import os
import re
import shutil
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from ports import free_port

from .conftest import ROOT

EMAIL, PASSWORD = "ann@example.org", "a quiet harbour at night"


def engine() -> str:
    """Why there is no Docker engine to test with; "" when one answers."""
    if shutil.which("docker") is None:
        return "no docker on this machine"
    asked = subprocess.run(
        ["docker", "version", "--format", "{{.Server.Version}}"], capture_output=True, text=True, check=False
    )
    return "" if asked.returncode == 0 else "no Docker engine answers"


pytestmark = [
    pytest.mark.skipif(bool(why := engine()), reason=f"{why}; compose.yaml is only held to its rules"),
    pytest.mark.timeout(400),
]


def wait_until(condition: Callable[[], Any], what: str, within_s: float = 30.0) -> Any:
    end = time.monotonic() + within_s
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.1)
    return pytest.fail(f"not within {within_s} s: {what}")


class Project:
    """compose.yaml under a name and on ports of its own."""

    def __init__(self) -> None:
        plugin = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode == 0
        self.argv = ["docker", "compose"] if plugin else ["docker-compose"]
        self.ports = {name: free_port() for name in ("WEB", "MQTT", "WS")}
        self.environment = {key: value for key, value in os.environ.items() if not key.startswith("MARVAIN_")} | {
            **{f"MARVAIN_{name}_PORT": str(port) for name, port in self.ports.items()},
            "COMPOSE_PROJECT_NAME": f"test{uuid.uuid4().hex[:8]}",
        }
        self.web = f"http://127.0.0.1:{self.ports['WEB']}"

    def run(self, *argv: str, code: int = 0, input_: str | None = None, within_s: float = 120) -> str:
        done = subprocess.run(
            [*self.argv, *argv],
            cwd=ROOT,
            env=self.environment,
            input=input_,
            capture_output=True,
            text=True,
            check=False,
            timeout=within_s,
        )
        assert done.returncode == code, f"{argv}: {done.stdout}{done.stderr}"
        return done.stdout

    def exec(self, service: str, *argv: str) -> str:
        """As `run("exec", …)`, without the second that Compose takes."""
        return docker("exec", self.container(service), *argv)

    def marvain(self, service: str, *argv: str) -> Any:
        return json.loads(self.exec(service, "marvain", *argv, "--json"))

    def container(self, service: str) -> str:
        """The id of the service's container, running or not; "" before it is there."""
        labels = {"project": self.environment["COMPOSE_PROJECT_NAME"], "service": service, "oneoff": "False"}
        filters = [f"--filter=label=com.docker.compose.{name}={value}" for name, value in labels.items()]
        return docker("ps", "-a", "-q", "--no-trunc", *filters)

    def inspect(self, service: str) -> dict[str, Any]:
        container = self.container(service)
        return json.loads(docker("inspect", container))[0] if container else {}

    def logs(self, service: str) -> str:
        container = self.container(service)
        return docker("logs", container) if container else ""

    def state(self, service: str) -> str:
        """Such as healthy, starting, running, exited 0; "" before it is there."""
        facts = self.inspect(service).get("State", {})
        if facts.get("Status") != "running":
            return f"{facts['Status']} {facts['ExitCode']}" if facts else ""
        return facts.get("Health", {}).get("Status", "running")

    def wait_healthy(self, *services: str, within_s: float = 120) -> None:
        for service in services:
            wait_until(lambda name=service: self.state(name) == "healthy", f"{service} healthy", within_s)

    def remove(self) -> None:
        self.run("--profile", "*", "down", "-v", "--remove-orphans")


@pytest.fixture(scope="module")
def images() -> None:
    for target in ("marvain", "satellite"):
        name = {"marvain": "marvain", "satellite": "marvain-satellite"}[target]
        subprocess.run(
            ["docker", "build", "-q", "--target", target, "-t", name, "."], cwd=ROOT, check=True, timeout=300
        )


@pytest.fixture
def project(images: None) -> Iterator[Project]:
    project = Project()
    try:
        yield project
    finally:
        for service in ("prepare", "mosquitto", "broker", "hub", "web", "embedded"):
            print(f"--- {service} {project.state(service)}\n{project.logs(service)[-4_000:]}")  # noqa: T201  (on failure)
        project.remove()


def test_main_job(project):
    project.run("up", "-d", within_s=240)
    project.wait_healthy("postgres", "mosquitto", "broker", "hub", "web")
    assert (project.state("secrets"), project.state("prepare")) == ("exited 0", "exited 0")
    main_job(project, "web", re.search(r"/setup/(\S+)", project.logs("prepare"))[1])
    assert_closed(project)
    assert_nothing_is_lost(project)


def test_main_job_in_one_container(project):
    project.run("--profile", "embedded", "up", "-d", "embedded", within_s=240)
    token = wait_until(lambda: re.search(r"/setup/(\S+)", project.logs("embedded")), "the set-up link", 60)[1]
    assert project.state("postgres") == ""
    main_job(project, "embedded", token, hub=f"mqtt://embedded:{project.ports['MQTT']}")


def main_job(project: Project, service: str, setup_token: str, hub: str = "mqtt://mosquitto:1883") -> None:
    """Set up, add a device, see it come online, ping it, revoke it: its container ends and says why."""
    with httpx.Client(base_url=project.web, headers={"Origin": project.web}) as owner:
        typed = {"email": EMAIL, "display_name": "Ann", "password": PASSWORD, "password_again": PASSWORD}
        assert owner.post(f"/setup/{setup_token}", data=typed).status_code == 303
        assert httpx.get(f"{project.web}/setup/{setup_token}").status_code in (404, 410)
        added = project.run("exec", "-T", service, "marvain", "device", "add", "Porch")
        run = ["run", "--rm", "-T", "satellite", "python", "/opt/deploy/keep_token.py"]
        project.run(*run, input_=added)
        assert "offline" in row(owner)
        name = project.run("run", "-d", "-e", f"MARVAIN_SATELLITE_HUB={hub}", "satellite").split()[-1]
        try:
            wait_until(lambda: "online" in row(owner), "online on the page")
            [device] = project.marvain(service, "device", "list")
            page = f"/devices/{device['device_id']}"
            assert owner.post(f"{page}/ping").is_success
            wait_until(lambda: "pong in" in owner.get(page).text, "the answer to the ping")
            project.marvain(service, "device", "revoke", "porch")
            assert docker("wait", name) == "77"
            assert "revoked" in docker("logs", name)
            assert "data-revoked" in row(owner)
        finally:
            docker("rm", "-f", name)


def answers(url: str) -> bool:
    try:
        return httpx.get(url).is_success
    except httpx.HTTPError:
        return False


def row(owner: httpx.Client) -> str:
    page = owner.get("/devices")
    assert page.status_code == 200, page.headers
    return re.search(r"<tr [^>]*data-handle=\"porch\".*?</tr>", page.text, re.DOTALL)[0]


def docker(*argv: str) -> str:
    done = subprocess.run(["docker", *argv], capture_output=True, text=True, check=True, timeout=60)
    return (done.stdout + done.stderr).strip()


def assert_closed(project: Project) -> None:
    """The engine took every rule: no root, no writable files, no capability, one secret each."""
    for service in ("postgres", "mosquitto", "broker", "hub", "web"):
        facts = project.inspect(service)
        assert facts["HostConfig"]["ReadonlyRootfs"] is True
        assert facts["HostConfig"]["CapDrop"] == ["ALL"]
        status = project.exec(service, "cat", "/proc/1/status")
        assert re.search(r"NoNewPrivs:\s1", status)
        assert re.search(r"CapBnd:\s0+\n", status)
        assert not re.search(r"Uid:\s0\b", status)
    secret = project.exec("web", "cat", "/var/lib/marvain/secrets/hub-password")
    for service in ("secrets", "prepare", "mosquitto", "broker", "hub", "web"):
        assert secret not in project.logs(service) + docker("inspect", project.container(service))
    for service in ("postgres", "mosquitto"):
        with pytest.raises(subprocess.CalledProcessError):
            project.exec(service, "cat", "/run/marvain/hub-password")
    # The network of the devices has no database.
    reach = "import socket; socket.create_connection(('postgres', 5432), 3)"
    project.run("run", "--rm", "-T", "satellite", "python", "-c", reach, code=1)


def assert_nothing_is_lost(project: Project) -> None:
    """Taken down and brought up again: the same secrets, the same owner, the same devices."""
    project.run("down", within_s=120)
    project.run("up", "-d", within_s=240)
    wait_until(lambda: answers(f"{project.web}/sign-in"), "the pages", 60)
    assert [device["handle"] for device in project.marvain("web", "device", "list")] == ["porch"]
    assert "/sign-in" in project.logs("prepare")
    assert "/setup/" not in project.logs("prepare")
