"""What happens is queued with what is stored, and proposes once and only once, whoever is killed in between."""

import json
import threading
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from hub import audit, schedules, tags
from hub.actions import records as actions
from hub.actions.records import Filter
from hub.automations import engine, records, rehearsal
from hub.automations.records import Draft
from hub.errors import Conflict, HubError, Invalid
from hub.tables import Space

SAY = {"tool": "send_message", "args": {"text": "{{device.name}}: {{event.payload.angle}} at {{ event.type }}"}}
NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)


@pytest.fixture
def write(session, agent):
    def write(kind, trigger, *, on=True, name="Rule", **facts):
        draft = Draft(name, kind, trigger, **({"tool": "send_message", "args": {"text": "x"}} | facts))
        made = records.create(session, agent.agent_id, draft, by="ann@example.org", now=NOW)
        return records.switch(session, agent.agent_id, made.automation_id, on=on, by="ann@example.org", now=NOW)

    return write


@pytest.fixture
def proposed(session, agent):
    def proposed():
        engine.take(session, datetime.now(UTC))
        found = actions.page(session, agent.agent_id, Filter()).items
        return [one.args.get("text", one.args) for one in reversed(found)]

    return proposed


def event(n=0, **payload):
    return {"id": f"e{n}", "epoch": 1, "payload": {"angle": n} | payload}


def error_of(session, automation):
    return records.find(session, automation.agent_id, automation.automation_id).last_error


def test_a_wrong_rule_names_what_is_wrong(session, agent, device):
    good = {"name": "Rule", "kind": "event", "trigger": {"type": "door"}} | SAY
    for field, change in {
        "name": {"name": " "},
        "kind": {"kind": "moon"},
        "trigger.type": {"trigger": {}},
        "trigger.moon": {"trigger": {"type": "door", "moon": 1}},
        "trigger.device": {"trigger": {"type": "door", "device": "attic"}},
        "trigger.tag": {"trigger": {"type": "door", "device": "porch", "tag": "x"}},
        "trigger.space": {"trigger": {"type": "door", "space": "Moon"}},
        "trigger.to": {"kind": "presence", "trigger": {"to": ["asleep"]}},
        "trigger.above": {"kind": "telemetry", "trigger": {"stream": "t", "above": 1, "below": 2}},
        "trigger.rearm": {"kind": "telemetry", "trigger": {"stream": "t", "above": 1, "rearm": 2}},
        "trigger.for_s": {"kind": "telemetry", "trigger": {"stream": "t", "above": 1, "for_s": 1e9}},
        "trigger.at": {"kind": "time", "trigger": {"at": "25:00"}},
        "trigger.cron": {"kind": "time", "trigger": {"cron": "never"}},
        "trigger.zone": {"kind": "time", "trigger": {"at": "07:30", "zone": "Mars/Base"}},
        "trigger.days": {"kind": "time", "trigger": {"at": "07:30", "days": ["someday"]}},
        "conditions.0": {"conditions": ({"path": "event.type"},)},
        "conditions.0.path": {"conditions": ({"path": "os.environ", "is": "equals", "value": 1},)},
        "conditions.0.is": {"conditions": ({"path": "event.type", "is": "matches", "value": 1},)},
        "conditions.0.value": {"conditions": ({"path": "event.type", "is": "at_least", "value": "1"},)},
        "tool": {"tool": "teleport"},
        "args.text": {"args": {}},
        "args.devices": {"args": {"text": "{{event.type}}", "devices": "porch"}},
        "args": {"args": {"text": "{{ 7 * 7 }}"}},
        "why": {"why": "{{secret.path}}"},
        "cooldown_s": {"cooldown_s": -1},
    }.items():
        with pytest.raises(HubError) as refused:
            records.check(session, agent.agent_id, Draft(**(good | change)))
        assert refused.value.field == field, change


def test_an_event_of_the_right_kind_proposes_once_with_what_it_said(session, agent, device, say, write, proposed):
    rule = write("event", {"type": "door", "device": "porch"}, **SAY, why="{{device.handle}} told it")
    write("event", {"type": "door"}, name="Off", on=False)
    write("event", {"type": "door", "tag": "garden"}, name="Garden")
    say(("porch/event/door", event(1)), ("porch/event/door", event(1)), ("porch/event/window", event(2)))
    assert proposed() == ["Porch: 1 at door"]
    assert proposed() == ["Porch: 1 at door"]
    [action] = actions.page(session, agent.agent_id, Filter()).items
    assert (action.proposed_by, action.proposer_kind, action.why) == ("Rule", "policy", "porch told it")
    assert action.cause_event_id is not None
    tags.set_tags(session, device, ["garden"], by="ann")
    records.switch(session, agent.agent_id, rule.automation_id, on=False, by="ann", now=NOW)
    say(("porch/event/door", event(3)))
    assert proposed() == ["Porch: 1 at door", "x"]
    assert [one.action for one in audit.entries(session, agent.agent_id, subject_id=rule.automation_id)] == [
        "automation.disabled",
        "automation.enabled",
        "automation.added",
    ]


def test_conditions_and_hostile_facts(session, say, device, write, proposed):
    held = ({"path": "event.payload.angle", "is": "at_least", "value": 10},)
    rule = write(
        "event", {"type": "door"}, conditions=held, tool="send_message", args={"text": "{{event.payload.note}}"}
    )
    deep = json.loads("[" * 40 + "]" * 40)
    for n, payload in enumerate(({"angle": 9}, {"angle": "11"}, {"angle": True}, {"angle": None}, {"angle": [11]})):
        say(("porch/event/door", event(n, **payload)))
    assert proposed() == []
    assert error_of(session, rule) is None
    say(("porch/event/door", event(20, angle=11)))
    assert proposed() == []
    assert error_of(session, rule) == "there is no event.payload.note"
    for n, (note, why) in enumerate(
        (({"a": 1}, "args.text"), (deep, "args"), ("x" * 9_000, "args.text"), ("", "args.text"))
    ):
        say(("porch/event/door", event(30 + n, angle=11, note=note)))
        assert proposed() == []
        assert error_of(session, rule).startswith(why)
    say(("porch/event/door", event(40, angle=11, note="{{event.type}} ${x} <b>")))
    assert proposed() == ["{{event.type}} ${x} <b>"]
    assert error_of(session, rule) is None


def test_a_threshold_is_passed_once_until_it_was_left(session, say, device, write, proposed):
    write("telemetry", {"stream": "warmth", "above": 30, "rearm": 25}, args={"text": "{{telemetry.value}}"})
    at = datetime.now(UTC) - timedelta(minutes=5)
    values = [20, 31, 29, 32, 26, 25, 33, 40]
    samples = [{"at": (at + timedelta(seconds=n)).isoformat(), "value": value} for n, value in enumerate(values)]
    for some in (samples[:3], samples[3:6], samples[6:]):
        say(("porch/telemetry/warmth", json.dumps(some).encode()))
    say(("porch/telemetry/other", b"99"))
    assert sorted(proposed()) == ["31", "33"]


def test_what_lasts_proposes_when_it_has_lasted(session, say, device, write, proposed):
    write("telemetry", {"stream": "warmth", "below": 5, "for_s": 60}, args={"text": "cold"})
    write("presence", {"to": ["offline"], "for_s": 30}, name="Away", args={"text": "{{device.name}} is away"})
    write("presence", {"to": ["offline"]}, name="At once", args={"text": "gone: {{presence.why}}"})
    at = datetime.now(UTC)
    say(("porch/telemetry/warmth", b"4"), ("porch/state", {"state": "online", "epoch": 1}), at=at)
    say(("porch/state", {"state": "bye", "epoch": 1}), at=at)
    [gone] = proposed()
    assert gone.startswith("gone: ")
    assert engine.due(session, at + timedelta(seconds=29)) == 0
    engine.due(session, at + timedelta(seconds=30))
    assert proposed()[1:] == ["Porch is away"]
    say(("porch/telemetry/warmth", b"6"), at=at + timedelta(seconds=50))
    proposed()
    assert engine.due(session, at + timedelta(seconds=70)) == 0


def test_times_keep_to_their_zone_over_the_change_of_clocks(session, agent, write, proposed):
    rule = write("time", {"at": "07:30", "zone": "Europe/Berlin", "days": ["sat", "sun"]})
    zone = schedules.zone_of("Europe/Berlin", "")
    assert rule.next_at.astimezone(zone).strftime("%a %H:%M") == "Sat 07:30"
    before = datetime(2027, 3, 27, 6, 29, tzinfo=UTC)  # the clocks change in the following night
    session.execute(text("UPDATE automations SET next_at = :at"), {"at": before + timedelta(minutes=1)})
    assert engine.due(session, before) == 0
    assert engine.due(session, before + timedelta(minutes=2)) == 1
    after = records.find(session, agent.agent_id, rule.automation_id)
    assert (after.next_at, after.next_at.astimezone(zone).strftime("%H:%M")) == (
        datetime(2027, 3, 28, 5, 30, tzinfo=UTC),
        "07:30",
    )
    assert proposed() == ["x"]


def test_a_circle_is_cut_and_a_storm_is_braked(session, agent, say, device, write, proposed):
    own = write("event", {"type": "action_result"})
    rule = write("event", {"type": "door"}, name="Storm")
    say(*[("porch/event/door", event(n)) for n in range(30)])
    assert len(proposed()) == engine.FIRES_PER_MINUTE
    assert error_of(session, rule) == engine.BRAKED
    action_id = session.execute(text("SELECT action_id FROM actions LIMIT 1")).scalar_one()
    session.execute(text("UPDATE actions SET proposer = :me"), {"me": f"automation:{own.automation_id}"})
    say(("porch/event/action_result", event(99, action_id=str(action_id))))
    assert len(proposed()) == engine.FIRES_PER_MINUTE
    assert error_of(session, own) is None
    cool = write("event", {"type": "bell"}, name="Cool", cooldown_s=3600, args={"text": "ding"})
    say(("porch/event/bell", event(200)), ("porch/event/bell", event(201)))
    assert proposed().count("ding") == 1
    assert error_of(session, cool) is None


def test_killed_between_fact_and_proposal_and_two_at_once(database, session, agent, say, device, write):
    write("event", {"type": "door"}, args={"text": "{{event.payload.angle}}"})
    say(*[("porch/event/door", event(n)) for n in range(9)])
    session.commit()

    class Killed(Exception):
        pass

    def die():
        with database.transaction() as work:
            engine.take(work, datetime.now(UTC))
            raise Killed

    with pytest.raises(Killed):
        die()

    def take():
        with database.transaction() as work:
            engine.take(work, datetime.now(UTC))

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    take()
    with database.transaction() as work:
        found = actions.page(work, agent.agent_id, Filter()).items
        left = work.execute(text("SELECT count(*) FROM automation_queue")).scalar_one()
    assert (sorted(one.args["text"] for one in found), left) == ([str(n) for n in range(9)], 0)


def test_a_draft_is_held_against_what_happened(session, agent, space, device, say, write):
    assert isinstance(space, Space)
    now = datetime.now(UTC)
    say(*[("porch/event/door", event(n, angle=n)) for n in range(20)])
    held = ({"path": "event.payload.angle", "is": "at_least", "value": 18},)
    draft = Draft("Rule", "event", {"type": "door"}, "send_message", {"text": "{{event.payload.angle}}"}, held)
    told = rehearsal.rehearse(session, agent.agent_id, draft, 7, now)
    assert (told.looked_at, told.fired, told.wrong) == (20, 2, 0)
    assert [one.args for one in told.shown] == [{"text": "19"}, {"text": "18"}]
    with pytest.raises(Invalid):
        rehearsal.rehearse(session, agent.agent_id, draft, 91, now)
    wrong = Draft("Rule", "event", {"type": "door"}, "send_message", {"text": "{{event.payload.none}}"})
    told = rehearsal.rehearse(session, agent.agent_id, wrong, 7, now)
    assert (told.fired, told.wrong, told.shown[0].error) == (0, 20, "there is no event.payload.none")
    at = now - timedelta(minutes=5)
    samples = [{"at": (at + timedelta(seconds=n)).isoformat(), "value": v} for n, v in enumerate([1, 9, 1, 9])]
    say(("porch/telemetry/warmth", json.dumps(samples).encode()))
    hot = Draft("Hot", "telemetry", {"stream": "warmth", "above": 5}, "send_message", {"text": "hot"})
    assert rehearsal.rehearse(session, agent.agent_id, hot, 1, now).fired == 2
    say(("porch/state", {"state": "online", "epoch": 1}), ("porch/state", {"state": "bye", "epoch": 1}))
    away = Draft("Away", "presence", {"to": ["offline"]}, "send_message", {"text": "{{device.name}}"})
    assert rehearsal.rehearse(session, agent.agent_id, away, 1, now).fired >= 1
    early = Draft("Early", "time", {"at": "07:30"}, "send_message", {"text": "x"})
    assert len(rehearsal.rehearse(session, agent.agent_id, early, 1, now).coming) == 5
    made = write("event", {"type": "door"})
    with pytest.raises(Conflict) as taken:
        write("event", {"type": "door"})
    assert taken.value.field == "name"
    with pytest.raises(Conflict) as stale:
        records.edit(session, agent.agent_id, made.automation_id, draft, revision=9, by="ann", now=now)
    assert stale.value.field == "revision"
    edited = records.edit(session, agent.agent_id, made.automation_id, draft, revision=1, by="ann", now=now)
    assert (edited.revision, edited.conditions) == (2, list(held))
    assert records.delete(session, agent.agent_id, made.automation_id, by="ann") == "Rule"
