"""What was acknowledged is there after kill -9, a torn write, a full disk; what is corrupt is set aside, not lost."""

import asyncio
import contextlib
import resource
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from broker.embedded.journal import Journal, StoreUnavailable

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
