"""What this machine says of itself: uptime, processor, memory, disks, network, read from /proc and /sys."""

import contextlib
import os
import platform
import shutil
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

_PROC: Final = Path("/proc")
_SYS: Final = Path("/sys")


@dataclass(frozen=True, slots=True)
class Ticks:
    """The time that all processors have spent since the start, in ticks: at all, and idle."""

    total: int
    idle: int


def uptime_s() -> float:
    return float(_first_line(_PROC / "uptime").split()[0])


def ticks() -> Ticks:
    numbers = [int(part) for part in _first_line(_PROC / "stat").split()[1:9]]
    return Ticks(sum(numbers), numbers[3] + numbers[4])


def cpu_percent(before: Ticks, now: Ticks) -> float:
    """How busy all processors together were between two readings, from 0 to 100."""
    total = now.total - before.total
    return round(100 * (1 - (now.idle - before.idle) / total), 1) if total > 0 else 0.0


def memory() -> dict[str, int]:
    """`total_bytes`, `available_bytes`, `swap_total_bytes` and `swap_free_bytes`."""
    found = {}
    for line in (_PROC / "meminfo").read_text().splitlines():
        name, _, rest = line.partition(":")
        found[name] = int(rest.split()[0]) * 1024
    return {
        "total_bytes": found["MemTotal"],
        "available_bytes": found.get("MemAvailable", found["MemFree"]),
        "swap_total_bytes": found.get("SwapTotal", 0),
        "swap_free_bytes": found.get("SwapFree", 0),
    }


def disk(path: str) -> dict[str, Any]:
    """`path`, `total_bytes` and `free_bytes` (for those who are not root) of the file system that holds it."""
    usage = shutil.disk_usage(path)
    return {"path": path, "total_bytes": usage.total, "free_bytes": usage.free}


def temperature_c() -> float | None:
    """The highest that the machine measures; None where it measures none."""
    found = []
    for file in _SYS.glob("class/thermal/thermal_zone*/temp"):
        with contextlib.suppress(OSError, ValueError):
            found.append(int(file.read_text()) / 1000)
    return max(found, default=None)


def network() -> list[dict[str, Any]]:
    """Each interface but the loopback: `name`, `is_up`, `received_bytes` and `sent_bytes` since it is there."""
    found = []
    for line in (_PROC / "net/dev").read_text().splitlines()[2:]:
        name, _, rest = line.partition(":")
        numbers = rest.split()
        if name.strip() == "lo" or len(numbers) < 9:
            continue
        state = ""
        with contextlib.suppress(OSError):
            state = (_SYS / "class/net" / name.strip() / "operstate").read_text().strip()
        facts = {"name": name.strip(), "is_up": state == "up"}
        found.append(facts | {"received_bytes": int(numbers[0]), "sent_bytes": int(numbers[8])})
    return found


def about() -> dict[str, Any]:
    """`hostname`, `system`, `machine`, `cores`."""
    return {
        "hostname": socket.gethostname(),
        "system": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "cores": os.cpu_count() or 1,
    }


def _first_line(file: Path) -> str:
    with file.open(encoding="ascii") as opened:
        return opened.readline()
