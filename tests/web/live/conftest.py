"""What a live page needs behind it: the real broker and the real hub as processes, on this test's own database."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from ports import free_port

from hub.access import credentials
from hub.database import Database
from hub.settings import Settings

ROOT = Path(__file__).parents[3]


class Service:
    """One of our services as a process that can be stopped and started again."""

    def __init__(self, module: str, settings: Settings, password_file: Path) -> None:
        self._command = [sys.executable, "-m", module]
        self._environment = os.environ | {
            "MARVAIN_DATABASE_URL": settings.database_url,
            "MARVAIN_MQTT_PORT": str(settings.mqtt_port),
            "MARVAIN_WS_PORT": str(settings.ws_port),
            "MARVAIN_HUB_PASSWORD_FILE": str(password_file),
        }
        self._log = password_file.with_name(f"{module}.log")
        self._ready = f"{module}.ready"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it and wait until it says that it is ready."""
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(self._command, cwd=ROOT, env=self._environment, stderr=log)
        deadline, pause = time.monotonic() + 30, threading.Event()
        while self._ready not in self._log.read_text("utf-8"):
            assert self.is_running, self._log.read_text("utf-8")
            assert time.monotonic() < deadline, self._log.read_text("utf-8")
            pause.wait(0.05)

    def stop(self, number: int = signal.SIGTERM) -> None:
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(20)


@pytest.fixture
def settings(database_url: str) -> Settings:
    """The web's settings, with a broker's ports of this test's own."""
    return Settings(database_url=database_url, mqtt_port=free_port(), ws_port=free_port())


@pytest.fixture
def hub_password(database: Database) -> str:
    """The hub service's MQTT password."""
    password = "a password for the hub"
    with database.transaction() as session:
        credentials.set_hub_password(session, password)
    return password


@pytest.fixture
def password_file(tmp_path: Path, hub_password: str) -> Path:
    file = tmp_path / "hub-password"
    file.write_text(hub_password, encoding="utf-8")
    return file


@pytest.fixture
def broker(settings: Settings, password_file: Path) -> Iterator[Service]:
    """The embedded broker."""
    service = Service("broker", settings, password_file)
    service.start()
    yield service
    service.stop()


@pytest.fixture
def hub(settings: Settings, password_file: Path, broker: Service) -> Iterator[Service]:
    """The hub service, connected to the broker."""
    service = Service("hub", settings, password_file)
    service.start()
    yield service
    assert service.is_running
    service.stop()
