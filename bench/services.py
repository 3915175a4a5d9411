"""Broker and hub as the product starts them, with their CPU time and memory, for benches that load both."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from brokers import free_port

from hub.access import credentials
from hub.database import Database

REPOSITORY = Path(__file__).parents[1]
HUB_PASSWORD = "hub"
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


def furnish(database: Database) -> None:
    """What there must be before the services start."""
    with database.transaction() as session:
        credentials.set_hub_password(session, HUB_PASSWORD)


class Service:
    """A process with those that it runs (Mosquitto below its adapter)."""

    def __init__(self, module: str, environment: dict[str, str], log: Path) -> None:
        self._module, self._log = module, log
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module], cwd=REPOSITORY, env=environment, stdout=out, stderr=out
            )

    def wait_ready(self) -> None:
        deadline = time.monotonic() + 60
        while f"{self._module}.ready".encode() not in self._log.read_bytes():
            assert self._process.poll() is None, self._log.read_text()
            assert time.monotonic() < deadline, self._log.read_text()
            time.sleep(0.05)

    def cpu_s(self) -> float:
        """Seconds of CPU so far."""
        ticks = 0
        for pid in self._pids():
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks * _TICK_S

    def rss_mib(self) -> float:
        """Resident memory now."""
        pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in self._pids())
        return pages * os.sysconf("SC_PAGE_SIZE") / 1024**2

    def stop(self) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(30)
        troubles = [line for line in self._log.read_text().splitlines() if '"level": "info"' not in line]
        sys.stderr.write("".join(f"{self._module}: {line[:400]}\n" for line in troubles[-10:]))

    def _pids(self) -> list[int]:
        pid = self._process.pid
        return [pid, *(int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]


@contextlib.contextmanager
def services(
    broker: str, database_url: str, folder: Path, *, hub: bool = True
) -> Iterator[tuple[int, Service, Service]]:
    """The broker's port, the broker and the hub (the broker again where there is to be no hub)."""
    port = free_port()
    password = folder / "hub_password"
    password.write_text(HUB_PASSWORD)
    environment = {
        **os.environ,
        "MARVAIN_DATABASE_URL": database_url,
        "MARVAIN_BROKER": broker,
        "MARVAIN_MQTT_PORT": str(port),
        "MARVAIN_WS_PORT": str(free_port()),
        "MARVAIN_HUB_PASSWORD_FILE": str(password),
        "MARVAIN_LOG_FORMAT": "json",
        # One machine plays thousands.
        "MARVAIN_BROKER_CONNECTIONS_PER_ADDRESS": "20000",
        "MARVAIN_BROKER_CONNECTS_PER_SECOND": "2000",
    }
    started = [Service("broker", environment, folder / "broker.log")]
    try:
        started[0].wait_ready()
        if hub:
            started.append(Service("hub", environment, folder / "hub.log"))
            started[1].wait_ready()
        yield port, started[0], started[-1]
    finally:
        for service in reversed(started):
            service.stop()
