"""How fast approved actions are done: approve → accepted by the satellite, and whole lives beside a bare job.

    python bench/actions.py [--broker embedded|mosquitto] [--count 300] [--lives 1000]

Accepted: from the beginning of the transaction that approves `device_command` until the satellite holds the receipt for
its `accepted`, which the hub sends when it has committed it. A life: proposed, approved and done by the hub's runner
(`create_memory`, which stores a row), each step in a transaction of its own as a request's would be. Bare: a job of
procrastinate with an id that does nothing, put in a transaction of its own, done by a worker process with the same
concurrency. Both take turns.
"""

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import threading
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parents[1]))

import paho.mqtt.client as paho
import procrastinate
import report
from commands import ROOT, SCOPES, WARM_UP, WITHIN_S, connect, hub, percentile, wait_online
from live_home import HUB_PASSWORD, running
from scratch import scratch
from sqlalchemy import text

from hub import devices
from hub.access import credentials
from hub.actions import deciding, proposing
from hub.actions.deciding import Decider
from hub.actions.jobs import AT_ONCE
from hub.actions.proposing import Proposal, Proposer
from hub.audit.actors import Actor
from hub.database import Database, libpq_url
from hub.tables import Agent

ROUNDS: Final = 3
QUEUE: Final = "bare"
TASK: Final = "bench.nothing"
# So many ask at once; they wait for each other at the audit's chain, as they do in life.
ASKERS: Final = 2
ANN: Final = Decider("user:bench", Actor("bench", "person"), "owner")
BEN: Final = Proposer("user:ben", Actor("ben", "person"))


def propose(database: Database, agent_id: uuid.UUID, proposal: Proposal) -> tuple[uuid.UUID, str]:
    """A proposal, committed: its id and digest."""
    with database.transaction() as session:
        made = proposing.propose(session, agent_id, proposal, proposer=BEN, now=datetime.now(UTC)).action
        return made.action_id, made.digest


def approve(database: Database, agent_id: uuid.UUID, action_id: uuid.UUID, digest: str) -> None:
    with database.transaction() as session:
        deciding.approve(session, agent_id, action_id, by=ANN, digest=digest, now=datetime.now(UTC))


def accepted(database: Database, port: int, agent_id: uuid.UUID, token: str, count: int) -> list[float]:
    """Milliseconds from each approval until the satellite's `accepted` is committed and confirmed."""
    epoch, base = int(time.time()), f"{ROOT}/d/porch"
    came = threading.Event()

    def hear(client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        if message.topic == f"{base}/receipt":
            if any(one.endswith(":accepted") for one in json.loads(message.payload)["ids"]):
                came.set()
            return
        topic = f"{base}/reply/{message.topic.rpartition('/')[2]}"
        client.publish(topic, json.dumps({"status": "accepted", "epoch": epoch}), 1)
        client.publish(topic, json.dumps({"status": "succeeded", "epoch": epoch}), 1)

    porch = connect(port, "porch", token, f"{base}/cmd/#", hear)
    porch.subscribe(f"{base}/receipt", 1)
    porch.publish(f"{base}/hello", json.dumps({"epoch": epoch, "heartbeat_s": 3600}), 1).wait_for_publish(WITHIN_S)
    with database.transaction() as session:
        device = devices.by_handle(session, "porch")
    wait_online(database, device)
    took = []
    for number in range(count + WARM_UP):
        action_id, digest = propose(database, agent_id, Proposal("device_command", {"device": "porch", "verb": "ping"}))
        came.clear()
        began = time.perf_counter()
        approve(database, agent_id, action_id, digest)
        assert came.wait(WITHIN_S)
        if number >= WARM_UP:
            took.append(1e3 * (time.perf_counter() - began))
        _until(database, "SELECT count(*) FROM actions WHERE status IN ('approved', 'executing')")
    porch.disconnect()
    porch.loop_stop()
    return took


def _until(database: Database, count_left: str, **values: Any) -> None:
    deadline = time.monotonic() + 120
    while True:
        with database.transaction() as session:
            if session.execute(text(count_left), values).scalar_one() == 0:
                return
        assert time.monotonic() < deadline
        time.sleep(0.01)


def lives(database: Database, agent_id: uuid.UUID, count: int) -> float:
    """Actions per second, from the first proposal until the last is executed."""
    mark = uuid.uuid4().hex

    def ask(numbers: range) -> None:
        for number in numbers:
            proposal = Proposal("create_memory", {"content": f"{mark} {number}"})
            approve(database, agent_id, *propose(database, agent_id, proposal))

    began = time.perf_counter()
    _share(ask, count)
    _until(database, "SELECT count(*) FROM actions WHERE status <> 'executed' AND kind = 'create_memory'")
    return count / (time.perf_counter() - began)


def bare(database: Database, count: int) -> float:
    """Jobs per second that do nothing."""

    def ask(numbers: range) -> None:
        for number in numbers:
            with database.transaction() as session:
                session.execute(
                    text(
                        "SELECT procrastinate_defer_jobs_v1(ARRAY[ROW(CAST(:queue AS varchar), CAST(:task AS varchar), "
                        "0, CAST(NULL AS text), CAST(NULL AS text), "
                        "jsonb_build_object('number', CAST(:number AS int)), "
                        "CAST(NULL AS timestamptz))]::procrastinate_job_to_defer_v1[])"
                    ),
                    {"queue": QUEUE, "task": TASK, "number": number},
                )

    began = time.perf_counter()
    _share(ask, count)
    _until(database, "SELECT count(*) FROM procrastinate_jobs WHERE queue_name = :queue", queue=QUEUE)
    return count / (time.perf_counter() - began)


def _share(ask: Any, count: int) -> None:
    threads = [threading.Thread(target=ask, args=(range(first, count, ASKERS),)) for first in range(ASKERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def work(database_url: str) -> None:
    """The worker of bare jobs; ends with its process."""
    app = procrastinate.App(
        connector=procrastinate.PsycopgConnector(conninfo=libpq_url(database_url), min_size=1, max_size=4)
    )

    @app.task(name=TASK, queue=QUEUE)
    def nothing(number: int) -> int:
        return number

    async def run() -> None:
        async with app.open_async():
            await app.run_worker_async(queues=[QUEUE], concurrency=AT_ONCE, delete_jobs="always")

    asyncio.run(run())


def measure(broker: str, count: int, total: int) -> dict[str, object]:
    """Everything for one broker, from an empty database on."""
    with scratch() as (folder, url, database):
        with database.transaction() as session:
            credentials.set_hub_password(session, HUB_PASSWORD)
            agent = Agent(name="Home")
            session.add(agent)
            session.flush()
            agent_id = agent.agent_id
            added = devices.add(session, agent_id, "porch", scopes=SCOPES, by="bench", handle="porch")
        with running(broker, url, folder) as (port, _), hub(url, port, folder):
            worker = subprocess.Popen([sys.executable, __file__, "--worker", url])
            try:
                took = accepted(database, port, agent_id, added.token, count)
                rounds = [(lives(database, agent_id, total), bare(database, total)) for _ in range(ROUNDS)]
            finally:
                worker.terminate()
                worker.wait(30)
    ours, jobs = (statistics.median(one) for one in zip(*rounds, strict=True))
    return {
        "broker": broker,
        "approvals": count,
        "approve → accepted p50 ms": percentile(took, 0.5),
        "p95 ms": percentile(took, 0.95),
        "p99 ms": percentile(took, 0.99),
        "lives": ROUNDS * total,
        "lives/s": ours,
        "bare jobs/s": jobs,
        "lives / bare": ours / jobs,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--broker", choices=["embedded", "mosquitto"])
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--lives", type=int, default=1000)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    # `make bench ARGS=...` gives the same arguments to all; what is not ours is not for us.
    options, _ = parser.parse_known_args()
    if options.worker:
        work(options.worker)
        return
    brokers = [options.broker] if options.broker else ["embedded", "mosquitto"]
    rows = [measure(broker, options.count, options.lives) for broker in brokers]
    report.write("actions", "Actions: approve → accepted, and whole lives beside bare jobs", rows)


if __name__ == "__main__":
    main()
