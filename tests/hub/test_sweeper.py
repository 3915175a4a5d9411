"""The sweep for silence on a real database: who is judged, when, and what takes nothing with it."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from hub import audit, commands, device_views, feed, outbox
from hub.access import traffic
from hub.sweeper import Sweeper, tidy

NOW = datetime.now(UTC)
LONG_AGO = NOW - timedelta(days=1)


def after(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def presence(session, device) -> str:
    session.rollback()
    return device_views.view(session, device.agent_id, device.device_id).presence


def settled(database, back_at: datetime | None = LONG_AGO, *, until_s: float = 0) -> Sweeper:
    """A sweeper that has swept for longer than any device is silent here, at last at `until_s`."""
    sweeper = Sweeper(database, lambda: back_at)
    sweeper._able_since, sweeper._swept_at = LONG_AGO, after(until_s)
    return sweeper


def sweep(sweeper: Sweeper, start: float, end: float) -> None:
    for second in range(round(start), round(end) + 1):
        sweeper._sweep(after(second))


@pytest.fixture
def porch(session, device, say):
    say(("porch/state", {"state": "online", "epoch": 1}), at=NOW)
    feed.flush(session)
    session.commit()
    return device


def test_silence_is_probed_twice_before_it_is_called_offline(database, session, porch):
    sweeper = settled(database)
    sweep(sweeper, 0, 32)
    assert presence(session, porch) == "online"
    sweep(sweeper, 33, 34)
    assert presence(session, porch) == "suspect"
    sweep(sweeper, 35, 41)
    assert presence(session, porch) == "offline"
    pings = [one for one in outbox.claim(session, 99) if "/cmd/ping/probe-" in one.topic]
    assert len(pings) == 2
    assert {json.loads(one.payload)["epoch"] for one in pings} == {1}


def test_who_hears_nothing_judges_nobody(database, session, porch):
    sweep(settled(database, None, until_s=29), 30, 50)
    assert presence(session, porch) == "online"


def test_a_hub_that_could_not_look_waits_one_heartbeat(database, session, porch):
    """Postgres was away, or the machine slept: what was said meanwhile still waits to be read."""
    sweeper = settled(database)
    sweep(sweeper, 0, 2)
    sweep(sweeper, 60, 76)
    assert presence(session, porch) == "online"
    sweep(sweeper, 77, 78)
    assert presence(session, porch) == "suspect"


def test_a_mass_outage_is_told_in_time_for_everybody(database, session, porch):
    """More devices fall silent at once than are judged in one transaction: nobody waits for the others' probes."""
    session.execute(
        text(
            "INSERT INTO devices (agent_id, handle, name, scopes) "
            "SELECT :agent, 'd' || n, 'd' || n, '[]' FROM generate_series(1, 1200) AS n"
        ),
        {"agent": porch.agent_id},
    )
    session.execute(
        text(
            "INSERT INTO device_presence (device_id, verdict, since, last_heard_at, epoch) "
            "SELECT device_id, 'online', :now, :now, 1 FROM devices WHERE handle LIKE 'd%'"
        ),
        {"now": NOW},
    )
    session.commit()
    sweep(settled(database, until_s=32), 33, 41)
    verdicts = session.execute(text("SELECT verdict, count(*) FROM device_presence GROUP BY verdict")).all()
    assert [tuple(row) for row in verdicts] == [("offline", 1201)]


@pytest.mark.parametrize("until", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59"])
def test_a_sleeper_with_an_impossible_time_spoils_nothing(database, session, porch, make_device, say, until):
    other = make_device("Gate")
    say(("porch/state", {"state": "sleeping", "epoch": 1, "until": until}), at=NOW)
    say(("gate/state", {"state": "online", "epoch": 1}), at=NOW)
    feed.flush(session)
    session.commit()
    sweep(settled(database, until_s=32), 33, 41)
    assert presence(session, other) == "offline"
    assert presence(session, porch) in ("sleeping", "offline")
    say(("porch/state", {"state": "online", "epoch": 2}))


def test_commands_expire_though_the_broker_is_away(database, session, porch):
    command = commands.request(session, porch, "ping", by="ann", now=NOW - timedelta(minutes=1))
    session.commit()
    settled(database, None)._sweep(NOW)
    session.rollback()
    assert commands.get(session, porch.agent_id, command.command_id).status == "expired"


def test_tidying_removes_what_has_had_its_time_and_nothing_else(session, porch):
    revision = feed.revision(session, porch.agent_id)
    for hours in (1, 24, 28):
        traffic.record(session, {("porch", f"before {hours} h"): 1}, NOW - timedelta(hours=hours))
    tidy(session, NOW)
    kept = session.execute(text("SELECT topic FROM traffic ORDER BY last_at DESC")).scalars()
    assert list(kept) == ["before 1 h", "before 24 h"]
    assert len(feed.since(session, porch.agent_id, 0).messages) == revision
    tidy(session, after(2 * 86_400))
    assert feed.since(session, porch.agent_id, 0).reset
    assert device_views.view(session, porch.agent_id, porch.device_id).token_created_at is not None
    assert audit.entries(session, porch.agent_id) != []


def test_a_device_that_is_being_written_does_not_stop_the_sweep(database, session, porch):
    with database.transaction() as other:
        other.execute(text("SELECT 1 FROM device_presence FOR UPDATE"))
        sweep(settled(database, until_s=32), 33, 34)
    assert presence(session, porch) == "online"
