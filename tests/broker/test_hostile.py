"""What the hostile and the broken send: refused with a reason, and nobody else disturbed."""

import contextlib
import random
import time
from typing import Any

import pytest

House = Any
CONNECTED = 0


@pytest.fixture
def bystander(house: House) -> Any:
    """Somebody else, who must still get what is sent to them afterwards."""
    client, hub = house.device(), house.hub()
    client.peer.subscribe((client.topic("cmd", "#"), 1))
    yield client
    hub.peer.publish(client.topic("cmd", "ping", "1"), b"fine", 1)
    assert client.peer.message().payload == b"fine"


MALFORMED = {
    "not MQTT": b"GET / HTTP/1.1\r\n\r\n",
    "TLS": bytes.fromhex("160301020001000001fc0303"),
    "publish before connect": b"\x30\x05\0\3a/bx",
    "endless length": b"\x10\xff\xff\xff\xff\x01",
    "reserved flags": b"\x11\x00",
    "empty connect": b"\x10\x00",
    "unknown protocol": b"\x10\x06\0\4HTTP",
    "reserved connect flag": b"\x10\x0c\0\4MQTT\4\x03\0\x3c\0\0",
    "will qos 3": b"\x10\x0c\0\4MQTT\4\x1e\0\x3c\0\0",
    "will retain without will": b"\x10\x0c\0\4MQTT\4\x22\0\x3c\0\0",
    "password without username": b"\x10\x0c\0\4MQTT\4\x42\0\x3c\0\0",
    "truncated client id": b"\x10\x0c\0\4MQTT\4\x02\0\x3c\0\7",
    "bytes too many": b"\x10\x0e\0\4MQTT\4\x02\0\x3c\0\0xx",
    "client id not UTF-8": b"\x10\x0e\0\4MQTT\4\x02\0\x3c\0\2\xff\xff",
    "client id with NUL": b"\x10\x0d\0\4MQTT\4\x02\0\x3c\0\1\0",
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED)
def test_malformed_before_connect(house: House, bystander: Any, data: bytes) -> None:
    peer = house.dial()
    peer.send(data)
    assert peer.closed()


MALFORMED_LATER = {
    "a length longer than it needs to be": b"\x30\x83\x00\0\1a",
    "publish qos 3": b"\x36\x05\0\1a\0\1",
    "publish dup at qos 0": b"\x38\x03\0\1a",
    "publish without topic": b"\x30\x00",
    "publish with a short topic": b"\x30\x03\0\5a",
    "publish with an empty topic": b"\x30\x02\0\0",
    "publish to a wildcard": b"\x30\x05\0\3a/#",
    "publish to plus": b"\x30\x03\0\1+",
    "publish without identifier": b"\x32\x03\0\1a",
    "publish with identifier 0": b"\x32\x05\0\1a\0\0",
    "publish not UTF-8": b"\x30\x04\0\2\xc3\x28",
    "publish surrogate": b"\x30\x05\0\3\xed\xa0\x80",
    "publish NUL": b"\x30\x04\0\2a\0",
    "subscribe with flags 0": b"\x80\x06\0\1\0\1a\0",
    "subscribe to nothing": b"\x82\x02\0\1",
    "subscribe with identifier 0": b"\x82\x06\0\0\0\1a\0",
    "subscribe qos 3": b"\x82\x06\0\1\0\1a\3",
    "subscribe without qos": b"\x82\x05\0\1\0\1a",
    "unsubscribe from nothing": b"\xa2\x02\0\1",
    "unsubscribe with flags 0": b"\xa0\x05\0\1\0\1a",
    "short puback": b"\x40\x01\0",
    "long puback": b"\x40\x03\0\1\0",
    "pubrel with flags 0": b"\x60\x02\0\1",
    "connack": b"\x20\x02\0\0",
    "suback": b"\x90\x03\0\1\0",
    "pingresp": b"\xd0\x00",
    "ping with a body": b"\xc0\x01x",
    "disconnect with a body": b"\xe0\x01x",
    "type 0": b"\x00\x00",
    "type 15": b"\xf0\x00",
    "second connect": b"\x10\x0c\0\4MQTT\4\x02\0\x3c\0\0",
}


@pytest.mark.parametrize("data", MALFORMED_LATER.values(), ids=MALFORMED_LATER)
def test_malformed_after_connect(house: House, bystander: Any, data: bytes) -> None:
    client = house.device()
    client.peer.send(data)
    assert client.peer.closed()
    house.denial(client.handle, "disconnected: ")


def test_acknowledgements_of_nothing_are_borne(house: House) -> None:
    client = house.device()
    client.peer.send(b"\x40\x02\0\1" + b"\x70\x02\0\1" + b"\x50\x02\0\1" + b"\x62\x02\0\1")
    assert [client.peer.receive().kind for _ in range(2)] == [6, 7]
    client.peer.ping()


def test_random_bytes(house: House, bystander: Any) -> None:
    seeded = random.Random(7)
    client = house.device()
    for _ in range(150):
        peer = house.dial()
        peer.send(seeded.randbytes(seeded.randrange(1, 400)))
        peer.close()
    for _ in range(60):
        peer = house.again(client.handle, client.token).peer
        peer.send(seeded.randbytes(seeded.randrange(1, 400)))
        peer.close()


def test_every_split_of_a_conversation_is_the_same(house: House) -> None:
    device, token = house.add()
    topic = f"marvain/v1/d/{device.handle}/cmd/ping/1"
    talk = (
        house.wire.connect(device.handle, device.handle, token)
        + house.wire.packet(0x82, b"\0\5" + house.wire.string(topic) + b"\1")
        + house.wire.publish(f"marvain/v1/d/{device.handle}/event/e", b"x" * 300, 1, 3)
        + b"\xc0\x00"
    )
    for size in (1, 2, 3, 7, 50, 299):
        peer = house.dial()
        for start in range(0, len(talk), size):
            peer.send(talk[start : start + size])
            if size < 7 and start % 40 == 0:
                time.sleep(0.001)
        assert [peer.receive().kind for _ in range(4)] == [2, 9, 4, 13], size


def sends_until_cut_off(peer: Any, data: bytes, *, pause: float = 0.0) -> None:
    deadline = time.monotonic() + 10
    with contextlib.suppress(ConnectionError):
        while time.monotonic() < deadline:
            peer.send(data)
            time.sleep(pause)
        pytest.fail("still connected")


def test_a_packet_beyond_the_limit_is_not_read_into_memory(house: House, bystander: Any) -> None:
    client = house.device()
    client.peer.subscribe((client.topic("denied"), 0))
    before = house.broker.memory()
    size = 10 * 1024 * 1024
    head = house.wire.packet(0x30, b"")[:1] + house.wire.length(size) + house.wire.string(client.topic("event", "e"))
    client.peer.send(head)
    assert b"larger than the limit of 262144" in client.peer.message().payload
    sends_until_cut_off(client.peer, b"x" * 65_536, pause=0.02)
    assert house.broker.memory() - before < 4 * 1024 * 1024
    house.denial(client.handle, "larger than the limit")


def test_a_packet_at_the_limit_passes(house: House) -> None:
    hub, client = house.hub(), house.device()
    client.peer.subscribe((client.topic("cmd", "#"), 1))
    topic = client.topic("cmd", "ping", "1")
    payload = b"x" * (256 * 1024 - len(topic) - 4)
    hub.peer.publish(topic, payload, 1)
    assert client.peer.message().payload == payload


def test_an_unauthenticated_peer_cannot_send_much(house: House) -> None:
    peer = house.dial()
    peer.send(b"\x10" + house.wire.length(10 * 1024 * 1024) + b"\0\4MQTT")
    assert peer.closed()


def test_a_topic_too_deep_is_refused(house: House) -> None:
    client = house.device()
    client.peer.subscribe((client.topic("denied"), 0))
    deep = client.topic("cmd", *["x"] * 20_000)
    client.peer.send(house.wire.packet(0x82, b"\0\5" + house.wire.string(deep) + b"\1"))
    got = [client.peer.receive() for _ in range(2)]
    assert {packet.kind for packet in got} == {3, 9}
    assert next(packet for packet in got if packet.kind == 9).body == b"\0\5\x80"


def test_a_flood_of_refused_messages_is_told_once_and_counted(house: House) -> None:
    client = house.device([])
    client.peer.subscribe((client.topic("denied"), 0))
    client.peer.send(house.wire.publish(client.topic("state"), b"x") * 5_000 + b"\xc0\x00")
    kinds = []
    while not kinds or kinds[-1] != 13:
        kinds.append(client.peer.receive().kind)
    assert kinds.count(3) <= 2
    wait = time.monotonic() + 5
    while sum(d.count for d in house.denials(client.handle)) < 5_000:
        assert time.monotonic() < wait
        time.sleep(0.05)
    assert len(house.denials(client.handle)) <= 2


def test_a_flood_of_different_refused_topics_is_bounded(house: House) -> None:
    client = house.device([])
    client.peer.subscribe((client.topic("denied"), 0))
    client.peer.send(b"".join(house.wire.publish(f"x/{number}", b"x") for number in range(3_000)) + b"\xc0\x00")
    kinds = []
    while not kinds or kinds[-1] != 13:
        kinds.append(client.peer.receive().kind)
    assert kinds.count(3) <= 60
    house.denial("(many)", "too many different refusals")


def test_a_slow_reader_is_bounded_and_delays_nobody(own_house: House) -> None:
    house = own_house
    hub, quick = house.hub(), house.device()
    device, token = house.add()
    slow = house.dial(receive_buffer=4_096)
    assert slow.connect(device.handle, device.handle, token, keep_alive=0).body[1] == CONNECTED
    topic = f"marvain/v1/d/{device.handle}/cmd/x/1"
    slow.subscribe((f"marvain/v1/d/{device.handle}/cmd/#", 1))
    quick.peer.subscribe((quick.topic("cmd", "#"), 1))
    before = house.broker.memory()
    payload = b"x" * 4_000
    for number in range(100):
        hub.peer.send(house.wire.publish(topic, payload) * 200)
        hub.peer.send(b"".join(house.wire.publish(topic, payload, 1, i + 1) for i in range(50)))
        for _ in range(50):
            assert hub.peer.receive().kind == 4
        hub.peer.publish(quick.topic("cmd", "ping", str(number)), b"x", 1)
        assert quick.peer.message(1.0)
    # 100 MB were sent to it.
    assert house.broker.memory() - before < 24 * 1024 * 1024
    # It reads again, and is served again.
    hub.peer.publish(quick.topic("cmd", "ping", "0"), b"x", 1)
    with contextlib.suppress(TimeoutError):
        while slow.message(1.0):
            pass
    hub.peer.publish(topic, b"you are back", 1)
    assert slow.message().payload == b"you are back"


def test_one_who_never_reads_its_acknowledgements_is_cut_off(own_house: House) -> None:
    house = own_house
    device, token = house.add()
    peer = house.dial(receive_buffer=4_096)
    assert peer.connect(device.handle, device.handle, token, keep_alive=0).body[1] == CONNECTED
    peer.socket.settimeout(10)
    chunk = house.wire.publish(f"marvain/v1/d/{device.handle}/event/e", b"", 1, 5) * 5_000
    sends_until_cut_off(peer, chunk)
    house.denial(device.handle, "does not read")


def test_no_connect_within_ten_seconds(own_house: House) -> None:
    house = own_house
    silent, trickling = house.dial(), house.dial()
    started = time.monotonic()
    trickling.send(b"\x10")
    assert silent.closed(12)
    assert trickling.closed(2)
    assert 9 < time.monotonic() - started < 12


def test_more_filters_at_once_than_there_can_be_subscriptions(house: House, bystander: Any) -> None:
    client = house.device()
    client.peer.send(house.wire.packet(0x82, b"\0\5" + (house.wire.string("x") + b"\0") * 101))
    assert client.peer.closed()
    house.denial(client.handle, "more than 100 topic filters")


def test_one_who_never_reads_its_pongs_is_cut_off(house: House, bystander: Any) -> None:
    peer = house.dial(port=house.broker.ws_port, receive_buffer=4_096)
    peer.send(
        b"GET /mqtt HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Protocol: mqtt\r\n\r\n"
    )
    before = house.broker.memory()
    peer.socket.settimeout(8)
    ping = b"\x89\xfd\0\0\0\0" + b"x" * 125
    started = time.monotonic()
    sends_until_cut_off(peer, ping * 500)
    # Not only because there was no CONNECT.
    assert time.monotonic() - started < 8
    assert house.broker.memory() - before < 24 * 1024 * 1024


def test_long_topics_are_not_remembered(own_house: House) -> None:
    house = own_house
    client = house.device()
    before = house.broker.memory()
    for number in range(2_000):
        client.peer.send(house.wire.publish(client.topic("event", f"{number}{'x' * 60_000}"), b""))
    client.peer.drain()
    assert house.broker.memory() - before < 24 * 1024 * 1024
    house.denial(client.handle, "a topic has at most 1024 bytes here")


def test_those_who_say_nothing_do_not_keep_others_out(own_house: House) -> None:
    house = own_house
    silent = [house.dial() for _ in range(520)]
    assert house.device().session_present is False
    assert silent[0].closed()
    assert silent[-1].silent()


def test_a_connect_too_large_for_a_stranger(house: House) -> None:
    peer = house.dial()
    peer.send(b"\x10" + house.wire.length(100_000) + b"\0\4MQTT")
    assert peer.closed()
