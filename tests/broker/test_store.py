"""What was acknowledged is there after kill -9, a torn write, a full disk; what is corrupt is set aside, not lost."""

import asyncio
import contextlib
import resource
import shutil
import signal
import struct
import tempfile
import time
import uuid
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from broker.embedded.journal import Journal, StoreUnavailable
from broker.embedded.store import Store
from hub import devices

House = Any


def nothing() -> None:
    pass


async def written(journal: Journal) -> bool:
    """Write what is pending; whether it is kept."""
    done = asyncio.get_running_loop().create_future()
    journal.write(done.set_result)
    return await done


def run(folder: Path, work: Callable[[Journal], Any], **more: Any) -> Any:
    """Open the journal, do something with it in a loop, close it."""

    async def inside() -> Any:
        journal = Journal(folder, **more)
        journal.start(nothing, nothing)
        result = await work(journal)
        await journal.close()
        return result

    return asyncio.run(inside())


def loaded(folder: Path) -> dict[bytes, bytes]:
    async def look(journal: Journal) -> dict[bytes, bytes]:
        return journal.loaded

    return run(folder, look)


@settings(max_examples=40, stateful_step_count=25, deadline=None)
class JournalBesideADictionary(RuleBasedStateMachine):
    """Whatever is done, the journal holds after a crash what was written, and after a close everything."""

    keys = st.sampled_from([b"a", b"bb", b"c" * 40, b""])

    @initialize(sync=st.sampled_from(["normal", "full"]))
    def begin(self, sync: str) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="journal-"))
        self.sync = sync
        self.loop = asyncio.new_event_loop()
        self.kept: dict[bytes, bytes] = {}
        self.now: dict[bytes, bytes] = {}
        self.generation = 0
        self.open()

    def open(self) -> None:
        async def inside() -> None:
            self.journal = Journal(self.home / str(self.generation), self.sync, segment_bytes=300)
            self.journal.start(nothing, nothing)

        self.loop.run_until_complete(inside())

    @rule(key=keys, value=st.binary(max_size=60), urgent=st.booleans())
    def put(self, key: bytes, value: bytes, urgent: bool = True) -> None:  # noqa: FBT001, FBT002
        self.journal.put(key, value, urgent=urgent)
        self.now[key] = value

    @rule(key=keys)
    def delete(self, key: bytes) -> None:
        self.journal.delete(key)
        self.now.pop(key, None)

    @rule()
    def write(self) -> None:
        assert self.loop.run_until_complete(written(self.journal))
        self.kept = dict(self.now)

    @rule(key=keys, value=st.binary(max_size=60))
    def change_while_it_is_written(self, key: bytes, value: bytes) -> None:
        async def inside() -> None:
            task = asyncio.ensure_future(written(self.journal))
            await asyncio.sleep(0)
            self.kept = dict(self.now)
            if value:
                self.put(key, value, True)
            else:
                self.delete(key)
            assert await task

        self.loop.run_until_complete(inside())

    @rule()
    def rest(self) -> None:
        """Let a cleaning go on."""
        self.loop.run_until_complete(asyncio.sleep(0.002))

    @rule()
    def crash(self) -> None:
        old = self.home / str(self.generation)
        self.generation += 1
        shutil.copytree(old, self.home / str(self.generation))
        self.loop.run_until_complete(self.journal.close())
        self.open()
        assert self.journal.loaded == self.kept
        self.now = dict(self.kept)

    @precondition(lambda self: self.journal.size > 0)
    @rule()
    def close_and_open(self) -> None:
        self.loop.run_until_complete(self.journal.close())
        self.open()
        assert self.journal.loaded == self.now
        self.kept = dict(self.now)

    def teardown(self) -> None:
        if hasattr(self, "loop"):
            self.loop.run_until_complete(self.journal.close())
            self.loop.close()
            shutil.rmtree(self.home)


TestJournalBesideADictionary = JournalBesideADictionary.TestCase


def test_what_is_outdated_does_not_stay_on_disk(tmp_path: Path) -> None:
    async def churn(journal: Journal) -> int:
        journal.put(b"old", b"must survive it all")
        for number in range(3_000):
            journal.put(b"n", number.to_bytes(100, "big"))
            assert await written(journal)
        return journal.size

    assert run(tmp_path, churn, segment_bytes=4_096) < 12 * 4_096
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 12 * 4_096
    assert loaded(tmp_path) == {b"old": b"must survive it all", b"n": (2_999).to_bytes(100, "big")}


def two_frames(folder: Path) -> Path:
    async def write(journal: Journal) -> None:
        for key in (b"first", b"second"):
            journal.put(key, b"x" * 30)
            assert await written(journal)

    run(folder, write)
    (path,) = folder.glob("*.journal")
    return path


def test_a_torn_write_is_cut_off_wherever_it_tore(tmp_path: Path) -> None:
    data = two_frames(tmp_path / "whole").read_bytes()
    half = len(data) // 2
    for length in range(half + 1, len(data)):
        folder = tmp_path / str(length)
        folder.mkdir()
        shutil.copy(tmp_path / "whole" / "mark", folder)
        (folder / f"{0:020d}.journal").write_bytes(data[:length])
        assert list(loaded(folder)) == [b"first"]
        assert (folder / f"{0:020d}.journal").stat().st_size <= half + 1


@pytest.mark.parametrize("at", [0, 5, 9, 20, 40])
def test_a_corrupt_store_is_set_aside_under_a_name_and_a_new_one_begun(
    tmp_path: Path, at: int, capsys: pytest.CaptureFixture[str]
) -> None:
    path = two_frames(tmp_path)
    data = bytearray(path.read_bytes())
    data[at] ^= 0xFF
    path.write_bytes(data)
    assert loaded(tmp_path) == {}
    (aside,) = tmp_path.glob("corrupt-*")
    assert (aside / path.name).read_bytes() == data
    said = capsys.readouterr()
    assert "store.corrupt" in said.out + said.err
    assert aside.name in said.out + said.err


def test_what_a_client_wrote_is_not_taken_for_a_frame_when_a_write_tore(tmp_path: Path) -> None:
    body = struct.pack(">HI", 1, 1) + b"ab"
    lookalike = struct.pack(">4sII", b"\xf5MJ1", len(body), zlib.crc32(body)) + body

    async def write(journal: Journal) -> None:
        for key, value in ((b"first", b"x"), (b"second", lookalike + b"y" * 50)):
            journal.put(key, value)
            assert await written(journal)

    run(tmp_path, write)
    (path,) = tmp_path.glob("*.journal")
    path.write_bytes(path.read_bytes()[:-20])
    assert loaded(tmp_path) == {b"first": b"x"}
    assert not list(tmp_path.glob("corrupt-*"))


def test_without_its_mark_a_journal_is_set_aside_and_not_cut(tmp_path: Path) -> None:
    path = two_frames(tmp_path)
    data = path.read_bytes()
    (tmp_path / "mark").unlink()
    assert loaded(tmp_path) == {}
    (aside,) = tmp_path.glob("corrupt-*")
    assert (aside / path.name).read_bytes() == data
    two_frames(tmp_path)
    assert list(loaded(tmp_path)) == [b"first", b"second"]


def test_cleaning_that_failed_once_is_tried_again(tmp_path: Path) -> None:
    # Only the oldest segment is cleaned, and it is not to be read for a while.
    oldest, hidden = tmp_path / f"{0:020d}.journal", tmp_path / "hidden"

    async def churn(journal: Journal) -> int:
        for number in range(3_000):
            journal.put(b"n", number.to_bytes(100, "big"))
            assert await written(journal)
            if number in {50, 1_000}:
                (oldest if number == 50 else hidden).rename(hidden if number == 50 else oldest)
        return journal.size

    assert run(tmp_path, churn, segment_bytes=4_096) < 12 * 4_096


def test_one_store_is_for_one_broker(tmp_path: Path) -> None:
    async def again(journal: Journal) -> None:
        with pytest.raises(StoreUnavailable, match="in use by another broker"):
            Journal(tmp_path)

    run(tmp_path, again)
    (tmp_path / "file").touch()
    with pytest.raises(StoreUnavailable, match="cannot be used"):
        Journal(tmp_path / "file")


@contextlib.contextmanager
def files_of_at_most(size: int) -> Any:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_what_a_full_disk_refused_is_reported_and_written_later(tmp_path: Path) -> None:
    async def fill(journal: Journal) -> None:
        journal.put(b"first", b"x" * 500)
        assert await written(journal)
        journal.put(b"second", b"y" * 5_000)
        with files_of_at_most(1_000):
            assert not await written(journal)
            assert journal.failing
            assert not journal.holding, "others go on meanwhile"
            journal.put(b"third", b"z")
            assert not await written(journal)
        assert await written(journal)
        assert not journal.failing

    run(tmp_path, fill)
    assert loaded(tmp_path) == {b"first": b"x" * 500, b"second": b"y" * 5_000, b"third": b"z"}


@pytest.fixture(scope="module")
def kept_house(house_with: Callable[..., House], tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """A database and a broker that keeps a store, for the tests of this file alone, which crash it."""
    house = house_with({"MARVAIN_BROKER_STORE": str(tmp_path_factory.mktemp("kept") / "store")})
    yield house
    assert "Traceback" not in house.broker.log(), house.broker.log()


@pytest.fixture
def stored_house(kept_house: House) -> Iterator[House]:
    yield kept_house
    kept_house.hang_up()


def crash(house: House, number: int = signal.SIGKILL) -> None:
    house.broker.stop(number)
    house.hang_up()
    house.broker.start()


def pour(house: House, client: Any, publish: Callable[[int], bytes], until: Callable[[int], object]) -> int:
    """Publish numbered messages, at most 500 unacknowledged, until the broker goes; how many it acknowledged."""
    acknowledged = sent = 0
    with contextlib.suppress(OSError):
        while True:
            if sent - acknowledged < 250:
                client.peer.send(b"".join(publish(number) for number in range(sent, sent + 250)))
                sent += 250
            answer = client.peer.receive()
            if answer is None:
                break
            if answer.kind == 4:
                assert answer.packet_id == acknowledged % 60_000 + 1
                acknowledged += 1
                until(acknowledged)
    return acknowledged


def test_kill_9_in_the_middle_of_a_load_loses_nothing_that_was_acknowledged(stored_house: House) -> None:
    house = stored_house
    house.hub(clean=True).peer.disconnect()
    hub, client = house.hub(clean=False), house.device()
    assert hub.peer.subscribe((client.topic("event", "+"), 1)) == [1]
    topics = [client.topic("event", name) for name in "abc"]

    def publish(number: int) -> bytes:
        topic = topics[number % 3]
        return house.wire.publish(topic, b"%d" % number, 1, number % 60_000 + 1, retain=number % 50 < 3)

    early: list[int] = []

    def until(count: int) -> None:
        if count == 1_000:
            early.extend(int(hub.peer.message().payload) for _ in range(700))
            hub.peer.close()
        elif count == 4_321:
            house.broker.process.kill()

    acknowledged = pour(house, client, publish, until)
    assert acknowledged >= 4_321
    crash(house)
    hub = house.hub(clean=False)
    assert hub.session_present
    late = [int(hub.peer.message().payload)]
    while late[-1] < acknowledged - 1:
        late.append(int(hub.peer.message().payload))
    assert late == list(range(late[0], acknowledged)), "in order and without a gap"
    assert early == list(range(700))
    assert late[0] <= 700
    fresh = house.hub()
    assert not fresh.session_present
    assert fresh.peer.subscribe((client.topic("event", "+"), 0)) == [0]
    retained = {got.topic: int(got.payload) for got in (fresh.peer.message() for _ in range(3)) if got.retain}
    for index, topic in enumerate(topics):
        assert retained[topic] >= max(n for n in range(acknowledged) if n % 3 == index and n % 50 < 3)


def test_what_was_in_flight_comes_again_with_its_identifier_and_what_waited_behind_it(stored_house: House) -> None:
    house = stored_house
    hub, client = house.hub(), house.device(clean=False)
    assert client.peer.subscribe((client.topic("cmd", "#"), 1)) == [1]
    for number in range(50):
        hub.peer.publish(client.topic("cmd", "x", "1"), b"%d" % number, 1, number + 1)
    first = [client.peer.receive() for _ in range(32)]
    for got in (first[0], first[2]):
        client.peer.send(b"\x40\x02" + got.packet_id.to_bytes(2, "big"))
    flying = {int(got.payload): got.packet_id for got in (*first, client.peer.receive(), client.peer.receive())}
    client.peer.ping()
    for _ in range(2):
        # The second time everything comes from a store that was read and written before.
        crash(house)
        again = house.again(client.handle, client.token, clean=False)
        assert again.session_present
        got = [again.peer.receive() for _ in range(32)]
        numbers = [int(packet.payload) for packet in got]
        # That an acknowledgement was forgotten costs a repeat and nothing more.
        assert numbers == sorted(numbers)
        assert [packet.dup for packet in got] == [True] * 32
        assert all(flying[number] == packet.packet_id for number, packet in zip(numbers, got, strict=True))
    again.peer.send(b"".join(puback(packet) for packet in got))
    assert [int(again.peer.message().payload) for _ in range(numbers[-1] + 1, 50)] == list(range(numbers[-1] + 1, 50))


def puback(packet: Any) -> bytes:
    return b"\x40\x02" + packet.packet_id.to_bytes(2, "big")


def test_the_states_of_qos_2_survive_on_both_sides(stored_house: House) -> None:
    house = stored_house
    hub, client = house.hub(clean=False), house.device(clean=False)
    assert client.peer.subscribe((client.topic("cmd", "#"), 2)) == [2]
    publishes = [house.wire.publish(client.topic("cmd", "x", "1"), b"%d" % n, 2, n + 1) for n in range(2)]
    for publish in publishes:
        hub.peer.send(publish)
        assert hub.peer.receive().kind == 5
    first, second = client.peer.receive(), client.peer.receive()
    client.peer.send(b"\x50\x02" + first.packet_id.to_bytes(2, "big"))
    assert client.peer.receive().kind == 6
    crash(house)
    hub, client = (house.again(one.handle, one.token, clean=False) for one in (hub, client))
    released, repeated = client.peer.receive(), client.peer.receive()
    assert (released.kind, released.packet_id) == (6, first.packet_id)
    assert (repeated.kind, repeated.dup, repeated.packet_id) == (3, True, second.packet_id)
    # What the broker took it does not take again, until its sender releases it.
    hub.peer.send(bytes([publishes[0][0] | 8]) + publishes[0][1:])
    assert hub.peer.receive().kind == 5
    hub.peer.send(b"\x62\x02\0\1")
    assert hub.peer.receive().kind == 7
    assert client.peer.silent()
    crash(house)
    hub, client = (house.again(one.handle, one.token, clean=False) for one in (hub, client))
    assert [client.peer.receive().kind for _ in range(2)] == [6, 3]
    hub.peer.send(publishes[0])
    assert hub.peer.receive().kind == 5
    assert client.peer.receive().payload == b"0", "the identifier was free again"


def test_who_may_not_come_back_has_no_session_any_more(stored_house: House) -> None:
    house = stored_house
    kept, revoked, rotated, late, narrowed = (house.device(clean=False) for _ in range(5))
    hub = house.hub(clean=False)
    clients = (kept, revoked, rotated, late, narrowed)
    for client in clients:
        assert client.peer.subscribe((client.topic("cmd", "#"), 1)) == [1]
        client.peer.disconnect()
        hub.peer.publish(client.topic("cmd", "x", "1"), b"x", 1)
        hub.peer.publish(client.topic("presence"), b"y", 1, retain=True)
    hub.peer.publish(kept.topic("presence"), b"", 1, retain=True)
    hub.peer.disconnect()
    house.broker.stop()
    house.hang_up()
    with house.database.transaction() as session:
        devices.revoke(session, devices.by_handle(session, revoked.handle), by="tests", reason="stolen")
        token = devices.rotate(session, devices.by_handle(session, rotated.handle), by="tests")
        devices.by_handle(session, narrowed.handle).scopes = ["presence:write"]
    folder = Path(house.broker.more["MARVAIN_BROKER_STORE"])

    async def age(journal: Journal) -> None:
        store = Store(journal)
        (stored,) = [one for one in store.take_sessions() if one.username == late.handle]
        assert stored.left_at > time.time() - 60
        value = journal_session(stored.number, stored.credential_id, time.time() - 8 * 24 * 3600)
        journal.put(b"S" + late.handle.encode(), value)

    run(folder, age)
    house.broker.start()
    back = house.again(kept.handle, kept.token, clean=False)
    assert back.session_present
    assert back.peer.message().payload == b"x"
    assert back.peer.silent()
    for handle, secret in ((rotated.handle, token), (late.handle, late.token)):
        assert not house.again(handle, secret, clean=False).session_present
    narrow = house.again(narrowed.handle, narrowed.token, clean=False)
    assert narrow.session_present
    assert narrow.peer.silent(), "what it may not read any more is gone"
    log = house.broker.log()
    assert log.count("session.not_restored") == 3
    assert revoked.handle in log
    assert house.hub(clean=False).session_present


def journal_session(number: int, credential_id: uuid.UUID, left_at: float) -> bytes:
    return struct.pack(">Q16sd", number, credential_id.bytes, left_at)


def test_on_a_full_disk_nothing_is_acknowledged_that_is_not_kept(stored_house: House) -> None:
    house = stored_house
    absent, client, plain = house.device(clean=False), house.device(), house.device()
    hub = house.hub()
    absent_topic = absent.topic("cmd", "x", "1")
    assert absent.peer.subscribe((absent.topic("cmd", "#"), 1)) == [1]
    assert plain.peer.subscribe((plain.topic("cmd", "#"), 1)) == [1]
    absent.peer.disconnect()
    process = house.broker.process.pid
    store = Path(house.broker.more["MARVAIN_BROKER_STORE"])
    largest = max(path.stat().st_size for path in (house.broker.log_path, *store.iterdir()))
    resource.prlimit(process, resource.RLIMIT_FSIZE, (largest + 1024**2, resource.RLIM_INFINITY))
    acknowledged = pour(
        house, hub, lambda n: house.wire.publish(absent_topic, b"%5d" % n + b"x" * 5_000, 1, n + 1), lambda _: None
    )
    assert 0 < acknowledged < 1_000
    assert "store.cannot_write" in house.broker.log()
    # Nobody whose session would have to be kept, nothing that would have to be kept; but everything else goes on.
    peer = house.dial()
    assert peer.connect(absent.handle, absent.handle, absent.token, clean=False).body[1] == 3
    hub = house.hub()
    hub.peer.send(house.wire.publish(absent_topic, b"x", 1, 1))
    assert hub.peer.receive() is None
    hub = house.hub()
    hub.peer.send(house.wire.publish(plain.topic("presence"), b"x", 1, 1, retain=True))
    assert hub.peer.receive() is None
    hub = house.hub()
    plain = house.again(plain.handle, plain.token)
    assert plain.peer.subscribe((plain.topic("cmd", "#"), 1)) == [1]
    hub.peer.send(house.wire.publish(absent_topic, b"x"))
    hub.peer.publish(plain.topic("cmd", "x", "1"), b"goes on", 1)
    assert plain.peer.message().payload == b"goes on"
    client.peer.close()
    resource.prlimit(process, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    wait_for(lambda: "store.writes_again" in house.broker.log())
    hub.peer.publish(absent_topic, b"99999 again", 1)
    crash(house)
    back = house.again(absent.handle, absent.token, clean=False)
    numbers = [int(back.peer.message().payload[:5])]
    while numbers[-1] != 99_999:
        numbers.append(int(back.peer.message().payload[:5]))
    assert numbers[:acknowledged] == list(range(acknowledged))


def wait_for(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_broker_that_cannot_bring_back_its_sessions_says_so_and_stops(stored_house: House) -> None:
    house = stored_house
    client = house.device(clean=False)
    house.broker.stop()
    house.hang_up()
    folder = Path(house.broker.more["MARVAIN_BROKER_STORE"])

    async def spoil(journal: Journal) -> None:
        (stored,) = [one for one in Store(journal).take_sessions() if one.username == client.handle]
        journal.put(struct.pack(">cQ", b"F", stored.number) + b"$share/nothing behind it", b"\x01")

    run(folder, spoil)
    with pytest.raises(AssertionError):
        house.broker.start("never said")
    assert house.broker.process.wait(10) != 0
    log = house.broker.log()
    assert "session.cannot_restore" in log
    assert client.handle in log

    # This is the last test of this broker, and its fixture looks for what went wrong elsewhere.
    house.broker.log_path.write_text("")
