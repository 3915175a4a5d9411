"""Faults: a full disk, a power cut in a write, a wrong clock, a hub that is away: nothing that was taken is lost."""

import contextlib
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from hub_protocol.messages import Command, Event, Reply
from satellite_agent import control
from satellite_agent.clock import Clock
from satellite_agent.commands import Commands
from satellite_agent.database import open_database
from satellite_agent.outbox import Outbox, OutboxError
from satellite_agent.reserve import Reserve
from satellite_agent.samples import Samples
from satellite_agent.undated import Undated
from satellite_agent.verbs.ping import VERB
from satellite_agent.verbs.table import Table

NOW = datetime(2026, 3, 4, 12, tzinfo=UTC)

# Says each number once it has been taken, and is killed at any moment of that.
PRODUCER = """
import pathlib, sys
from datetime import UTC, datetime
from satellite_agent.database import open_database
from satellite_agent.outbox import Outbox
from satellite_agent.samples import Samples
outbox = Outbox(open_database(pathlib.Path(sys.argv[1]), "porch"))
samples = Samples(outbox._db)
for number in range(int(sys.argv[2]), 10**9):
    outbox.add_event("count", {"n": number}, at=datetime.now(UTC))
    print(number, flush=True)
    samples.add("t", float(number), datetime.now(UTC))
    if number % 3 == 0:  # as a receipt would do
        outbox.drop([outbox.after("event", 0, 1)[0].id])
"""


def numbers(outbox: Outbox) -> list[int]:
    return [json.loads(row.body)["payload"]["n"] for row in outbox.after("event", 0, 1_000_000)]


@pytest.fixture
def small_disk(tmp_path):
    """A file system of two megabytes, and its database; the mount needs root."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = (
        os.geteuid() == 0
        and not subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], capture_output=True, check=False
        ).returncode
    )
    if not mounted:
        pytest.skip("no small file system can be mounted here")
    with contextlib.closing(open_database(folder / "satellite.db", "porch")) as db:
        yield db
    subprocess.run(["umount", folder], check=True)


@pytest.fixture(params=["the disk", "a bound in SQLite"])
def full(request, tmp_path):
    """A database that takes about a megabyte."""
    if request.param == "the disk":
        yield request.getfixturevalue("small_disk")
        return
    with contextlib.closing(open_database(tmp_path / "satellite.db", "porch")) as db:
        db.execute("PRAGMA max_page_count = 250")
        db.execute("PRAGMA synchronous = OFF")  # the bound is meant, not the disk's pace
        yield db


def stores(db, *, filled=False):
    """Samples and outbox of this database, whose room samples have taken to the last byte if it is `filled`."""
    reserve = Reserve(db)
    assert reserve.keep()
    if filled:
        with contextlib.suppress(sqlite3.OperationalError):
            for number in range(1_000_000):
                db.execute("INSERT INTO sample (stream, at_us, value) VALUES ('t', ?, ?)", (number, float(number)))
    samples = Samples(db, reserve=reserve)
    return samples, Outbox(db, relieve=samples.shed, reserve=reserve)


def fill(add):
    """Add until nothing more is taken; returns what was."""
    taken = []
    with contextlib.suppress(OutboxError):
        for number in range(100_000):
            add(number)
            taken.append(number)
    assert len(taken) < 100_000
    return taken


# --- a full disk ------------------------------------------------------------------------------------------------------


def test_events_are_refused_to_who_gives_them_and_those_taken_stay(full):
    _, outbox = stores(full)
    taken = fill(lambda number: outbox.add_event("count", {"n": number, "x": "x" * 500}, at=NOW))
    with pytest.raises(OutboxError, match="cannot be written"):
        outbox.add_event("count", {"n": -1, "x": "x" * 500}, at=NOW)
    assert len(taken) > 100
    assert numbers(outbox) == taken
    assert outbox.backlog == len(taken)
    outbox.drop([row.id for row in outbox.after("event", 0, len(taken) // 2)])
    outbox.add_event("count", {"n": 10_000}, at=NOW)
    assert numbers(outbox)[-1] == 10_000


def test_the_oldest_samples_make_room_for_events(full):
    samples, outbox = stores(full, filled=True)
    before = samples.backlog
    newest = float(full.execute("SELECT value FROM sample ORDER BY seq DESC LIMIT 1").fetchone()[0])
    for number in range(300):
        outbox.add_event("count", {"n": number, "x": "x" * 1000}, at=NOW)
    assert numbers(outbox) == list(range(300))
    left = [row[0] for row in full.execute("SELECT value FROM sample ORDER BY seq")]
    assert samples.backlog == len(left)
    assert left == [newest - len(left) + 1 + place for place in range(len(left))]  # without a gap, up to the newest
    assert len(left) < before


def test_a_new_sample_takes_the_place_of_old_ones(full):
    samples, _ = stores(full, filled=True)
    first, count = 1_000_000, 5_000
    for number in range(first, first + count):
        samples.add("t", float(number), NOW + timedelta(seconds=number))
    kept = [row[0] for row in full.execute("SELECT value FROM sample ORDER BY seq")]
    assert kept[-count:] == [float(number) for number in range(first, first + count)]
    assert samples.backlog == len(kept)


async def test_a_command_on_a_full_disk_is_answered_at_the_cost_of_samples(full):
    _, outbox = stores(full, filled=True)
    clock = Clock()
    clock.learn(datetime.now(UTC))
    commands = Commands(full, outbox, Table([VERB]), clock, lambda: None)
    assert commands._finish("c1", "ping", Reply("succeeded", epoch=1), Command(datetime.now(UTC)))
    assert outbox.replies_to("c1") == ["c1:succeeded"]


# --- a power cut ------------------------------------------------------------------------------------------------------


def test_what_was_taken_outlives_being_killed_at_any_moment(tmp_path):
    path, last, dropped = tmp_path / "satellite.db", 0, 0
    for _ in range(8):
        process = subprocess.Popen(
            [sys.executable, "-c", PRODUCER, path, str(last + 1)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        first = process.stdout.readline()  # it runs
        time.sleep(random.uniform(0, 0.15))
        process.send_signal(signal.SIGKILL)
        said = [int(line) for line in (first + process.stdout.read()).splitlines(keepends=True) if line.endswith("\n")]
        process.wait()
        process.stdout.close()
        last = said[-1]
        with contextlib.closing(open_database(path, "porch")) as db:
            assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            outbox = Outbox(db)
            kept = numbers(outbox)
            assert outbox.backlog == len(kept)
            # All that was said to be taken, in order, each once; of what was not said, one at most.
            dropped = kept[0]
            assert kept == list(range(dropped, kept[-1] + 1))
            assert kept[-1] in (last, last + 1)
            last = kept[-1]
    assert dropped > 1


# --- a wrong clock, a hub that is away --------------------------------------------------------------------------------


def test_events_bear_the_hubs_time_when_this_clock_is_a_day_wrong(start, hub, cli):
    hub.clock_offset = timedelta(days=-1)
    start().wait_log("ahead of the hub's")
    assert cli("send", "door_open").returncode == 0
    [event] = hub.wait_for("event")
    assert abs(event.at - (datetime.now(UTC) - timedelta(days=1))) < timedelta(minutes=1)


def test_what_was_written_before_the_hub_answered_is_dated_by_its_time(start, hub, broker, state_dir):
    """A machine without a clock of its own starts while the hub is away, a day wrong."""
    hub.clock_offset = timedelta(days=2)
    broker.stop()
    start().wait_log("not connected")
    path = state_dir / "control.sock"
    for request in (
        {"do": "send", "type": "door_open", "payload": {}, "timeout_s": 0.001},
        {"do": "telemetry", "stream": "t", "value": 21.5},
    ):
        assert control.ask(path, request, 10)["ok"]
    written = datetime.now(UTC)
    broker.start()
    [event], [sample] = hub.wait_for("event"), hub.wait_for("telemetry")
    for at in (event.at, sample.at):
        assert abs(at - written - hub.clock_offset) < timedelta(seconds=5)


@pytest.mark.parametrize("ahead", [timedelta(days=1), timedelta(days=-3000), timedelta(seconds=1)])
def test_only_what_says_another_time_is_dated_anew_and_only_once(tmp_path, ahead):
    with contextlib.closing(open_database(tmp_path / "satellite.db", "porch")) as db:
        outbox, samples, clock = Outbox(db), Samples(db), Clock()
        undated, said = Undated(clock, outbox, samples), datetime.now(UTC)
        event_id = outbox.add_event("x", {"n": 1}, at=said)
        undated.note("event", outbox.seq_of(event_id), said)
        undated.note("sample", samples.add("t", 1.0, said), said)
        undated.note("sample", 999, said)  # gone since
        clock.learn(said - ahead)
        undated.date()
        [row] = outbox.after("event", 0, 9)
        expected = said if abs(ahead) < timedelta(seconds=2) else said - ahead
        dated = msgspec.json.decode(row.body, type=Event).at
        assert dated is not None
        assert abs(dated - expected) < timedelta(seconds=1)
        [[at_us]] = db.execute("SELECT at_us FROM sample").fetchall()
        assert abs(at_us / 1e6 - expected.timestamp()) < 1
        assert outbox._bytes == len(row.body)
        undated.note("event", row.seq, said)
        undated.date()
        assert outbox.after("event", 0, 9) == [row]


def test_what_is_given_while_the_hub_is_away_comes_whole_in_order_and_once(start, hub, broker, state_dir):
    """The broker goes, the satellite is killed twice, and whatever it took arrives; repeats bear the same id."""
    broker.stop()
    taken = []
    for part in range(3):
        satellite = start()
        path = state_dir / "control.sock"
        satellite.wait_log("not connected")
        for number in range(part * 100, part * 100 + 100):
            request = {"do": "send", "type": "count", "payload": {"n": number}, "timeout_s": 0.001}
            answer = control.ask(path, request, 10)
            taken.append((answer["sent"]["id"], number))
        if part < 2:
            satellite.process.kill()
            satellite.wait_exit()
    broker.start()
    hub.wait(lambda: len({event.id for event in hub.of("event")}) == 300, "all events")
    seen = {}
    for event in hub.of("event"):
        seen.setdefault(event.id, event)
    assert [(event.id, event.payload["n"]) for event in seen.values()] == taken
    places = [event.seq for event in seen.values()]
    assert places == sorted(places)
