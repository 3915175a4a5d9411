"""Durable events per second, acknowledged after commit: ours, one INSERT for each message, and the bare bound.

    python bench/ingest.py [--seconds 8] [--broker mosquitto --broker embedded]

In one run on one machine: the load, the broker, the consumer and Postgres (fsync on) share its cores. `ours` is the hub
as the product starts it, with all that it does for an event (presence, spaces, the feed of open pages, receipts);
`bench/ingest_peers.py` has the others. Then ours at 3,000 a second: from publishing until the receipt, which follows
the commit.
"""

import argparse
import asyncio
import json
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import psycopg
import report
from scratch import scratch
from services import furnish, services

from hub.database import Database, libpq_url
from marvain.simulation import fleet
from marvain.simulation.satellite import Counts

HERE = Path(__file__).parent
DEVICES = 100
STEADY_RATE = 3_000.0
BARE = (
    "CREATE TABLE bare_events (event_no bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, handle text NOT NULL,"
    " type text NOT NULL, message_id text NOT NULL, payload jsonb NOT NULL, created_at timestamptz NOT NULL DEFAULT"
    " now(), UNIQUE (handle, message_id))"
)


def load(url: str, port: int, table: str, tokens: dict[str, str], seconds: float) -> float:
    """Events stored in a second while all devices publish what they can."""
    argv = [sys.executable, HERE / "ingest_load.py", url, str(port), table, str(seconds)]
    done = subprocess.run(argv, input=json.dumps(tokens), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return float(json.loads(done.stdout)["per_s"])


def against(mode: str, url: str, port: int, tokens: dict[str, str], seconds: float) -> float:
    """The same with one of the peers."""
    argv = [sys.executable, HERE / "ingest_peers.py", mode, url, str(port)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as peer:
        try:
            assert peer.stdout is not None
            assert peer.stdout.readline() == "ready\n"
            return load(url, port, "bare_events", tokens, seconds)
        finally:
            peer.kill()


def steady(port: int, tokens: dict[str, str], seconds: float) -> list[float]:
    """Milliseconds from publishing until the receipt at a steady rate, sorted."""
    counts = Counts()

    async def run() -> None:
        driving = fleet.drive(
            tokens,
            "127.0.0.1",
            port,
            "marvain/v1",
            rate=STEADY_RATE,
            seconds=seconds + 4,
            heartbeat_s=15.0,
            counts=counts,
            told=lambda _figures: None,
            every_s=3_600,
        )
        task = asyncio.create_task(driving)
        await asyncio.sleep(4)
        counts.waits.clear()
        await task

    asyncio.run(run())
    return sorted(1e3 * wait for wait in counts.waits)


def measure(broker: str, url: str, database: Database, folder: Path, seconds: float) -> list[dict[str, object]]:
    """The rows of one broker."""
    plain = libpq_url(url)
    tokens = fleet.make(database, DEVICES, {}, by="bench")
    with services(broker, url, folder) as (port, _, hub):
        before = hub.cpu_s()
        ours = load(plain, port, "events", tokens, seconds)
        cpu = (hub.cpu_s() - before) / (seconds + 2)
        waits = steady(port, tokens, seconds)
    with services(broker, url, folder, hub=False) as (port, _, _):
        peers = {mode: against(mode, plain, port, tokens, seconds) for mode in ("row", "bound")}
    return [
        {"broker": broker, "what": "ours", "figure": round(ours), "unit": "events/s"},
        {"broker": broker, "what": "one INSERT for each", "figure": round(peers["row"]), "unit": "events/s"},
        {"broker": broker, "what": "bare bound", "figure": round(peers["bound"]), "unit": "events/s"},
        {"broker": broker, "what": "ours : one INSERT for each", "figure": ours / peers["row"], "unit": "times"},
        {"broker": broker, "what": "ours : bound", "figure": ours / peers["bound"], "unit": "times"},
        {"broker": broker, "what": "the hub's CPU meanwhile", "figure": round(100 * cpu), "unit": "% of a core"},
        {"broker": broker, "what": "at 3,000/s: p50", "figure": waits[len(waits) // 2], "unit": "ms"},
        {"broker": broker, "what": "at 3,000/s: p99", "figure": waits[int(len(waits) * 0.99)], "unit": "ms"},
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--broker", action="append", choices=("mosquitto", "embedded"))
    options = parser.parse_args()
    rows: list[dict[str, object]] = []
    for broker in options.broker or ("mosquitto", "embedded"):
        with scratch() as (folder, url, database):
            furnish(database)
            with psycopg.connect(libpq_url(url), autocommit=True) as connection:
                connection.execute(BARE)
            rows += measure(broker, url, database, folder, options.seconds)
    report.write("ingest", "Durable events, acknowledged after commit", rows)


if __name__ == "__main__":
    main()
