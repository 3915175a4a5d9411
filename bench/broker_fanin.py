"""Fan-in to one subscriber: our embedded broker with its grants on, beside Debian's Mosquitto, in one run.

    python bench/broker_fanin.py [--seconds 3] [--idle 10000]

Publishers and the subscriber are processes of their own that speak MQTT by hand, so that the load generator costs as
little as it can. Ours runs with the principals of a table in memory: the decision is the product's, Postgres is not
what is measured here. Publishers send in bursts of 100 messages, which lets a broker work on many at a time; ours gains
more from that than Mosquitto does (which keeps its own defaults for windows and Nagle: they serve it best here).
"""

import argparse
import asyncio
import logging
import multiprocessing
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from multiprocessing.synchronize import Event
from pathlib import Path

import structlog
from amqtt.contexts import ListenerType

sys.path.insert(0, str(Path(__file__).parents[1]))

from broker.embedded.admission import Admitted, Rejected
from broker.embedded.broker import Broker
from broker.embedded.listener import listen, listener
from broker.embedded.refusals import Refusals
from hub.access.principals import Principal, hub_principal
from hub.access.scopes import device_grants

ROOT = "marvain/v1"
PUBLISHERS = 4
IN_FLIGHT = 1_000
PAYLOAD = b"x" * 64


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Table:
    """Everybody by name, all with the same secret: the seam's second implementation."""

    async def admit(self, username: str, password: str) -> Admitted | Rejected:
        if password != "secret":
            return Rejected("wrong username or password", 4)
        principal = (
            hub_principal(ROOT)
            if username == "hub_service"
            else Principal(username, "device", device_grants(username, ["*"], ROOT), ROOT)
        )
        return Admitted(principal, uuid.UUID(int=0))

    async def review(self, username: str, credential_id: uuid.UUID) -> Admitted | Rejected:  # noqa: ARG002
        return await self.admit(username, "secret")


def serve_ours(port: int, ready: Event) -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))

    async def run() -> None:
        broker = Broker(Table(), Refusals(None, None), ROOT)
        await listen(broker, listener(ListenerType.TCP, "127.0.0.1", port))
        ready.set()
        await asyncio.Event().wait()

    try:
        import uvloop  # noqa: PLC0415

        uvloop.run(run())
    except ImportError:
        asyncio.run(run())


def string(value: str) -> bytes:
    return len(value).to_bytes(2, "big") + value.encode()


def packet(first: int, body: bytes) -> bytes:
    size, length = len(body), bytearray()
    while True:
        size, digit = divmod(size, 128)
        length.append(digit | (128 if size else 0))
        if not size:
            return bytes([first]) + bytes(length) + body


def dial(port: int, name: str) -> socket.socket:
    peer = socket.create_connection(("127.0.0.1", port))
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    peer.sendall(packet(0x10, string("MQTT") + b"\4\xc2\0\0" + string(name) + string(name) + string("secret")))
    answer = peer.recv(4)
    assert answer == b"\x20\x02\0\0", answer
    return peer


def publish(port: int, number: int, qos: int, go: Event, stop: Event) -> None:
    """Send as fast as the broker takes it; at QoS 1 with a bounded number unacknowledged."""
    name = f"device-{number}"
    peer = dial(port, name)
    topic = string(f"{ROOT}/d/{name}/telemetry/t")
    burst = 100
    if qos:
        chunk = b"".join(packet(0x32, topic + (i + 1).to_bytes(2, "big") + PAYLOAD) for i in range(burst))
    else:
        chunk = packet(0x30, topic + PAYLOAD) * burst
    go.wait()
    unacknowledged = 0
    while not stop.is_set():
        peer.sendall(chunk)
        if qos:
            unacknowledged += 4 * burst
            while unacknowledged > 4 * (IN_FLIGHT - burst):
                unacknowledged -= len(peer.recv(65_536))
    peer.close()


def subscribe_idle(port: int, count: int, ready: Event, stop: Event) -> None:
    """One connection per 50 idle subscriptions, none of which matches what is published."""
    peers = []
    for number in range(max(1, count // 50)) if count else ():
        peer = dial(port, f"idle-{number}")
        filters = b"".join(string(f"{ROOT}/d/idle-{number}/cmd/verb{i}/+") + b"\0" for i in range(min(50, count)))
        peer.sendall(packet(0x82, b"\0\1" + filters))
        peer.recv(200)
        peers.append(peer)
    ready.set()
    stop.wait()


def measure(port: int, qos: int, idle: int, seconds: float) -> float:
    """Messages per second that arrive at one subscriber over `seconds`."""
    context = multiprocessing.get_context("fork")
    go, stop, ready = context.Event(), context.Event(), context.Event()
    idler = context.Process(target=subscribe_idle, args=(port, idle, ready, stop), daemon=True)
    idler.start()
    ready.wait()
    hub = dial(port, "hub_service")
    hub.sendall(packet(0x82, b"\0\1" + string(f"{ROOT}/d/+/telemetry/+") + bytes([qos])))
    hub.recv(5)
    workers = [
        context.Process(target=publish, args=(port, number, qos, go, stop), daemon=True) for number in range(PUBLISHERS)
    ]
    for worker in workers:
        worker.start()
    time.sleep(0.3)
    size = len(packet(0x30 | qos << 1, string(f"{ROOT}/d/device-0/telemetry/t") + (b"\0\0" if qos else b"") + PAYLOAD))
    identifier = size - len(PAYLOAD) - 2
    go.set()
    received, rest, warm, started = 0, b"", False, time.perf_counter()
    while True:
        data = rest + hub.recv(1 << 18)
        whole = len(data) // size
        rest = data[whole * size :]
        received += whole
        if qos:
            hub.sendall(
                b"".join(
                    b"\x40\x02" + data[at + identifier : at + identifier + 2] for at in range(0, whole * size, size)
                )
            )
        elapsed = time.perf_counter() - started
        if not warm and elapsed > 0.5:
            received, warm, started = 0, True, time.perf_counter()
        elif warm and elapsed > seconds:
            break
    rate = received / (time.perf_counter() - started)
    stop.set()
    hub.close()
    for worker in (*workers, idler):
        worker.terminate()
        worker.join()
    return rate


def ours(port: int) -> multiprocessing.process.BaseProcess:
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    process = context.Process(target=serve_ours, args=(port, ready), daemon=True)
    process.start()
    ready.wait(10)
    return process


def mosquitto(port: int, folder: Path) -> subprocess.Popen[bytes]:
    program = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
    passwords = folder / "passwords"
    names = ["hub_service", *(f"device-{i}" for i in range(PUBLISHERS)), *(f"idle-{i}" for i in range(200))]
    passwords.write_text("".join(f"{name}:secret\n" for name in names))
    subprocess.run(["mosquitto_passwd", "-U", str(passwords)], check=True)
    acl = folder / "acl"
    acl.write_text(f"user hub_service\ntopic readwrite {ROOT}/#\n\npattern readwrite {ROOT}/d/%u/#\n")
    config = folder / "mosquitto.conf"
    config.write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous false\npassword_file {passwords}\nacl_file {acl}\n"
        "max_queued_messages 200000\n"
    )
    for path in (folder, passwords, acl, config):
        path.chmod(0o755)
    process = subprocess.Popen([program, "-c", str(config)], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            time.sleep(0.05)
        else:
            break
    return process


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--idle", type=int, default=10_000)
    parser.add_argument("--only", choices=["ours", "mosquitto"])
    options = parser.parse_args()
    print("| broker | QoS | idle subscriptions | messages/s |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name in ("ours", "mosquitto"):
            if options.only not in {None, name}:
                continue
            for qos in (0, 1):
                for idle in (0, options.idle):
                    # A fresh broker each time: what one run leaves behind must not slow the next.
                    port = free_port()
                    process = ours(port) if name == "ours" else mosquitto(port, Path(folder))
                    try:
                        rate = measure(port, qos, idle, options.seconds)
                        print(f"| {name} | {qos} | {idle:,} | {rate:,.0f} |", flush=True)
                    finally:
                        process.terminate()
                        process.wait() if isinstance(process, subprocess.Popen) else process.join()


if __name__ == "__main__":
    main()
