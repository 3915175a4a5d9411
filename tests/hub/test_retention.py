"""Retention: what has had its time goes, by each agent's own days, in bounded steps; a week does not fill Postgres."""

import threading
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from hub import audit, dead_letters, retention, schedules
from hub.access import denials
from hub.access.denials import Refusal
from hub.actions import deciding, execution, proposing
from hub.actions.deciding import Decider
from hub.actions.proposing import Proposal, Proposer
from hub.audit.actors import Actor
from hub.errors import Conflict, Invalid
from hub.janitor import Janitor
from hub.policies import records as policies
from hub.policies.records import RATE_MAX_S, Draft
from hub.settings import Settings
from hub.sweeper import tidy
from hub.tables import Agent
from hub.telemetry import partitions, samples, upkeep
from hub.telemetry.samples import NewSamples

NOW = datetime.now(UTC).replace(microsecond=0)
KEPT = {"raw": timedelta(days=7), "minutes": timedelta(days=90), "hours": timedelta(days=1_830)}
TABLES = (
    "events",
    "commands",
    "command_steps",
    "denials WHERE agent_id IS NOT NULL",
    "dead_letters WHERE agent_id IS NOT NULL",
    "telemetry_samples",
    "feed_entries WHERE rev > 1000000",
)


def a_day(session, device, at: datetime, count: int = 50) -> None:
    """What a device leaves behind in a day."""
    values = {"agent": device.agent_id, "device": device.device_id, "at": at, "n": count, "day": f"{at:%Y%m%d}"}
    session.execute(
        text(
            "INSERT INTO events (agent_id, device_id, type, message_id, created_at)"
            " SELECT :agent, :device, 'bell', :day || n, :at FROM generate_series(1, :n) AS n"
        ),
        values,
    )
    session.execute(
        text(
            "WITH made AS (INSERT INTO commands (agent_id, device_id, verb, status, requested_by, created_at,"
            " expires_at, finished_at) SELECT :agent, :device, 'ping', 'succeeded', 'ann', :at, :at, :at"
            " FROM generate_series(1, :n) RETURNING command_id)"
            " INSERT INTO command_steps (command_id, status, witness) SELECT command_id, 'succeeded', 'it' FROM made"
        ),
        values,
    )
    session.execute(
        text(
            "INSERT INTO feed_entries (agent_id, rev, feed, message, at) SELECT :agent,"
            " 1000000 + CAST(:day AS bigint) * 100 + n, 'events', '{}', :at FROM generate_series(1, :n) AS n"
        ),
        values,
    )
    for n in range(5):
        denials.record(
            session, [Refusal("porch", "publish", f"t{n}", "no", at), Refusal("stranger", "connect", "", "who", at)]
        )
        dead_letters.park(session, f"t{n}", b"x" * 100, "no", at, direction="in", handle="porch" if n else "")
    session.execute(text("UPDATE dead_letters SET parked_at = received_at"))
    partitions.make_ahead(session, at)
    measured = [(at + timedelta(seconds=n), float(n)) for n in range(count)]
    samples.append(session, [NewSamples(device.device_id, device.agent_id, "warmth", measured)])


def counts(session) -> dict[str, int]:
    session.rollback()
    found = {table: session.execute(text(f"SELECT count(*) FROM {table}")).scalar_one() for table in TABLES}
    session.rollback()  # a partition is not dropped while somebody reads
    return found


def keep(session, agent_id, days: int) -> None:
    all_of_it = {name: max(days, 7 if name == "telemetry_days" else 1) for name in retention.NAMES}
    revision = retention.view(session, agent_id).revision
    retention.change(session, agent_id, all_of_it, revision=revision, by="ann@example.org")


@pytest.mark.parametrize(
    ("days", "field"),
    [
        ({"events_days": 0}, "events_days"),
        ({"events_days": 3_651}, "events_days"),
        ({"telemetry_days": 6}, "telemetry_days"),
        ({"dead_letters_days": -1}, "dead_letters_days"),
        ({"presence_days": 31}, "presence_days"),
    ],
)
def test_days_that_cannot_be_are_refused(session, agent, days, field):
    with pytest.raises(Invalid) as caught:
        retention.change(session, agent.agent_id, days, revision=0, by="ann")
    assert caught.value.field == field
    assert retention.view(session, agent.agent_id).revision == 0


def test_the_second_of_two_editors_is_told(session, agent):
    retention.change(session, agent.agent_id, {"events_days": 30}, revision=0, by="ann")
    with pytest.raises(Conflict):
        retention.change(session, agent.agent_id, {"events_days": 3}, revision=0, by="bob")
    seen = retention.change(session, agent.agent_id, {"denials_days": 3}, revision=1, by="bob")
    assert (seen.kept.events_days, seen.kept.denials_days, seen.revision) == (30, 3, 2)
    audit.flush(session)
    [entry, *_] = audit.entries(session, agent.agent_id)
    assert (entry.action, entry.before, entry.after) == (
        "agent.retention_changed",
        {"denials_days": 14},
        {"denials_days": 3},
    )


def test_each_agent_keeps_by_its_own_days(database, session, agent, device, make_device):
    other = Agent(name="Summer house")
    session.add(other)
    session.flush()
    theirs = make_device("Mast", agent_id=other.agent_id)
    for one in (device, theirs):
        for days in (5, 3, 1):
            a_day(session, one, NOW - timedelta(days=days), 10)
    keep(session, agent.agent_id, 2)
    session.commit()
    removed = Janitor(database).look(NOW)
    assert removed == {"events": 20, "commands": 20, "denials": 10, "dead_letters": 16}
    kept = session.execute(text("SELECT agent_id, count(*) FROM events GROUP BY 1"))
    assert dict(tuple(row) for row in kept) == {agent.agent_id: 10, other.agent_id: 30}
    assert Janitor(database).look(NOW) == {}


def test_open_commands_stay_whatever_their_age(database, session, device):
    session.execute(
        text(
            "INSERT INTO commands (agent_id, device_id, verb, requested_by, created_at, expires_at)"
            " VALUES (:agent, :device, 'ping', 'ann', :at, :at)"
        ),
        {"agent": device.agent_id, "device": device.device_id, "at": NOW - timedelta(days=4_000)},
    )
    session.commit()
    assert Janitor(database).look(NOW) == {}


def test_an_agent_that_wants_its_samples_for_less_long_has_them_removed(database, session, agent, device):
    at = NOW - timedelta(days=6)
    a_day(session, device, at, 10)
    keep(session, agent.agent_id, 7)
    session.commit()
    assert "telemetry" not in Janitor(database).look(NOW)
    assert Janitor(database).look(NOW + timedelta(days=2))["telemetry"] == 10


def test_presence_is_forgotten_but_what_stood_then(database, session, agent, device):
    for days in (9, 8, 6, 1):
        session.execute(
            text(
                "INSERT INTO presence_history (device_id, agent_id, at, verdict, why, epoch)"
                " VALUES (:device, :agent, :at, 'online', 'connected', 1)"
            ),
            {"device": device.device_id, "agent": agent.agent_id, "at": NOW - timedelta(days=days)},
        )
    keep(session, agent.agent_id, 7)
    session.commit()
    assert Janitor(database).look(NOW) == {"presence_history": 1}
    left = session.execute(text("SELECT at FROM presence_history ORDER BY at")).scalars()
    assert [(NOW - at).days for at in left] == [8, 6, 1]


def test_more_than_one_step_is_removed_in_several(database, session, agent, device, monkeypatch):
    monkeypatch.setattr(retention, "AT_ONCE", 7)
    a_day(session, device, NOW - timedelta(days=400), 50)
    session.commit()
    assert Janitor(database).look(NOW)["events"] == 50


def test_weeks_do_not_fill_the_database(database, session, agent, device):
    """Time travel: each day brings as much as the one before; what is kept stops growing in the end."""
    keep(session, agent.agent_id, 2)
    session.commit()
    stop = threading.Event()
    history = []
    start = NOW - timedelta(days=11)
    for day in range(12):
        at = start + timedelta(days=day)
        with database.transaction() as work:
            a_day(work, device, at)
        Janitor(database).look(at + timedelta(minutes=1))
        with database.transaction() as work:
            tidy(work, at + timedelta(minutes=1))
        upkeep.condense(database, at, stop)
        upkeep.tidy(database, at + timedelta(minutes=1), KEPT, stop)
        history.append(counts(session))
    assert history[-1] == history[-2] == history[-3]
    assert history[-1]["events"] == 100
    assert history[-1]["telemetry_samples"] <= 9 * 50  # a week, and the partitions at both ends of it
    assert history[0]["events"] == 50
    entries = session.execute(text("SELECT count(*) FROM audit_entries")).scalar_one()
    assert entries >= 1  # the audit is kept for good


def test_actions_go_with_their_steps_but_not_while_something_hangs_on_them(database, session, agent):
    settings = Settings(database_url=database.url)
    ann, porch = (
        Decider("user:ann", Actor("ann", "person"), "owner"),
        Proposer("device:porch", Actor("porch", "device")),
    )
    draft = Draft("Say it", "send_message", ("messages:send",), other_args=True, rate_count=9, rate_s=RATE_MAX_S)
    policy = policies.create(session, agent.agent_id, draft, by="ann", now=NOW)

    def propose(days, tool="send_message", args=None):
        proposal = Proposal(tool, args or {"text": "Dinner!"}, ttl_s=30 * 86_400)
        at = NOW - timedelta(days=days)
        return proposing.propose(session, agent.agent_id, proposal, proposer=porch, now=at).action

    def done(action, days):
        session.commit()
        execution.run(database, settings, action.action_id, lambda: NOW - timedelta(days=days))
        session.rollback()
        return action.action_id

    waiting = propose(20).action_id
    rejected = propose(9)
    at = NOW - timedelta(days=9)
    deciding.reject(session, agent.agent_id, rejected.action_id, by=ann, now=at)
    daily = propose(9, "schedule", {"tool": "send_message", "args": {"text": "Up!"}, "cron": "0 7 * * *"})
    deciding.approve(session, agent.agent_id, daily.action_id, by=ann, digest=daily.digest, now=at)
    repeats = done(daily, 9)
    policies.switch(session, agent.agent_id, policy.policy_id, on=True, revision=1, by="ann", now=NOW)
    counted, forgotten = done(propose(5), 5), done(propose(8), 8)
    keep(session, agent.agent_id, 1)
    session.commit()

    def left():
        session.rollback()
        steps = set(session.execute(text("SELECT DISTINCT action_id FROM action_steps")).scalars())
        assert steps == set(session.execute(text("SELECT action_id FROM actions")).scalars())
        return steps

    assert left() == {waiting, rejected.action_id, repeats, counted, forgotten}
    assert Janitor(database).look(NOW)["actions"] == 2
    assert left() == {waiting, repeats, counted}
    [schedule] = schedules.listed(session, agent.agent_id)
    schedules.stop(session, agent.agent_id, schedule.schedule_id, by="ann", now=NOW)
    session.commit()
    assert Janitor(database).look(NOW)["actions"] == 1
    assert left() == {waiting, counted}
