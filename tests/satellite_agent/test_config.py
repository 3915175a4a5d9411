"""Config at the satellite: refused whole and by name, applied whole, kept over restarts, answered until it is heard."""

import logging
import sqlite3

import pytest

from hub_protocol.messages import Config
from satellite_agent.config import Settable
from satellite_agent.database import open_database
from satellite_agent.verbs import config as verb
from satellite_agent.verbs.table import Table
from satellite_agent.verbs.verb import Job, Verb, VerbError

DEFAULTS = {"heartbeat_s": 15.0, "log_level": "info", "telemetry_s": 60.0, "verbs": []}


@pytest.fixture
def db():
    connection = open_database(None, "porch")
    yield connection
    connection.close()


@pytest.fixture(autouse=True)
def log_level():
    logger = logging.getLogger("satellite_agent")
    before = logger.level
    logger.setLevel("INFO")
    yield
    logger.setLevel(before)


def settable(db: sqlite3.Connection, changes: list | None = None) -> Settable:
    return Settable(db, 15.0, lambda: changes.append(1) if changes is not None else None)


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"heartbeat_s": 0}, "heartbeat_s"),
        ({"heartbeat_s": True}, "heartbeat_s"),
        ({"heartbeat_s": "often"}, "heartbeat_s"),
        ({"heartbeat_s": None}, "heartbeat_s"),
        ({"telemetry_s": 0.1}, "telemetry_s"),
        ({"verbs": "all"}, "verbs"),
        ({"verbs": ["read_file"]}, "verbs"),
        ({"log_level": "loud"}, "log_level"),
        ({"log_level": ["info"]}, "log_level"),
        ({"big": "x" * 9_000, "small": 1}, "big"),
    ],
)
def test_one_bad_value_refuses_all_and_names_it(db, values, key):
    changes = []
    mine = settable(db, changes)
    mine.receive(Config(3, {"colour": "red"} | values))
    owed = mine.owed
    assert owed is not None
    assert (owed.rev, owed.ok, list(owed.refused)) == (3, False, [key])
    assert owed.error.startswith(key)
    assert owed.reported == DEFAULTS
    assert (mine.rev, changes) == (0, [])


def test_what_is_applied_is_in_force_reported_and_kept(db):
    changes = []
    mine = settable(db, changes)
    mine.receive(Config(3, {"heartbeat_s": 20, "log_level": "debug", "lamp.colour": "red"}))
    assert logging.getLogger("satellite_agent").level == logging.DEBUG
    assert (mine.heartbeat_s, mine.rev, changes) == (20, 3, [1])
    logging.getLogger("satellite_agent").setLevel("INFO")  # as a new process begins
    again = settable(db)
    assert (again.heartbeat_s, again.rev) == (20, 3)
    assert logging.getLogger("satellite_agent").level == logging.DEBUG
    assert again.owed is not None
    assert again.owed.reported == DEFAULTS | {"heartbeat_s": 20, "log_level": "debug", "lamp.colour": "red"}
    again.confirmed(2)
    assert again.owed is not None
    again.confirmed(3)
    assert settable(db).owed is None
    again.receive(Config(3, {"heartbeat_s": 20}))  # retained: it comes with every connection
    assert again.owed is None
    again.receive(Config(4, {}))
    assert (again.heartbeat_s, again.values) == (15.0, DEFAULTS)


def test_verbs_are_switched_off_and_on_and_a_closed_one_is_never_opened(db):
    def opening(*names: str) -> tuple[Settable, Table]:
        table = Table([Verb("ping", "low", verb.Args, print)], [Verb(name, "low", verb.Args, print) for name in names])
        return Settable(db, 15.0, lambda: None, verbs=table), table

    mine, table = opening("restart", "say")
    assert mine.values["verbs"] == ["restart", "say"]
    mine.receive(Config(3, {"verbs": ["say"]}))
    assert (mine.values["verbs"], table.find("restart")) == (["say"], None)
    mine.receive(Config(4, {"verbs": ["say", "read_file"]}))
    assert mine.owed is not None
    assert mine.owed.refused == {
        "verbs": "cannot open read_file: only the config file on the device can (restart, say)"
    }
    # The owner has closed `say` since: what the hub wanted is kept, so `restart` does not come back by that.
    _, table = opening("restart")
    assert [one.name for one in table.in_force()] == ["ping"]
    mine.receive(Config(5, {}))
    assert mine.values["verbs"] == ["restart", "say"]


def test_the_verb_changes_some_keys_by_the_same_rules(db):
    mine = settable(db)
    mine.receive(Config(3, {"heartbeat_s": 20, "colour": "red"}))
    command = verb.verb(lambda: mine)
    assert command.run(verb.Args({"colour": None, "mood": "calm"}), Job(5)) == {
        "rev": 3,
        "reported": DEFAULTS | {"heartbeat_s": 20, "mood": "calm"},
    }
    for values in ({"heartbeat_s": 0}, {"Bad Key": 1}):
        with pytest.raises(VerbError, match=next(iter(values))):
            command.run(verb.Args(values), Job(5))
    assert mine.values["heartbeat_s"] == 20


def test_what_another_version_kept_is_left_alone(db):
    db.execute("INSERT INTO about VALUES ('config', '{\"rev\":\"x\"}')")
    assert settable(db).rev == 0


def test_a_full_disk_does_not_stop_it(db):
    mine = settable(db)
    db.execute("CREATE TEMP TRIGGER full BEFORE INSERT ON about BEGIN SELECT RAISE(ABORT, 'disk is full'); END")
    mine.receive(Config(3, {"heartbeat_s": 20}))
    assert mine.heartbeat_s == 20


def test_a_real_satellite_takes_its_config_answers_and_keeps_it_over_a_restart(hub, start):
    hub.heartbeat_s = 0  # whatever the satellite says
    hub.receipts = False
    hub.configure(7, heartbeat_s=2, log_level="debug", colour="red")  # while it is away
    satellite = start()
    first = hub.wait_config(7)
    assert (first.ok, first.reported) == (
        True,
        DEFAULTS | {"heartbeat_s": 2, "log_level": "debug", "colour": "red"},
    )
    hub.wait(lambda: hub.of("hello")[-1].config_rev == 7 and hub.of("hello")[-1].heartbeat_s == 2, "hello with it")
    hub.wait(lambda: len(hub.of("config_reply")) > 1, "the answer again, without a receipt")
    satellite.end()

    before = len(hub.of("config_reply"))
    satellite = start()
    hub.wait(lambda: hub.of("hello")[-1].epoch > first.epoch, "back")
    assert hub.of("hello")[-1].config_rev == 7
    hub.receipts = True
    hub.wait(lambda: len(hub.of("config_reply")) > before, "the answer that was never confirmed")
    hub.configure(8, heartbeat_s=0)
    refused = hub.wait_config(8)
    assert (refused.ok, list(refused.refused), refused.reported["heartbeat_s"]) == (False, ["heartbeat_s"], 2)
    hub.command("config", "c1", args={"values": {"colour": None}})
    [reply] = hub.wait(lambda: hub.replies("c1"), "the verb's answer")
    assert reply.status == "succeeded"
    assert "colour" not in reply.result["reported"]
    hub.command("run_action", "c2", args={"name": "reboot"})
    [reply] = hub.wait(lambda: hub.replies("c2"), "an answer to what it does not know")
    assert (reply.status, reply.code) == ("rejected", "unknown_verb")
