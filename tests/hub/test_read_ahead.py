"""Reading ahead changes nothing but the number of calls: every packet arrives whole, in order, and once."""

import socket
import threading

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from hub import read_ahead
from hub.read_ahead import ReadAhead


@pytest.fixture
def pair():
    left, right = socket.socketpair()
    right.setblocking(False)
    yield left, ReadAhead(right)
    left.close()
    right.close()


def test_it_gives_what_is_there_in_pieces_of_any_size(pair):
    sender, ahead = pair
    sender.sendall(b"abcdef")
    assert [ahead.recv(1), ahead.recv(3)] == [b"a", b"bcd"]
    assert ahead.pending() == ahead.buffered == 2
    sender.sendall(b"gh")
    assert ahead.recv(10) == b"ef"  # what is here, without asking the system
    assert ahead.recv(10) == b"gh"
    with pytest.raises(BlockingIOError):
        ahead.recv(1)


def test_the_end_is_the_end(pair):
    sender, ahead = pair
    sender.sendall(b"x")
    sender.close()
    assert (ahead.recv(9), ahead.recv(9)) == (b"x", b"")
    assert ahead.fileno() > 0


def test_all_of_a_flood_arrives_in_order(mosquitto_port):
    heard, done = [], threading.Event()
    client = read_ahead.Client(CallbackAPIVersion.VERSION2)

    def on_message(_client, _data, message) -> None:
        heard.append(int(message.payload.split(b".")[0]))
        if len(heard) == 6_000:
            done.set()

    ready = threading.Event()
    client.on_message = on_message
    client.on_subscribe = lambda *_: ready.set()
    client.connect("127.0.0.1", mosquitto_port)
    client.subscribe("t", 1)
    client.loop_start()
    assert ready.wait(20)
    other = paho.Client(CallbackAPIVersion.VERSION2)
    other.max_inflight_messages_set(50)
    other.connect("127.0.0.1", mosquitto_port)
    other.loop_start()
    for n in range(6_000):
        other.publish("t", b"%d." % n + b"x" * (n % 900), n % 2)
        if n % 500 == 499:
            other.publish("t/paced", b"", 1).wait_for_publish(20)
    assert done.wait(30), len(heard)
    assert sorted(heard) == list(range(6_000))
    assert [n for n in heard if n % 2] == list(range(1, 6_000, 2))
    for one in (client, other):
        one.disconnect()
        one.loop_stop()
