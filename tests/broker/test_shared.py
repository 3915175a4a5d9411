"""Shared subscriptions: each message to one member of the group, and to none that may not have it."""

import uuid
from collections import Counter
from typing import Any

import pytest

from hub import integrations

House = Any

# What every integration may hear.
TOPIC = "marvain/v1/hub/status"


def member(house: House, group: str, qos: int = 1, **more: Any) -> Any:
    """An integration of its own that shares TOPIC."""
    with house.database.transaction() as session:
        new = integrations.add(session, house.agent.agent_id, f"Bridge {uuid.uuid4().hex}", by="tests")
        username = f"ext_{new.integration.handle}"
    client = house.again(username, new.token, **more)
    assert client.peer.subscribe((share(group, TOPIC), qos)) == [qos]
    return client


def share(group: str, topic_filter: str = TOPIC) -> str:
    return f"$share/{group}/{topic_filter}"


def publish(house: House, count: int, qos: int = 1) -> None:
    """Numbered messages by the hub."""
    hub = house.hub()
    for number in range(count):
        hub.peer.send(house.wire.publish(TOPIC, str(number).encode(), qos, number + 1))
    hub.peer.drain()
    hub.peer.disconnect()


def received(client: Any, *, acknowledge: bool = True) -> list[int]:
    """The numbers that came so far."""
    client.peer.send(b"\xc0\x00")
    numbers = []
    while (got := client.peer.receive()) is not None and got.kind != 13:
        if got.kind == 3:
            assert not got.retain
            numbers.append(int(got.payload))
            if acknowledge and got.qos == 1:
                client.peer.send(b"\x40\x02" + got.packet_id.to_bytes(2, "big"))
    return numbers


@pytest.mark.parametrize("bad", ["$share/g", "$share//x", "$share/g/", "$share/+/x", "$share/g#/x", "$share/g/a/#/b"])
def test_a_malformed_share_is_refused(house: House, bad: str) -> None:
    assert house.hub().peer.subscribe((bad, 1)) == [0x80]


def test_the_filter_behind_the_group_decides(house: House) -> None:
    client, other = house.device(), house.device()
    for topic_filter, code in (
        (client.topic("cmd", "#"), 1),
        ("marvain/v1/#", 0x80),
        (other.topic("cmd", "#"), 0x80),
        ("#", 0x80),
    ):
        client.peer.send(house.wire.packet(0x82, b"\0\7" + house.wire.string(share("g", topic_filter)) + b"\1"))
        while (answer := client.peer.receive()).kind != 9:
            pass
        assert answer.body[2] == code


@pytest.mark.parametrize("qos", [0, 1])
def test_each_message_goes_to_one_member_of_each_group_in_turn(house: House, qos: int) -> None:
    one, two, three = (member(house, "first") for _ in range(3))
    alone, lower = member(house, "second"), member(house, "third", 0)
    publish(house, 30, qos)
    shares = [received(client) for client in (one, two, three)]
    assert sorted(number for numbers in shares for number in numbers) == list(range(30))
    assert [len(numbers) for numbers in shares] == [10, 10, 10]
    assert all(numbers == sorted(numbers) for numbers in shares)
    assert received(alone) == received(lower) == list(range(30))
    one.peer.unsubscribe(share("first"))
    two.peer.disconnect()
    publish(house, 5, qos)
    assert received(three) == list(range(5))
    assert received(one) == []


def test_nothing_retained_comes_on_subscribing(house: House) -> None:
    hub = house.hub()
    topic = f"marvain/v1/d/{uuid.uuid4().hex}/presence"
    hub.peer.publish(topic, b"x", 1, retain=True)
    assert hub.peer.subscribe((share("g", topic), 1)) == [1]
    assert hub.peer.silent()


def test_an_absent_member_gets_something_only_when_nobody_is_there(house: House) -> None:
    away, here = member(house, "away", clean=False), member(house, "away")
    away.peer.disconnect()
    publish(house, 6)
    assert received(here) == list(range(6))
    here.peer.disconnect()
    publish(house, 4)
    again = house.again(away.handle, away.token, clean=False)
    assert received(again) == list(range(4))


def test_what_a_member_did_not_acknowledge_goes_to_another_one(house: House) -> None:
    leaving, staying = member(house, "left"), member(house, "left")
    publish(house, 20)
    assert len(received(leaving, acknowledge=False)) == 10
    assert len(received(staying)) == 10
    leaving.peer.close()
    assert [staying.peer.message().qos for _ in range(10)] == [1] * 10
    assert staying.peer.silent()


def test_who_may_not_read_it_any_more_is_passed_over(house: House) -> None:
    stays, goes = member(house, "rights"), member(house, "rights")
    with house.database.transaction() as session:
        integration = integrations.by_handle(session, goes.handle)
        integrations.revoke(session, house.agent.agent_id, integration.integration_id, by="tests", reason="over")
    assert goes.peer.closed()
    publish(house, 4)
    assert Counter(received(stays)) == Counter(range(4))
