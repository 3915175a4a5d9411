"""The embedded broker beside its peers, in one run: fan-in, a fleet, fan-out, idle connections, connect rate.

    python bench/broker.py [--seconds 3] [--brokers ours,mosquitto,aedes,amqtt] [--only fan-in,loss,fleet,fan-out,idle]

About six minutes with all four brokers, two and a half with ours alone.
Load generators are processes of their own that speak MQTT by hand; on few cores they take their share of them, from
every broker alike. Fan-in publishers send bursts of 100 and stay within 1,000 messages of the subscriber; bursts let a
broker work on many messages at a time, and that flatters ours. `fleet` is the opposite: 1,000 connections with one
message at a time each. A fresh broker for every figure. Mosquitto is measured as it comes and tuned (TCP_NODELAY, a
wide window), and the better figure stands.

`loss` is what fan-in loses beside 10,000 idle subscriptions, measured in turns with and without them and by the
processor time that the broker needs for a message: what else the machine does counts little there, and much in the
messages per second. So does the processor time for a connection.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import brokers
import peers
import psutil
import report

Start = Callable[..., AbstractContextManager[tuple[int, int]]]

PUBLISHERS = 4
FLEET = 1_000
SUBSCRIBERS = 1_000
CONNECTIONS = 10_000
IDLE = (0, 1_000, 10_000)
ALL = ("ours", "mosquitto", "aedes", "amqtt")


@contextmanager
def workers(*targets: tuple[Callable[..., None], tuple[Any, ...]]) -> Iterator[None]:
    """Processes that end with the measurement."""
    processes = [peers.FORK.Process(target=target, args=arguments, daemon=True) for target, arguments in targets]
    for process in processes:
        process.start()
    try:
        yield
    finally:
        for process in processes:
            process.terminate()
            process.join()


def worked(pid: int) -> float:
    """Seconds that the processor worked for this process so far."""
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


def fan_in(start: Start, qos: int, idle: int, seconds: float) -> tuple[float, float]:
    """From four publishers to one subscriber: messages per second, and the broker's µs of work for each."""
    go, stop, ready = peers.FORK.Event(), peers.FORK.Event(), peers.FORK.Event()
    received = peers.FORK.Value("Q", 0, lock=False)
    with start() as (port, pid), workers((peers.subscribe_idle, (port, idle, ready, stop))):
        ready.wait(60)
        hub = peers.dial(port, brokers.HUB)
        peers.subscribe(hub, [f"{brokers.ROOT}/d/+/telemetry/+"], qos)
        with workers(
            *((peers.publish, (port, number, PUBLISHERS, qos, go, stop, received)) for number in range(PUBLISHERS))
        ):
            time.sleep(0.3)
            go.set()
            before = worked(pid)
            rate = peers.receive(hub, qos, seconds, received)
            return rate, (worked(pid) - before) * 1e6 / received.value


def loss(start: Start, qos: int, seconds: float) -> float:
    """How much dearer a message is to the broker beside idle subscriptions, in per cent: medians of three turns."""
    costs: dict[int, list[float]] = {0: [], max(IDLE): []}
    for _ in range(3):
        for idle, found in costs.items():
            found.append(fan_in(start, qos, idle, seconds)[1])
    without, beside = (statistics.median(found) for found in costs.values())
    return (1 - without / beside) * 100


def fleet(start: Start, seconds: float) -> float:
    """Messages per second from 1,000 publishers, each with one QoS 1 message at a time, to one subscriber."""
    go, stop = peers.FORK.Event(), peers.FORK.Event()
    with start() as (port, _):
        hub = peers.dial(port, brokers.HUB)
        peers.subscribe(hub, [f"{brokers.ROOT}/d/+/telemetry/+"], 1)
        with workers((peers.publish_one_by_one, (port, 0, FLEET, go, stop))):
            time.sleep(2.0)
            go.set()
            return peers.receive_any(hub, 1, seconds)


def fan_out(start: Start, seconds: float) -> float:
    """Deliveries per second of one publisher's QoS 0 messages to 1,000 subscribers."""
    stop, ready = peers.FORK.Event(), peers.FORK.Event()
    delivered = peers.FORK.Value("Q", 0, lock=False)
    message = peers.packet(0x30, peers.string(brokers.TO_ALL) + peers.PAYLOAD)
    with (
        start() as (port, _),
        workers((peers.subscribe_many, (port, brokers.TO_ALL, SUBSCRIBERS, ready, stop, delivered))),
    ):
        ready.wait(60)
        hub = peers.dial(port, brokers.HUB)
        sent, began, counted = 0, 0.0, 0
        deadline = time.perf_counter() + seconds + 0.5
        while time.perf_counter() < deadline:
            # Never more than 20 messages ahead of what arrived, so that nothing has to be dropped.
            if sent - delivered.value // (len(message) * SUBSCRIBERS) < 20:
                hub.sendall(message)
                sent += 1
            else:
                time.sleep(0.001)
            if not began and time.perf_counter() > deadline - seconds:
                began, counted = time.perf_counter(), delivered.value
        return (delivered.value - counted) / len(message) / (time.perf_counter() - began)


def idle_connections(start: Start) -> tuple[float, float, float]:
    """Connections per second with authentication; of the broker µs of work and KiB of memory for each idle one."""
    with start() as (port, pid):
        process = psutil.Process(pid)
        # What the first ones cost is not what each costs.
        first, _ = peers.connect_many(port, 200)
        for peer in first:
            peer.close()
        time.sleep(1.0)
        before = process.memory_info().rss
        began = worked(pid)
        connected, rate = peers.connect_many(port, CONNECTIONS)
        work = (worked(pid) - began) * 1e6 / len(connected)
        time.sleep(1.0)
        each = (process.memory_info().rss - before) / len(connected) / 1024
        for peer in connected:
            peer.close()
        return rate, work, each


def measure(found: dict[str, Start], wanted: set[str], seconds: float) -> list[dict[str, object]]:
    """A row for each figure: the brokers side by side, and ours as a share of Mosquitto's and aedes'."""
    rows: list[dict[str, object]] = []

    def row(what: str, unit: str, figure: Callable[[Start], float], *, skip: set[str] = frozenset()) -> None:
        values = {name: best(name, start, figure) for name, start in found.items() if name not in skip}
        rows.append(_row(what, unit, values))
        print(rows[-1], flush=True)

    if "fan-in" in wanted:
        for qos in (0, 1):
            for idle in IDLE:
                skip = {"amqtt"} if idle == max(IDLE) else set()
                row(
                    f"fan-in QoS {qos}, {idle:,} idle subscriptions",
                    "messages/s",
                    lambda start, qos=qos, idle=idle: fan_in(start, qos, idle, seconds)[0],
                    skip=skip,
                )
    if "loss" in wanted and "ours" in found:
        for qos in (0, 1):
            lost = {"ours": loss(found["ours"], qos, seconds)}
            rows.append(_row(f"fan-in QoS {qos}, lost beside {max(IDLE):,} idle subscriptions", "%", lost))
            print(rows[-1], flush=True)
    if "fleet" in wanted:
        row(f"{FLEET:,} publishers, one QoS 1 message at a time", "messages/s", lambda start: fleet(start, seconds))
    if "fan-out" in wanted:
        row(f"fan-out to {SUBSCRIBERS:,}, QoS 0", "deliveries/s", lambda start: fan_out(start, seconds))
    if "idle" in wanted:
        both = {name: idle_connections(start) for name, start in found.items() if name != "amqtt"}
        rows.append(_row(f"connecting, {CONNECTIONS:,}", "connections/s", {name: one[0] for name, one in both.items()}))
        rows.append(_row("work of the broker to connect", "µs each", {name: one[1] for name, one in both.items()}))
        rows.append(_row("an idle connection", "KiB", {name: one[2] for name, one in both.items()}))
    return rows


def best(name: str, start: Start, figure: Callable[[Start], float]) -> float:
    """The figure; Mosquitto's the better one of two."""
    if name != "mosquitto":
        return figure(start)
    return max(figure(start), figure(lambda: brokers.mosquitto(tuned=True)))


def _row(what: str, unit: str, values: Mapping[str, float | None]) -> dict[str, object]:
    row: dict[str, object] = {"what": what, "unit": unit}
    for name in ALL:
        value = values.get(name)
        row[name] = "" if value is None else round(value) if value >= 100 else round(value, 1)
    ours = values.get("ours")
    for other in ("mosquitto", "aedes"):
        value = values.get(other)
        row[f"ours / {other}"] = f"{ours / value:.2f}" if ours and value else ""
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--brokers", default=",".join(ALL))
    parser.add_argument("--only", default="fan-in,loss,fleet,fan-out,idle")
    options = parser.parse_args()
    with brokers.installed(options.brokers.split(",")) as found:
        rows = measure(found, set(options.only.split(",")), options.seconds)
    report.write("broker", "The embedded broker beside its peers", rows)


if __name__ == "__main__":
    main()
