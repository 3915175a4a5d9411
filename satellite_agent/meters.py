"""What can be measured of the machine itself, by name."""

import os
import time
from collections.abc import Callable
from typing import Final

from satellite_agent import machine


class Meter:
    """One measurement; `read` gives None when it takes two readings and this is the first."""

    blocks = False

    def __init__(self, path: str = "/") -> None:
        self.path = path

    def read(self) -> float | None:
        raise NotImplementedError


class _Plain(Meter):
    def __init__(self, measure: Callable[[], float | None]) -> None:
        super().__init__()
        self._measure = measure

    def read(self) -> float | None:
        return self._measure()


class _Cpu(Meter):
    """Between two readings."""

    _before: machine.Ticks | None = None

    def read(self) -> float | None:
        before, self._before = self._before, machine.ticks()
        return None if before is None else machine.cpu_percent(before, self._before)


class _Disk(Meter):
    """How full the file system that holds `path` is."""

    blocks = True

    def read(self) -> float | None:
        facts = machine.disk(self.path)
        free, total = int(facts["free_bytes"]), int(facts["total_bytes"])
        return round(100 * (1 - free / total), 2) if total else None


class _Rate(Meter):
    """Bytes a second of all interfaces but the loopback, between two readings."""

    _before: tuple[float, int] | None = None

    def __init__(self, counter: str) -> None:
        super().__init__()
        self._counter = counter

    def read(self) -> float | None:
        now = (time.monotonic(), sum(int(one[self._counter]) for one in machine.network()))
        before, self._before = self._before, now
        if before is None or now[1] < before[1] or now[0] <= before[0]:
            return None  # the first, or an interface is gone
        return round((now[1] - before[1]) / (now[0] - before[0]), 1)


def _memory_used_percent() -> float:
    facts = machine.memory()
    return round(100 * (1 - facts["available_bytes"] / facts["total_bytes"]), 2)


# Each is made with the path of its table, which only a disk needs.
METERS: Final[dict[str, Callable[[str], Meter]]] = {
    "cpu_percent": _Cpu,
    "load_1m": lambda _: _Plain(lambda: os.getloadavg()[0]),
    "memory_used_percent": lambda _: _Plain(_memory_used_percent),
    "disk_used_percent": _Disk,
    "temperature_c": lambda _: _Plain(machine.temperature_c),
    "uptime_s": lambda _: _Plain(machine.uptime_s),
    "received_bytes_per_s": lambda _: _Rate("received_bytes"),
    "sent_bytes_per_s": lambda _: _Rate("sent_bytes"),
}
