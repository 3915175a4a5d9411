"""A broker in memory, pressed by its clients, database and disk: nothing grows, comes twice, or is forgotten."""

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from bench.fuzz_clients import Client, connect, packet, publish, string
from bench.fuzz_play import ROOT, Table
from broker.embedded.admission import Admitted, Rejected
from broker.embedded.authority import DatabaseAuthority
from broker.embedded.broker import Broker
from broker.embedded.limits import LIMITS
from broker.embedded.message import Message
from broker.embedded.refusals import Refusals
from broker.embedded.reporter import MOST_TOPICS, Reporter
from broker.embedded.retained import Retained
from broker.embedded.routing import MAX_ROUTED_LEVELS, Router
from broker.embedded.store import Store
from hub import devices
from hub.access.changes import Change
from hub.database import Database
from hub.tables import Agent


class Yard:
    """A broker whose principals are those of a table, and its clients."""

    def __init__(self, table: Table, folder: Path | None = None) -> None:
        self.store = Store.open(folder) if folder else None
        self.broker = Broker(table, Refusals(None, None), ROOT, store=self.store)  # type: ignore[arg-type]
        self.clients: list[Client] = []

    async def client(self, name: str, *subscriptions: tuple[str, int], clean: bool = True) -> Client:
        client = Client(self.broker, 0)
        client.name = name
        self.clients.append(client)
        client.unsent += connect(name, clean=clean)
        if subscriptions:
            client.unsent += packet(0x82, b"\0\1" + b"".join(string(one) + bytes([qos]) for one, qos in subscriptions))
        await self.until(lambda: client.heard.packets > bool(subscriptions))
        return client

    async def until(self, true: Callable[[], object]) -> None:
        async with asyncio.timeout(5):
            while not true():
                await asyncio.sleep(0.001)
                for client in self.clients:
                    client.hear()
                    client.feed()

    async def close(self) -> None:
        for client in self.clients:
            client.lose()
        await self.broker.close()

    async def say(self, client: Client, data: bytes) -> None:
        """Send, and let what follows from it happen."""
        client.unsent += data
        await self.until(lambda: not client.unsent)
        await asyncio.sleep(0.01)
        await self.until(lambda: True)


def payloads(client: Client) -> list[bytes]:
    client.hear()
    return [got.payload for got in client.heard.messages]


# --- retained messages ----------------------------------------------------------------------------------------------


def test_what_changed_is_remembered_up_to_a_bound_and_then_that_everything_may_have() -> None:
    retained = Retained()
    for number in range(30_000):
        topic = f"s/{number}"
        retained.store(topic, Message(topic.encode(), b"x", 0, retain=True), "alpha", LIMITS["device"])
        retained.delete(topic)
    assert len(retained._changed) <= 20_000
    assert retained.overlooked
    retained.forget_changed()
    assert not retained.overlooked
    assert retained.take_changed(10) == []


async def test_topics_that_come_and_go_too_fast_are_reported_all_together_and_not_all_the_time() -> None:
    yard = Yard(Table())
    held = yard.broker.exchange.retained
    reporter = Reporter(yard.broker, None, None, dict)  # type: ignore[arg-type]
    assert (await reporter._look(False)).full
    reporter._retained_at = float("-inf")
    for rushing in (True, False):
        for number in range(25_000):
            topic = f"s/{number}"
            held.store(topic, Message(topic.encode(), b"x", 0, retain=True), "alpha", LIMITS["device"])
            if number > 2:
                held.delete(topic)
        report = await reporter._look(False)
        assert (report.full, report.all_retained) == (False, rushing)
        if rushing:
            assert {topic for topic, _, _ in report.retained} == {"s/0", "s/1", "s/2"}
            assert not report.deleted
        else:
            assert len(report.deleted) + len(report.retained) <= MOST_TOPICS
    await yard.close()


def test_deleting_what_one_retained_does_not_look_at_what_others_did() -> None:
    retained = Retained()
    for number in range(20_000):
        topic = f"s/{number}"
        retained.store(topic, Message(topic.encode(), b"x", 0, retain=True), f"d{number}", LIMITS["device"])
    began = time.monotonic()
    for number in range(2_000):
        assert retained.delete_of(f"d{number}") == [f"s/{number}"]
    assert time.monotonic() - began < 2


async def retain_by(yard: Yard, name: str) -> None:
    await yard.say(await yard.client(name), publish(f"s/{name}", b"kept", 0, 0, retain=True))


def retained(yard: Yard) -> set[str]:
    return {topic for topic, _ in yard.broker.exchange.retained.match("#")}


async def test_what_the_revoked_retained_is_gone_after_a_restart_and_the_rest_is_not(tmp_path: Path) -> None:
    table = Table()
    yard = Yard(table, tmp_path)
    for name in ("alpha", "beta", "gamma"):
        await retain_by(yard, name)
    await yard.close()
    table.present["alpha"] = False
    yard = Yard(table, tmp_path)
    await yard.broker.exchange.ready.wait()
    assert retained(yard) == {"s/beta", "s/gamma"}
    # The same when a broker that runs may have missed the news.
    table.present["beta"] = False
    yard.broker.review_all()
    await yard.until(lambda: retained(yard) == {"s/gamma"})
    await yard.close()
    yard = Yard(table, tmp_path)
    assert retained(yard) == {"s/gamma"}
    await yard.close()


# --- changes --------------------------------------------------------------------------------------------------------


class Stumbling(Table):
    """Raises what nobody foresaw, a few times."""

    def __init__(self, stumbles: int) -> None:
        super().__init__()
        self.stumbles = stumbles

    async def review_many(self, asked: Sequence[tuple[str, UUID]]) -> dict[str, Admitted | Rejected]:
        if self.stumbles:
            self.stumbles -= 1
            raise RuntimeError("an error of the tests")
        return await super().review_many(list(asked))


async def test_a_change_is_not_forgotten_when_looking_at_it_fails() -> None:
    table = Stumbling(1)
    yard = Yard(table)
    await yard.client("alpha", ("n/#", 0))
    table.wide["alpha"] = False
    yard.broker.changed(Change("alpha", "changed"))
    session = yard.broker.exchange.sessions["alpha"]
    await yard.until(lambda: "n/#" not in session.subscriptions)
    await yard.close()


class Tattling(ThreadPoolExecutor):
    """Has something happen after an answer is there, and before whoever asked goes on."""

    def __init__(self, happen: Callable[[], None]) -> None:
        super().__init__(1)
        self._loop = asyncio.get_running_loop()
        self._happen = happen

    def submit(self, *work: Any, **more: Any) -> Any:
        answer = super().submit(*work, **more)
        answer.add_done_callback(lambda _: self._loop.call_soon_threadsafe(self._loop.call_soon, self._happen))
        return answer


async def test_news_between_the_verdict_and_the_session_are_not_lost(database_url: str) -> None:
    database = Database(database_url, application_name="marvain tests")
    with database.transaction() as session:
        agent = Agent(name="Home")
        session.add(agent)
        new = devices.add(session, agent.agent_id, "lamp", scopes=[], by="tests", handle="lamp")
    told: list[Change] = []

    def revoke() -> None:
        if not told:
            change = Change("lamp", "revoked")
            with database.transaction() as session:
                devices.revoke(session, devices.by_handle(session, "lamp"), by="tests", reason="stolen")
            told.append(change)
            authority._tell("lamp", lambda _: None, change)

    with Tattling(revoke) as executor:
        authority = DatabaseAuthority(database, executor, ROOT)
        await asyncio.to_thread(authority.start, lambda _: None, lambda: None)
        assert isinstance(await authority.admit("lamp", new.token), Rejected)
        assert told
        await authority.close()
    database.close()


async def test_who_is_sent_away_leaves_his_messages_to_another_member_once() -> None:
    yard = Yard(Table())
    alpha = await yard.client("alpha", ("$share/g/h/#", 1))
    beta = await yard.client("beta", ("$share/g/h/#", 1))
    gamma = await yard.client("gamma")
    for number in range(4):
        await yard.say(gamma, publish("h/a", b"%d" % number, 1, 1))
    assert len(payloads(alpha)) == len(payloads(beta)) == 2
    yard.broker.changed(Change("alpha", "revoked"))
    await asyncio.sleep(0.01)
    assert sorted(payloads(beta)) == [b"0", b"1", b"2", b"3"]
    await yard.close()


class Narrowing(Table):
    """Alpha may lose its part in the group."""

    def principal(self, name: str):  # type: ignore[no-untyped-def]
        principal = super().principal(name)
        if name == "alpha" and not self.wide[name]:
            grants = tuple(grant for grant in principal.grants if grant.filter != "h/#")
            return type(principal)(principal.username, principal.kind, grants, principal.root)
        return principal


async def test_who_may_no_longer_read_leaves_his_messages_to_another_member() -> None:
    table = Narrowing()
    yard = Yard(table)
    alpha = await yard.client("alpha", ("$share/g/h/#", 1))
    beta = await yard.client("beta", ("$share/g/h/#", 1))
    gamma = await yard.client("gamma")
    for number in range(4):
        await yard.say(gamma, publish("h/a", b"%d" % number, 1, 1))
    table.wide["alpha"] = False
    yard.broker.changed(Change("alpha", "changed"))
    await yard.until(lambda: sorted(payloads(beta)) == [b"0", b"1", b"2", b"3"])
    assert not alpha.pipe.said_end
    await yard.close()


# --- bounds ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [0x40, 0x50, 0x62, 0x70])
async def test_an_acknowledgement_of_identifier_0_ends_the_connection(first: int) -> None:
    yard = Yard(Table())
    alpha = await yard.client("alpha")
    await yard.say(alpha, packet(first, b"\0\0"))
    assert alpha.pipe.said_end
    await yard.close()


async def test_who_never_releases_what_it_published_is_sent_away() -> None:
    yard = Yard(Table())
    alpha = await yard.client("alpha")
    most = LIMITS["device"].incoming
    await yard.say(alpha, b"".join(publish("s/a", b"x", 2, number) for number in range(1, most + 1)))
    assert not alpha.pipe.said_end
    assert len(yard.broker.exchange.sessions["alpha"].incoming) == most
    await yard.say(alpha, publish("s/a", b"x", 2, most))
    assert not alpha.pipe.said_end, "a repeat takes no room"
    await yard.say(alpha, publish("s/a", b"x", 2, most + 1))
    assert alpha.pipe.said_end
    await yard.close()


def test_routes_of_deep_topics_take_no_more_room_than_others() -> None:
    router = Router()
    for number in range(4_000):
        router.route(f"{number}" + "/a" * 126)
    assert 0 < len(router._routes) < MAX_ROUTED_LEVELS / 127
    router.forget_all()
    assert router._levels == 0


async def test_a_disk_that_hangs_stops_those_who_wait_for_it_and_takes_no_memory(tmp_path: Path) -> None:
    yard = Yard(Table(), tmp_path)
    keeper = await yard.client("alpha", ("s/#", 1), clean=False)
    flood = await yard.client("beta")
    go_on = threading.Event()
    assert yard.store is not None
    yard.store.journal._writer.submit(go_on.wait)
    try:
        await yard.say(flood, publish("s/a", b"first", 1, 1))
        for _ in range(40):
            flood.unsent += b"\xc0\0" * 5_000
            flood.feed()
            await asyncio.sleep(0)
        assert not flood.pipe.reading, "its answers wait for the disk, and so must it"
        link = yard.broker.exchange.connected["beta"]
        assert link.out_bytes < 100_000
        assert not payloads(keeper)
    finally:
        go_on.set()
    await yard.until(lambda: flood.heard.packets >= 1 + 1 + 200_000)
    await yard.until(lambda: payloads(keeper) == [b"first"])
    await yard.close()
