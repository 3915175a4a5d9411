"""What a satellite at rest costs its device, beside a bare MQTT client in Python in the same run.

    python bench/satellite.py [--seconds 60]

At rest: online at a real hub, heartbeats every 15 s, nothing asked of it. Once with no config, once with all verbs open
and five sources of telemetry, two of them every 10 s. Bare: one client of the same library, with the same heartbeats.
All three run at the same time. The targets are 40 MiB and 1 % of a core.
"""

import argparse
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import report
from commands import hub
from live_home import HUB_PASSWORD, REPOSITORY, SCOPES, running
from scratch import scratch

from hub import devices
from hub.access import credentials
from hub.tables import Agent

WITHIN_S = 30.0
TARGET_MIB, TARGET_PERCENT = 40.0, 1.0
TICKS = os.sysconf("SC_CLK_TCK")
CONFIG = """
[verbs.device_status]
[verbs.restart]
[verbs.read_file]
roots = ["/var/log"]
[verbs.list_directory]
roots = ["/var/log"]
[verbs.say]
command = ["/bin/cat"]
[verbs.notify]
command = ["/bin/cat"]
[verbs.capture_photo]
command = ["/bin/cat"]
[verbs.run_action.one]
command = ["/bin/true"]
[telemetry.cpu]
system = "cpu_percent"
every_s = 10
[telemetry.memory]
system = "memory_used_percent"
every_s = 10
[telemetry.load]
system = "load_1m"
[telemetry.disk]
system = "disk_used_percent"
[telemetry.number]
command = ["/bin/echo", "1"]
"""
BARE = """
import asyncio, sys, aiomqtt
async def main():
    port, password = int(sys.argv[1]), sys.argv[2]
    async with aiomqtt.Client("127.0.0.1", port, username="bare", password=password, identifier="bare") as client:
        while True:
            await client.publish("marvain/v1/d/bare/heartbeat", '{"epoch":1}')
            await asyncio.sleep(15)
asyncio.run(main())
"""


@contextlib.contextmanager
def processes(port: int, tokens: dict[str, str], folder: Path) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    """The three, when both satellites have been answered by the hub."""
    (folder / "open.toml").write_text(CONFIG)
    started = {"a bare client": subprocess.Popen([sys.executable, "-c", BARE, str(port), tokens["bare"]])}
    for name, handle, more in (
        ("satellite", "porch", []),
        ("satellite, all verbs, 5 sources", "attic", ["--config", folder / "open.toml"]),
    ):
        command = [sys.executable, "-m", "satellite_agent", "run", "--hub", f"mqtt://127.0.0.1:{port}"]
        with (folder / f"{handle}.log").open("wb") as log:
            started[name] = subprocess.Popen(
                [*command, "--state-dir", folder / handle, *more],
                cwd=REPOSITORY,
                env={**os.environ, "MARVAIN_SATELLITE_TOKEN": tokens[handle]},
                stderr=log,
            )
    try:
        deadline = time.monotonic() + WITHIN_S
        while not all(b"online" in (folder / f"{handle}.log").read_bytes() for handle in ("porch", "attic")):
            assert time.monotonic() < deadline, (folder / "porch.log").read_text()
            time.sleep(0.05)
        yield started
    finally:
        for process in started.values():
            process.kill()
            process.wait()


def rss_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) / 1024


def cpu_s(pid: int) -> float:
    """Seconds of processor, with those of programs that it ran and waited for."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(field) for field in fields[11:15]) / TICKS


def measure(port: int, tokens: dict[str, str], folder: Path, seconds: float) -> list[dict[str, object]]:
    with processes(port, tokens, folder) as started:
        time.sleep(min(5.0, seconds))  # the start is over
        before = {name: cpu_s(process.pid) for name, process in started.items()}
        began = time.monotonic()
        time.sleep(seconds)
        took = time.monotonic() - began
        return [
            {
                "process": name,
                "seconds": round(took, 1),
                "RSS MiB": rss_mib(process.pid),
                "CPU % of a core": 100 * (cpu_s(process.pid) - before[name]) / took,
                "target": "" if "bare" in name else f"≤ {TARGET_MIB:g} MiB, ≤ {TARGET_PERCENT:g} %",
            }
            for name, process in started.items()
        ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    options, _ = parser.parse_known_args()
    scopes = [*SCOPES, "telemetry:write"]
    with scratch() as (folder, url, database):
        with database.transaction() as session:
            credentials.set_hub_password(session, HUB_PASSWORD)
            agent = Agent(name="Home")
            session.add(agent)
            session.flush()
            tokens = {
                handle: devices.add(session, agent.agent_id, handle, scopes=scopes, by="bench", handle=handle).token
                for handle in ("porch", "attic", "bare")
            }
        with running("embedded", url, folder) as (port, _), hub(url, port, folder):
            rows = measure(port, tokens, folder, options.seconds)
    report.write("satellite", "A satellite at rest", rows)


if __name__ == "__main__":
    main()
