"""`$SYS/broker/…`: who may read the broker's figures, that nobody else writes them, and that they are right."""

import asyncio
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from sqlalchemy import text

from broker.embedded.admission import Admitted, Rejected
from broker.embedded.broker import Broker
from broker.embedded.refusals import Refusals
from broker.embedded.session import Session
from broker.embedded.system import System
from broker.embedded.trees import FilterTree
from hub.access.principals import hub_principal

House = Any  # tests/broker/conftest.py


def grant(house: House, handle: str, action: str, topic_filter: str) -> None:
    """A role with one permission, borne by this device."""
    with house.database.transaction() as session:
        role_id = session.execute(
            text("INSERT INTO roles (agent_id, name) VALUES (:agent, :name) RETURNING role_id"),
            {"agent": house.agent.agent_id, "name": f"{handle} {action}"},
        ).scalar_one()
        session.execute(
            text("INSERT INTO role_grants (role_id, action, filter) VALUES (:role, :action, :filter)"),
            {"role": role_id, "action": action, "filter": topic_filter},
        )
        session.execute(
            text(
                "INSERT INTO role_assignments (role_id, agent_id, device_id)"
                " SELECT :role, agent_id, device_id FROM devices WHERE handle = :handle"
            ),
            {"role": role_id, "handle": handle},
        )
        house.changes.announce(session, handle, "changed")


def test_figures_are_for_who_was_granted_them(house: House) -> None:
    hub, client = house.hub(), house.device()
    assert (
        client.peer.subscribe(("$SYS/#", 0), ("$SYS/broker/version", 0), ("#", 0), ("+/broker/version", 0))
        == [0x80] * 4
    )
    client.peer.drain()
    assert hub.peer.subscribe(("$SYS/broker/version", 0)) == [0]
    version = hub.peer.message()
    assert (version.topic, version.retain) == ("$SYS/broker/version", True)
    assert version.payload.startswith(b"marvain version ")

    device, token = house.add()
    grant(house, device.handle, "subscribe", "//$SYS/broker/retained messages/#")
    reader = house.again(device.handle, token)
    assert reader.peer.subscribe(("$SYS/broker/#", 1)) == [0x80]
    assert reader.peer.subscribe(("$SYS/broker/retained messages/#", 1)) == [1]
    topics = set()
    while "$SYS/broker/retained messages/count" not in topics:
        topics.add(reader.peer.message().topic)


@pytest.mark.parametrize("granted", ["", "//$SYS/broker/version"])
def test_nobody_publishes_figures(house: House, granted: str) -> None:
    device, token = house.add()
    if granted:
        # A row that no form of ours would store.
        grant(house, device.handle, "publish", granted)
    client, hub = house.again(device.handle, token), house.hub()
    hub.peer.subscribe(("$SYS/broker/version", 0))
    hub.peer.drain()
    client.peer.publish("$SYS/broker/version", b"forged", 0, retain=True)
    house.denial(device.handle, "")
    hub.peer.publish("$SYS/broker/version", b"forged as well", 0)
    hub.peer.ping()
    assert hub.peer.silent()


def test_a_wildcard_in_front_matches_no_figure() -> None:
    filters: FilterTree[str] = FilterTree()
    for name in ("#", "+/broker/uptime", "$SYS/#", "$SYS/broker/+"):
        filters.add(name, name, 0)
    assert set(filters.match("$SYS/broker/uptime")) == {"$SYS/#", "$SYS/broker/+"}


class Nobody:
    """Admits nobody; the broker's figures need no clients."""

    async def admit(self, username: str, password: str) -> Admitted | Rejected:  # noqa: ARG002
        return Rejected("nobody", 5)

    async def review_many(self, asked: Sequence[tuple[str, uuid.UUID]]) -> dict[str, Admitted | Rejected]:
        return {name: Rejected("nobody", 5) for name, _ in asked}

    async def ended(self, usernames: Sequence[str]) -> list[str] | None:
        return list(usernames)


class Reader:
    """The wire of a session that hears what is published."""

    def __init__(self) -> None:
        self.out_bytes = 0
        self.sent: list[bytes] = []
        self.heard = asyncio.Event()

    def send(self, data: bytes) -> None:
        self.sent.append(data)
        self.heard.set()


@pytest.fixture
def loop() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


def test_figures_change_and_are_published_anew(loop: asyncio.Runner) -> None:
    async def run() -> None:
        broker = Broker(Nobody(), Refusals(None, None), "marvain/v1")
        session, wire = Session(hub_principal("marvain/v1"), uuid.uuid4(), persistent=True), Reader()
        broker.exchange.sessions[session.username] = session
        session.attach(wire)
        broker.exchange.router.subscribe(session, "$SYS/broker/subscriptions/count", 0)
        broker.exchange.router.subscribe(session, "$SYS/broker/clients/+", 0)
        system = System(broker, every_s=0.05)
        system.start()
        figures = {topic: message.payload for topic, message in broker.exchange.figures.match("$SYS/#")}
        assert figures["$SYS/broker/clients/total"] == b"1"
        assert figures["$SYS/broker/clients/connected"] == b"0"
        assert figures["$SYS/broker/subscriptions/count"] == b"2"
        assert figures["$SYS/broker/load/bytes/received/1min"] == b"0.00"
        assert not len(broker.exchange.retained)
        before = len(wire.sent)
        wire.heard.clear()
        broker.exchange.router.subscribe(session, "marvain/v1/#", 0)
        async with asyncio.timeout(5):
            await wire.heard.wait()
        # What is as it was is not said again.
        assert [packet for packet in wire.sent[before:] if b"clients" in packet] == []
        assert wire.sent[-1].endswith(b"$SYS/broker/subscriptions/count3")
        system.close()
        await broker.close()

    loop.run(run())
