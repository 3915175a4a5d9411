"""Instances of Marvain as real processes, each in a folder of its own and on ports that are free."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from command_forks import CommandForks

from marvain.embedded_postgres import EmbeddedPostgres, free_port

START_S = 60
Run = Callable[..., subprocess.CompletedProcess[str]]


def clean_environment() -> dict[str, str]:
    return {key: value for key, value in os.environ.items() if not key.startswith("MARVAIN_")}


def wait_for(condition: Callable[[], object], what: str, within_s: float = 30) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {within_s} s: {what}"
        time.sleep(0.05)


class Up:
    """One `marvain up`."""

    def __init__(self, folder: Path, *options: str, ports: bool = True, demo: bool = False) -> None:
        self.folder = folder
        chosen = [f"--{name}-port={free_port()}" for name in ("web", "mqtt", "ws")] if ports else []
        if not demo:
            chosen.append("--no-demo")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "marvain", "up", "--data", str(folder), *chosen, *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=clean_environment(),
            start_new_session=True,
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.decode().rstrip("\n"))

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    @property
    def run_file(self) -> Path:
        return self.folder / "run.json"

    def ready(self) -> dict[str, object]:
        def answered() -> bool:
            assert self.process.poll() is None, self.output
            return self.run_file.exists() and "Ctrl-C stops it" in self.output

        wait_for(answered, f"ready; said {self.output}", START_S)
        return json.loads(self.run_file.read_text())

    def says(self, pattern: str, within_s: float = 30) -> None:
        wait_for(lambda: re.search(pattern, self.output), f"{pattern!r} in {self.output}", within_s)

    def children(self) -> dict[str, int]:
        """Name → process id of the services."""
        found = {}
        listed = Path(f"/proc/{self.process.pid}/task").glob("*/children")
        for pid in " ".join(file.read_text() for file in listed).split():
            argv = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            name = argv[2].decode() if argv[1:2] == [b"-m"] else Path(argv[0].decode()).name
            found[name] = int(pid)
        return found

    def stop(self, which: signal.Signals = signal.SIGTERM) -> int:
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(which)
        try:
            code = self.process.wait(60)
        finally:
            self.process.kill()
            self._reader.join(10)
            assert self.process.stdout is not None
            self.process.stdout.close()
        return code


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A data folder; what root's PostgreSQL keeps elsewhere goes with it."""
    place = tmp_path / "data"
    yield place
    server = EmbeddedPostgres(place)
    if server.exists():
        server.destroy()


@pytest.fixture
def start(folder: Path) -> Iterator[Callable[..., Up]]:
    """Starts instances that end with the test."""
    started: list[Up] = []

    def one(*options: str, ports: bool = True, demo: bool = False) -> Up:
        started.append(Up(folder, *options, ports=ports, demo=demo))
        return started[-1]

    yield one
    for instance in started:
        if instance.process.returncode is None:
            instance.stop()


@pytest.fixture(scope="session")
def run_cli() -> Run:
    """Runs one `marvain` command to its end."""

    def run(
        *arguments: str, stdin: str = "", environment: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "marvain", *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=100,
            env=clean_environment() | (environment or {}),
        )

    return run


@pytest.fixture(scope="session")
def run_forked() -> Iterator[Run]:
    """Runs one `marvain` command to its end, without the time that loading it takes."""
    forks = CommandForks(clean_environment())

    def run(
        *arguments: str, stdin: str = "", environment: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        return forks.run(*arguments, stdin=stdin, environment=environment or {})

    yield run
    forks.close()
