"""What a fleet costs the hub: CPU, memory, and how long an event takes, from 100 to 5,000 satellites.

    python bench/fleet.py [--broker embedded|mosquitto] [--seconds 20] [--most 5000]

Every satellite beats each 15 s, with a sample beside it, and reports an event a minute. The hub, the broker, Postgres
and the fleet are processes on this machine; the hub's and the broker's CPU are theirs alone, in percent of a core.
Measured once all are connected.
"""

import argparse
import asyncio
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import report
from scratch import scratch
from services import Service, furnish, services

from marvain.simulation import fleet
from marvain.simulation.satellite import Counts

SIZES = (100, 500, 1_000, 2_500, 5_000)
EVENTS_PER_SATELLITE_S = 1 / 60
CONNECTED_WITHIN_S = 120.0


async def measure(
    tokens: dict[str, str], port: int, hub: Service, broker: Service, seconds: float
) -> dict[str, object]:
    """One row: the fleet connects, settles, and is watched for so long."""
    counts = Counts()
    figures: list[fleet.Figures] = []
    driving = asyncio.create_task(
        fleet.drive(
            tokens,
            "127.0.0.1",
            port,
            "marvain/v1",
            rate=len(tokens) * EVENTS_PER_SATELLITE_S,
            seconds=None,
            heartbeat_s=15.0,
            counts=counts,
            told=figures.append,
            every_s=seconds,
        )
    )
    began = time.monotonic()
    while counts.connected < len(tokens):
        assert time.monotonic() - began < CONNECTED_WITHIN_S, counts
        await asyncio.sleep(0.1)
    await asyncio.sleep(5)
    before = hub.cpu_s(), broker.cpu_s(), counts.receipts, counts.heartbeats
    counts.waits.clear()
    began = time.monotonic()
    await asyncio.sleep(seconds)
    took = time.monotonic() - began
    cores = [(now - then) / took for now, then in zip((hub.cpu_s(), broker.cpu_s()), before[:2], strict=True)]
    waits = sorted(counts.waits)
    row: dict[str, object] = {
        "satellites": len(tokens),
        "heartbeats/s": round((counts.heartbeats - before[3]) / took),
        "events stored/s": round((counts.receipts - before[2]) / took, 1),
        "hub % of a core": round(100 * cores[0], 1),
        "hub MiB": round(hub.rss_mib()),
        "hub µs per satellite and s": round(1e6 * cores[0] / len(tokens)),
        "broker % of a core": round(100 * cores[1], 1),
        "broker MiB": round(broker.rss_mib()),
        "event p50 ms": round(1e3 * waits[len(waits) // 2], 1) if waits else None,
        "event p99 ms": round(1e3 * waits[int(len(waits) * 0.99)], 1) if waits else None,
    }
    driving.cancel()
    await asyncio.gather(driving, return_exceptions=True)
    await asyncio.sleep(2)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--broker", choices=("embedded", "mosquitto"), default="embedded")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--most", type=int, default=SIZES[-1])
    options = parser.parse_args()
    with scratch() as (folder, url, database):
        furnish(database)
        tokens = fleet.make(database, options.most, {}, by="bench")
        with services(options.broker, url, folder) as (port, broker, hub):
            rows = [
                asyncio.run(measure(dict(list(tokens.items())[:size]), port, hub, broker, options.seconds))
                for size in SIZES
                if size <= options.most
            ]
    report.write("fleet", f"A fleet on the {options.broker} broker: what it costs the hub", rows)


if __name__ == "__main__":
    main()
