"""What is delivered to whom, how often, in which order and at which QoS."""

from typing import Any

import pytest

House = Any


def test_a_refused_publish_is_acknowledged_told_recorded_and_not_routed(house: House) -> None:
    hub, other, client = house.hub(), house.device(), house.device(["presence:write"])
    assert hub.peer.subscribe(("marvain/v1/#", 1)) == [1]
    # What other tests retained.
    hub.peer.drain()
    assert client.peer.subscribe((client.topic("denied"), 0)) == [0]
    for topic, words in (
        (client.topic("event", "x"), "lacks the scope events:write"),
        (other.topic("state"), "own topics"),
    ):
        for _ in range(3):
            client.peer.send(house.wire.publish(topic, b"{}", 1, 9))
        got = [client.peer.receive() for _ in range(4)]
        assert sorted(packet.kind for packet in got) == [3, 4, 4, 4]
        told = next(packet for packet in got if packet.kind == 3)
        assert b'"action":"publish"' in told.payload
        assert words.encode() in told.payload
        # The hub hears of it, and of nothing else.
        assert hub.peer.message().topic == client.topic("denied")
    assert hub.peer.silent()
    assert house.denial(client.handle, "lacks the scope events:write").count == 3


def test_a_refused_subscribe_gets_0x80_and_the_others_are_granted(house: House) -> None:
    client = house.device([])
    assert client.peer.subscribe((client.topic("denied"), 1)) == [1]
    client.peer.send(
        house.wire.packet(
            0x82,
            b"\0\7"
            + b"".join(
                house.wire.string(name) + b"\1"
                for name in ("#", client.topic("welcome"), client.topic("cmd", "#"), "marvain/v1/d/+/receipt", "a/#/b")
            ),
        )
    )
    got = [client.peer.receive() for _ in range(5)]
    answer = next(packet for packet in got if packet.kind == 9)
    assert answer.body == bytes([0, 7, 0x80, 1, 0x80, 0x80, 0x80])
    told = [packet.payload for packet in got if packet.kind == 3]
    assert len(told) == 4
    assert any(b"commands:receive" in payload for payload in told)
    house.denial(client.handle, "not a valid topic filter")


@pytest.mark.parametrize("published", [0, 1, 2])
@pytest.mark.parametrize("granted", [0, 1, 2])
def test_the_lower_qos_wins(house: House, published: int, granted: int) -> None:
    hub, client = house.hub(), house.device()
    assert client.peer.subscribe((client.topic("cmd", "#"), granted)) == [granted]
    topic = client.topic("cmd", "ping", "1")
    hub.peer.send(house.wire.publish(topic, b"x", published, 5))
    got = client.peer.message()
    assert (got.qos, got.topic, got.payload, got.retain, got.dup) == (
        min(published, granted),
        topic,
        b"x",
        False,
        False,
    )


def test_qos_2_is_taken_once(house: House) -> None:
    hub, client = house.hub(), house.device()
    client.peer.subscribe((client.topic("cmd", "#"), 2))
    publish = house.wire.publish(client.topic("cmd", "ping", "1"), b"once", 2, 5)
    hub.peer.send(publish)
    assert hub.peer.receive().kind == 5
    hub.peer.send(bytes([publish[0] | 8]) + publish[1:])
    assert hub.peer.receive().kind == 5
    hub.peer.send(b"\x62\x02\0\5")
    assert hub.peer.receive().kind == 7
    got = client.peer.message()
    identifier = got.packet_id.to_bytes(2, "big")
    client.peer.send(b"\x50\x02" + identifier)
    released = client.peer.receive()
    assert (released.kind, released.flags, released.body) == (6, 2, identifier)
    client.peer.send(b"\x70\x02" + identifier)
    client.peer.ping()
    # The identifier is free again: the same number is another message.
    hub.peer.send(publish)
    assert client.peer.message().payload == b"once"


def test_overlapping_subscriptions_deliver_once_with_the_highest_qos(house: House) -> None:
    hub, client = house.hub(), house.device()
    client.peer.subscribe(
        (client.topic("cmd", "#"), 0), (client.topic("cmd", "+", "+"), 1), (client.topic("cmd", "ping", "1"), 0)
    )
    hub.peer.publish(client.topic("cmd", "ping", "1"), b"x", 1)
    assert client.peer.message().qos == 1
    assert client.peer.silent()


def test_unsubscribed_is_unsubscribed(house: House) -> None:
    hub, client = house.hub(), house.device()
    client.peer.subscribe((client.topic("cmd", "#"), 0))
    hub.peer.publish(client.topic("cmd", "ping", "1"), b"x", 1)
    assert client.peer.message()
    client.peer.unsubscribe(client.topic("cmd", "#"))
    hub.peer.publish(client.topic("cmd", "ping", "1"), b"x", 1)
    assert client.peer.silent()


def test_a_subscription_made_again_has_its_new_qos(house: House) -> None:
    hub, client = house.hub(), house.device()
    for qos in (1, 0, 2):
        client.peer.subscribe((client.topic("cmd", "#"), qos))
        hub.peer.send(house.wire.publish(client.topic("cmd", "ping", "1"), b"x", 2, 10 + qos))
        assert client.peer.message().qos == qos


def test_retained_is_stored_replaced_and_deleted(house: House) -> None:
    hub, client = house.hub(), house.device()
    topic = client.topic("presence")
    hub.peer.publish(topic, b"one", 1, retain=True)
    hub.peer.publish(topic, b"two", 1, retain=True)
    hub.peer.publish(topic, b"not kept", 1)
    client.peer.subscribe((topic, 0))
    got = client.peer.message()
    assert (got.payload, got.retain, got.qos) == (b"two", True, 0)
    hub.peer.publish(topic, b"live", 1, retain=True)
    got = client.peer.message()
    assert (got.payload, got.retain) == (b"live", False)
    hub.peer.publish(topic, b"", 1, retain=True)
    assert client.peer.message().payload == b""
    client.peer.subscribe((topic, 1))
    assert client.peer.silent()


def test_retained_reaches_only_those_who_may_read_it(house: House) -> None:
    hub, one, two = house.hub(), house.device(), house.device()
    for client in (one, two):
        hub.peer.publish(client.topic("presence"), client.handle.encode(), 1, retain=True)
    one.peer.send(
        house.wire.packet(
            0x82,
            b"\0\7"
            + house.wire.string("marvain/v1/d/+/presence")
            + b"\1"
            + house.wire.string(two.topic("presence"))
            + b"\1"
            + house.wire.string(one.topic("presence"))
            + b"\1",
        )
    )
    assert one.peer.receive().body[2:] == b"\x80\x80\1"
    assert one.peer.message().payload == one.handle.encode()
    assert one.peer.silent()


def test_a_device_cannot_fill_the_retained_store(house: House) -> None:
    client = house.device()
    client.peer.subscribe((client.topic("denied"), 0))
    for number in range(100):
        client.peer.publish(client.topic("event", f"e{number}"), b"x", 1, retain=True)
    client.peer.send(house.wire.publish(client.topic("event", "e100"), b"x", 0, retain=True))
    assert b"retained" in client.peer.message().payload
    client.peer.publish(client.topic("event", "e7"), b"replaced", 1, retain=True)


def test_order_is_kept_per_topic(house: House) -> None:
    hub, client = house.hub(), house.device()
    hub.peer.subscribe((client.topic("#"), 1))
    for number in range(500):
        client.peer.send(house.wire.publish(client.topic("event", "e"), str(number).encode(), 1, number + 1))
    assert [int(hub.peer.message().payload) for _ in range(500)] == list(range(500))


def test_what_was_not_acknowledged_comes_again_in_order(house: House) -> None:
    hub, client = house.hub(), house.device(clean=False)
    client.peer.subscribe((client.topic("cmd", "#"), 1))
    for number in range(50):
        hub.peer.publish(client.topic("cmd", "ping", str(number)), str(number).encode(), 1, number + 1)
    first = [client.peer.receive() for _ in range(32)]
    assert client.peer.silent(0.1), "the window is 32"
    for got in (first[0], first[2]):
        client.peer.send(b"\x40\x02" + got.packet_id.to_bytes(2, "big"))
    more = [client.peer.receive() for _ in range(2)]
    assert [got.payload for got in more] == [b"32", b"33"]
    client.peer.close()
    hub.peer.publish(client.topic("cmd", "ping", "50"), b"50", 1, 99)
    again = house.again(client.handle, client.token, clean=False)
    assert again.session_present
    got = [again.peer.message() for _ in range(49)]
    assert [int(message.payload) for message in got] == [1, *range(3, 51)]
    assert [message.dup for message in got] == [True] * 32 + [False] * 17
    assert [message.packet_id for message in got[:2]] == [first[1].packet_id, first[3].packet_id]
    assert again.peer.silent()


def test_an_interrupted_qos_2_is_finished(house: House) -> None:
    hub, client = house.hub(), house.device(clean=False)
    client.peer.subscribe((client.topic("cmd", "#"), 2))
    hub.peer.send(house.wire.publish(client.topic("cmd", "ping", "1"), b"a", 2, 1))
    hub.peer.send(house.wire.publish(client.topic("cmd", "ping", "2"), b"b", 2, 2))
    first, second = client.peer.receive(), client.peer.receive()
    client.peer.send(b"\x50\x02" + first.packet_id.to_bytes(2, "big"))
    assert client.peer.receive().kind == 6
    client.peer.close()
    again = house.again(client.handle, client.token, clean=False)
    released, repeated = again.peer.receive(), again.peer.receive()
    assert (released.kind, released.packet_id) == (6, first.packet_id)
    assert (repeated.kind, repeated.dup, repeated.qos, repeated.packet_id) == (3, True, 2, second.packet_id)


def test_a_clean_session_forgets(house: House) -> None:
    hub, client = house.hub(), house.device(clean=False)
    client.peer.subscribe((client.topic("cmd", "#"), 1))
    client.peer.disconnect()
    hub.peer.publish(client.topic("cmd", "ping", "1"), b"x", 1)
    fresh = house.again(client.handle, client.token, clean=True)
    assert not fresh.session_present
    assert fresh.peer.silent()
    fresh.peer.disconnect()
    assert not house.again(client.handle, client.token, clean=False).session_present


def test_what_waits_for_an_absent_client_is_bounded_and_counted(house: House) -> None:
    hub, client = house.hub(), house.device(clean=False)
    client.peer.subscribe((client.topic("cmd", "#"), 1))
    client.peer.disconnect()
    for number in range(1_100):
        hub.peer.send(house.wire.publish(client.topic("cmd", "x", "1"), str(number).encode(), 1, number + 1))
        hub.peer.send(house.wire.publish(client.topic("cmd", "x", "1"), b"qos 0 is not kept"))
    for _ in range(1_100):
        assert hub.peer.receive().kind == 4
    again = house.again(client.handle, client.token, clean=False)
    assert [int(again.peer.message().payload) for _ in range(1_000)] == list(range(1_000))
    assert again.peer.silent()
    again.peer.disconnect()
    house.again(client.handle, client.token, clean=True)
    assert '"dropped": 100' in house.broker.log()


def test_the_hubs_session_keeps_everything_while_it_is_away(own_house: House) -> None:
    house = own_house
    hub = house.hub(clean=False)
    hub.peer.subscribe(("marvain/v1/d/+/#", 1))
    hub.peer.disconnect()
    client = house.device()
    wanted = 30_000
    for start in range(0, wanted, 500):
        client.peer.send(
            b"".join(
                house.wire.publish(client.topic("event", "e"), str(number).encode(), 1, number % 60_000 + 1)
                for number in range(start, start + 500)
            )
        )
        for _ in range(500):
            assert client.peer.receive().kind == 4
    hub = house.hub(clean=False)
    assert hub.session_present
    window = [hub.peer.receive() for _ in range(4_000)]
    assert hub.peer.silent(0.1), "the hub's window is 4,000"
    hub.peer.send(b"".join(b"\x40\x02" + got.packet_id.to_bytes(2, "big") for got in window[:500]))
    window += [hub.peer.receive() for _ in range(500)]
    # Gone before it acknowledged: what it had is sent again, first and in order.
    hub.peer.close()
    hub = house.hub(clean=False)
    got = [hub.peer.message() for _ in range(wanted - 500)]
    assert [int(message.payload) for message in got] == list(range(500, wanted))
    assert [message.dup for message in got[:4_001]] == [True] * 4_000 + [False]


def test_a_kicked_client_is_told_and_may_come_back_to_its_session(house: House) -> None:
    hub, client = house.hub(), house.device(clean=False)
    client.peer.subscribe((client.topic("denied"), 0), (client.topic("cmd", "#"), 1))
    client.peer.publish(client.topic("state"), b"here", 1, retain=True)
    with house.database.transaction() as session:
        house.changes.announce(session, client.handle, "kicked", "go and come again")
    assert b"go and come again" in client.peer.message(1.0).payload
    assert client.peer.closed(1.0)
    hub.peer.publish(client.topic("cmd", "x", "1"), b"waited", 1)
    again = house.again(client.handle, client.token, clean=False)
    assert again.session_present
    assert again.peer.message().payload == b"waited"
    hub.peer.subscribe((client.topic("state"), 0))
    assert hub.peer.message().payload == b"here"


def test_a_devices_retained_bytes_are_bounded(house: House) -> None:
    client = house.device()
    client.peer.subscribe((client.topic("denied"), 0))
    large = b"x" * 200_000
    for number in range(5):
        client.peer.publish(client.topic("event", f"e{number}"), large, 1, retain=True)
    client.peer.publish(client.topic("event", "e4"), large, 1, retain=True)
    client.peer.send(house.wire.publish(client.topic("event", "e5"), large, 0, retain=True))
    assert b"bytes in retained messages" in client.peer.message().payload
    client.peer.publish(client.topic("event", "e0"), b"", 1, retain=True)
    client.peer.publish(client.topic("event", "e5"), large, 1, retain=True)
