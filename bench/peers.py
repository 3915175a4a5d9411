"""MQTT clients that cost as little as they can: bytes prepared beforehand, sockets read by hand, one process each."""

import multiprocessing
import selectors
import socket
import time
from multiprocessing.synchronize import Event
from typing import Any

ROOT = "marvain/v1"
SECRET = "secret"
PAYLOAD = b"x" * 64
IN_FLIGHT = 1_000
FORK = multiprocessing.get_context("fork")


def string(value: str) -> bytes:
    return len(value).to_bytes(2, "big") + value.encode()


def packet(first: int, body: bytes) -> bytes:
    size, length = len(body), bytearray()
    while True:
        size, digit = divmod(size, 128)
        length.append(digit | (128 if size else 0))
        if not size:
            return bytes([first]) + bytes(length) + body


def connect_packet(name: str) -> bytes:
    return packet(0x10, string("MQTT") + b"\4\xc2\0\0" + string(name) + string(name) + string(SECRET))


def dial(port: int, name: str) -> socket.socket:
    """A connection that was accepted."""
    peer = socket.create_connection(("127.0.0.1", port))
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    peer.sendall(connect_packet(name))
    answer = peer.recv(4)
    assert answer == b"\x20\x02\0\0", answer
    return peer


def subscribe(peer: socket.socket, filters: list[str], qos: int = 0) -> None:
    body = b"\0\1" + b"".join(string(one) + bytes([qos]) for one in filters)
    peer.sendall(packet(0x82, body))
    assert peer.recv(4 + len(filters))[:1] == b"\x90"


def telemetry(name: str) -> str:
    return f"{ROOT}/d/{name}/telemetry/t"


def publish(port: int, number: int, share: int, qos: int, go: Event, stop: Event, received: Any) -> None:
    """Bursts of 100 messages, at most 1,000 ahead of this one's `share`th part of what the subscriber has received."""
    name = f"device-{number}"
    peer = dial(port, name)
    topic = string(telemetry(name))
    burst = 100
    if qos:
        chunk = b"".join(packet(0x32, topic + (i + 1).to_bytes(2, "big") + PAYLOAD) for i in range(burst))
    else:
        chunk = packet(0x30, topic + PAYLOAD) * burst
    go.wait()
    sent, unacknowledged = 0, 0
    while not stop.is_set():
        if sent - received.value // share > IN_FLIGHT:
            time.sleep(0.0005)
            continue
        peer.sendall(chunk)
        sent += burst
        if qos:
            unacknowledged += 4 * burst
            while unacknowledged > 4 * (IN_FLIGHT - burst):
                unacknowledged -= len(peer.recv(65_536))


def publish_one_by_one(port: int, first: int, count: int, go: Event, stop: Event) -> None:
    """So many devices in one process: each sends its next QoS 1 message when the last one was acknowledged."""
    selector = selectors.DefaultSelector()
    peers = []
    for number in range(first, first + count):
        name = f"device-{number}"
        peer = dial(port, name)
        peer.setblocking(False)
        message = packet(0x32, string(telemetry(name)) + b"\0\1" + PAYLOAD)
        selector.register(peer, selectors.EVENT_READ, message)
        peers.append((peer, message))
    go.wait()
    for peer, message in peers:
        peer.send(message)
    while not stop.is_set():
        for key, _ in selector.select(0.1):
            if len(key.fileobj.recv(64)) == 4:
                key.fileobj.send(key.data)


def subscribe_idle(port: int, count: int, ready: Event, stop: Event) -> None:
    """One connection per 50 idle subscriptions, none of which matches what is published."""
    peers = []
    for number in range(count // 50):
        peer = dial(port, f"idle-{number}")
        subscribe(peer, [f"{ROOT}/d/idle-{number}/cmd/verb{i}/+" for i in range(50)])
        peers.append(peer)
    ready.set()
    stop.wait()


def receive(peer: socket.socket, qos: int, seconds: float, total: Any) -> float:
    """Messages per second that arrive at one subscriber, after half a second of warming up; `total` counts them all."""
    size = len(packet(0x30 | qos << 1, string(telemetry("device-0")) + (b"\0\0" if qos else b"") + PAYLOAD))
    identifier = size - len(PAYLOAD) - 2
    received, before, rest, warm, started = 0, 0, b"", False, time.perf_counter()
    while True:
        data = rest + peer.recv(1 << 18)
        whole = len(data) // size
        rest = data[whole * size :]
        received += whole
        total.value = received
        if qos:
            at = range(identifier, whole * size, size)
            peer.sendall(b"".join(b"\x40\x02" + data[i : i + 2] for i in at))
        elapsed = time.perf_counter() - started
        if not warm and elapsed > 0.5:
            before, warm, started = received, True, time.perf_counter()
        elif warm and elapsed > seconds:
            return (received - before) / elapsed


def receive_any(peer: socket.socket, qos: int, seconds: float) -> float:
    """The same where topics differ in length: the packets are taken apart, and acknowledged at QoS 1."""
    received, rest, warm, started = 0, b"", False, time.perf_counter()
    while True:
        data = rest + peer.recv(1 << 18)
        at, end, answers = 0, len(data), []
        while at + 2 <= end and at + 2 + data[at + 1] <= end:
            if qos:
                topic_end = at + 4 + data[at + 3]
                answers.append(b"\x40\x02" + data[topic_end : topic_end + 2])
            at += 2 + data[at + 1]
            received += 1
        rest = data[at:]
        if answers:
            peer.sendall(b"".join(answers))
        elapsed = time.perf_counter() - started
        if not warm and elapsed > 0.5:
            received, warm, started = 0, True, time.perf_counter()
        elif warm and elapsed > seconds:
            return received / elapsed


def subscribe_many(port: int, topic: str, count: int, ready: Event, stop: Event, delivered: Any) -> None:
    """So many subscribers to one topic in one process; `delivered` counts the bytes that all of them got."""
    selector = selectors.DefaultSelector()
    for number in range(count):
        peer = dial(port, f"device-{number}")
        subscribe(peer, [topic])
        peer.setblocking(False)
        selector.register(peer, selectors.EVENT_READ)
    ready.set()
    total = 0
    while not stop.is_set():
        for key, _ in selector.select(0.05):
            total += len(key.fileobj.recv(65_536))
        delivered.value = total


def connect_many(port: int, count: int, at_a_time: int = 200) -> tuple[list[socket.socket], float]:
    """So many connections, `at_a_time` of them under way at once; the connections and how many were made a second."""
    selector = selectors.DefaultSelector()
    peers: list[socket.socket] = []
    started = time.perf_counter()
    begun = 0
    while len(peers) < count:
        while begun < count and begun - len(peers) < at_a_time:
            peer = socket.create_connection(("127.0.0.1", port))
            peer.sendall(connect_packet(f"device-{begun}"))
            selector.register(peer, selectors.EVENT_READ)
            begun += 1
        for key, _ in selector.select(10):
            answer = key.fileobj.recv(64)
            assert answer == b"\x20\x02\0\0", answer
            selector.unregister(key.fileobj)
            peers.append(key.fileobj)
    return peers, count / (time.perf_counter() - started)
