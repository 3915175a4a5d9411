"""Samples: refused first; then taken by the running satellite, kept while it is away, and sent by the stream."""

import json
import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta

import pytest

from hub_protocol.catalogue import decode
from hub_protocol.errors import ProtocolError
from satellite_agent.database import open_database
from satellite_agent.samples import MAX_AGE, Samples, wire

NOW = datetime(2026, 3, 4, 12, tzinfo=UTC)


@pytest.fixture
def db():
    with closing(open_database(None, "porch")) as db:
        yield db


@pytest.mark.parametrize(
    ("stream", "value"), [("a b", 1.0), ("", 1.0), ("t", float("nan")), ("t", float("inf")), ("t", 1e301)]
)
def test_a_bad_sample_is_not_kept(db, stream, value):
    samples = Samples(db)
    with pytest.raises(ProtocolError):
        samples.add(stream, value, NOW)
    assert samples.backlog == 0


def test_samples_go_by_stream_and_stay_until_dropped(db):
    samples = Samples(db)
    for number in range(3):
        samples.add("t", float(number), NOW + timedelta(seconds=number, microseconds=1))
    samples.add("h", 50.0, NOW)
    taken = samples.take(NOW)
    assert {stream: [one.value for _, one in rows] for stream, rows in taken.items()} == {"t": [0, 1, 2], "h": [50]}
    assert taken["t"][2][1].at == NOW + timedelta(seconds=2, microseconds=1)
    assert samples.take(NOW) == taken
    samples.drop(seq for seq, _ in taken["t"])
    assert (samples.backlog, list(samples.take(NOW))) == (1, ["h"])
    assert Samples(db).backlog == 1


def test_the_oldest_go_when_there_are_too_many_or_they_are_too_old(db):
    samples = Samples(db, max_rows=3)
    for number in range(5):
        samples.add("t", float(number), NOW + timedelta(seconds=number))
    assert [one.value for _, one in samples.take(NOW)["t"]] == [2, 3, 4]
    later = NOW + MAX_AGE + timedelta(seconds=3.5)
    assert [one.value for _, one in samples.take(later)["t"]] == [4]
    assert samples.backlog == 1


def test_the_payload_is_a_sample_or_several(db):
    samples = Samples(db)
    samples.add("t", 1.0, NOW)
    one = [sample for _, sample in samples.take(NOW)["t"]]
    assert decode("telemetry", wire(one)) == one[0]
    assert decode("telemetry", wire(one * 500)) == one * 500


def test_a_file_of_the_format_before_gets_room_for_samples(tmp_path):
    path = tmp_path / "satellite.db"
    open_database(path, "porch").close()
    with closing(sqlite3.connect(path)) as old:
        old.executescript("DROP TABLE sample; ALTER TABLE command DROP COLUMN expires_at; PRAGMA user_version = 1;")
    with closing(open_database(path, "porch")) as db:
        Samples(db).add("t", 1.0, NOW)


@pytest.mark.parametrize(
    ("arguments", "says"), [(["a b", "1"], "stream: 1 to 63"), (["t", "nan"], "value"), (["t", "1e301"], "<= 1e+300")]
)
def test_the_command_line_names_what_is_wrong(start, hub, cli, arguments, says):
    start().wait_log("hub answered")
    done = cli("telemetry", *arguments)
    assert (done.returncode, says in done.stderr) == (2, True), done.stderr


def test_without_a_running_satellite_nothing_is_taken(cli):
    done = cli("telemetry", "temperature", "21.5")
    assert done.returncode == 69
    assert "no satellite runs" in done.stderr


def test_samples_reach_the_hub_and_those_of_an_absent_broker_follow(start, hub, cli, broker):
    satellite = start()
    satellite.wait_log("hub answered")
    assert cli("telemetry", "temperature", "-21.5").returncode == 0
    [first] = hub.wait_for("telemetry")
    assert first.value == -21.5
    broker.stop()
    satellite.wait_log("not connected")
    for value in ("1", "2"):
        assert cli("telemetry", "temperature", value).returncode == 0
    assert json.loads(cli("status", "--json").stdout)["samples"] == 2
    broker.start()
    both = hub.wait_for("telemetry", lambda message: isinstance(message, list))[0]
    assert [one.value for one in both] == [1.0, 2.0]
    assert both[0].at < both[1].at
