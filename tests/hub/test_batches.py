"""Tags and batches: who is reached is known before, each device fares on its own, what waits can be taken back."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from hub import batches, command_ends, commands, device_config, device_views, devices, outbox, retention, tags
from hub import feed as feeds
from hub.batches import Wish
from hub.errors import Conflict, Invalid, NotFound
from hub.tables import Agent

BLINK = {"name": "blink", "risk": "medium", "args_schema": {"properties": {"times": {"type": "integer"}}}}


@pytest.fixture
def other(session):
    agent = Agent(name="Elsewhere")
    session.add(agent)
    session.flush()
    return agent


@pytest.fixture
def three(session, make_device, say):
    """One that is there and blinks, one that is away, one that cannot blink; all tagged."""
    made = [make_device(name) for name in ("Attic", "Barn", "Cellar")]
    for device in made:
        tags.set_tags(session, device, ["lamps"], by="ann")
    say(("attic/hello", {"epoch": 1, "verbs": [BLINK]}), ("attic/state", {"state": "online", "epoch": 1}))
    say(("barn/hello", {"epoch": 1, "verbs": [BLINK]}), ("barn/state", {"state": "bye", "epoch": 1}))
    say(("cellar/hello", {"epoch": 1}))
    return made


@pytest.mark.parametrize("tag", ["", "A b", "-x", "_x", "x" * 33, "ü", "x/y"])
def test_a_bad_tag_is_refused(session, device, tag):
    with pytest.raises(Invalid) as refused:
        tags.set_tags(session, device, ["good", tag], by="ann")
    assert refused.value.field == "tags"
    assert tags.of_devices(session, [device.device_id]) == {}


def test_at_most_twenty_tags(session, device):
    with pytest.raises(Invalid):
        tags.set_tags(session, device, [f"t{n}" for n in range(21)], by="ann")
    assert len(tags.set_tags(session, device, [f"t{n}" for n in range(20)], by="ann")) == 20
    with pytest.raises(Invalid, match="would have 21"):
        tags.change_many(session, device.agent_id, [device.device_id], add=["more"], by="ann")


def test_the_second_editor_of_tags_is_told(session, device):
    tags.set_tags(session, device, ["a"], by="ann", expected=[])
    with pytest.raises(Conflict, match="meanwhile: a"):
        tags.set_tags(session, device, ["b"], by="bob", expected=[])
    assert tags.of_devices(session, [device.device_id]) == {device.device_id: ["a"]}


def test_another_agents_device_is_not_tagged_with_ours(session, device, make_device, other):
    foreign = make_device("Secret", agent_id=other.agent_id)
    with pytest.raises(NotFound):
        tags.change_many(session, device.agent_id, [device.device_id, foreign.device_id], add=["x"], by="ann")
    assert tags.of_devices(session, [device.device_id, foreign.device_id]) == {}
    with pytest.raises(Exception, match="device_tags_device_fkey"), session.begin_nested():
        session.execute(
            text("INSERT INTO device_tags VALUES (:device, :agent, 'x')"),
            {"device": foreign.device_id, "agent": device.agent_id},
        )


def test_many_are_tagged_at_once_and_found_by_tag(session, make_device, agent):
    made = [make_device(name) for name in ("Attic", "Barn")]
    ids = [device.device_id for device in made]
    assert tags.change_many(session, agent.agent_id, ids, add=["up", "dry"], by="ann") == 2
    assert tags.change_many(session, agent.agent_id, ids[:1], remove=["dry"], by="ann") == 1
    assert tags.change_many(session, agent.agent_id, ids[:1], remove=["dry"], by="ann") == 0
    assert tags.counted(session, agent.agent_id) == {"dry": 1, "up": 2}
    assert [view.handle for view in device_views.overview(session, agent.agent_id, tag="dry")] == ["barn"]
    assert device_views.view(session, agent.agent_id, ids[0]).tags == ["up"]


def test_a_plan_says_who_is_left_out_and_why(session, three, agent):
    devices.revoke(session, three[1], by="ann")
    plan = batches.plan(session, agent.agent_id, Wish("command", "lamps", {"times": 2}, "blink"))
    assert [device.handle for device in plan.targets] == ["attic"]
    assert [(skip.device.handle, skip.reason) for skip in plan.skipped] == [
        ("barn", "it is revoked"),
        ("cellar", "cellar has no verb blink; it has ping, config, run_action"),
    ]
    plan = batches.plan(session, agent.agent_id, Wish("command", "lamps", {"times": "two"}, "blink"))
    assert plan.targets == []
    assert "args.times" in plan.skipped[0].reason
    with pytest.raises(Invalid, match="no device"):
        batches.send(session, agent.agent_id, plan, by="ann", now=datetime.now(UTC))


@pytest.mark.parametrize(
    ("facts", "field"),
    [
        ({"tag": "No"}, "tags"),
        ({"verb": "a/b"}, "verb"),
        ({"ttl_s": 0}, "ttl_s"),
        ({"args": {"a": "x" * 40_000}}, "args"),
        ({"kind": "merge", "verb": None, "args": {"A": 1}}, "values.A"),
    ],
)
def test_a_wish_that_nobody_can_take_names_its_field(session, three, agent, facts, field):
    wish = {"kind": "command", "tag": "lamps", "args": {}, "verb": "blink"} | facts
    with pytest.raises(Invalid) as refused:
        batches.plan(session, agent.agent_id, Wish(**wish))
    assert refused.value.field == field


def test_a_plan_changes_its_digest_with_its_devices(session, three, agent):
    wish = Wish("command", "lamps", {}, "blink")
    before = batches.plan(session, agent.agent_id, wish).digest
    assert batches.plan(session, agent.agent_id, wish).digest == before
    tags.set_tags(session, three[0], [], by="ann")
    assert batches.plan(session, agent.agent_id, wish).digest != before


def test_each_device_fares_on_its_own_and_what_waits_is_taken_back(session, three, agent, say):
    now = datetime.now(UTC)
    plan = batches.plan(session, agent.agent_id, Wish("command", "lamps", {"times": 2}, "blink"))
    batch = batches.send(session, agent.agent_id, plan, by="ann", now=now)
    feeds.flush(session)
    [sent] = [one for one in outbox.claim(session, 99) if one.command_id]
    assert sent.topic.startswith("d/attic/cmd/blink/")
    commands.mark_sent(session, [(sent.command_id, now)])
    say((f"attic/reply/{sent.command_id}", {"status": "succeeded", "epoch": 1}), at=now + timedelta(milliseconds=9))
    assert batches.view(session, agent.agent_id, batch.batch_id).counts == {"succeeded": 1, "queued": 1}
    assert batches.cancel(session, batch, by="bob", now=now) == 1
    assert batches.cancel(session, batch, by="bob", now=now) == 0
    view = batches.view(session, agent.agent_id, batch.batch_id)
    assert [(row.handle, row.status, row.rtt_ms) for row in view.rows] == [
        ("attic", "succeeded", 9.0),
        ("barn", "cancelled", None),
    ]
    assert [skip.device.handle for skip in view.skipped] == ["cellar"]
    assert [one.batch_id for one in batches.latest(session, agent.agent_id)] == [batch.batch_id]


def test_a_batch_of_another_agent_is_not_found(session, three, agent, other):
    plan = batches.plan(session, agent.agent_id, Wish("command", "lamps", {}, "blink"))
    batch = batches.send(session, agent.agent_id, plan, by="ann", now=datetime.now(UTC))
    with pytest.raises(NotFound):
        batches.view(session, other.agent_id, batch.batch_id)
    assert batches.latest(session, other.agent_id) == []
    assert batches.plan(session, other.agent_id, Wish("command", "lamps", {}, "blink")).targets == []


@pytest.mark.parametrize(
    ("kind", "attic", "barn"),
    [("merge", {"a": 1, "b": 2}, {"b": 2}), ("replace", {"b": 2, "gone": None}, {"b": 2, "gone": None})],
)
def test_values_for_a_tag_are_merged_or_replace(session, three, agent, kind, attic, barn):
    device_config.set_desired(session, three[0], {"a": 1, "gone": True}, by="ann", expected_rev=0)
    plan = batches.plan(session, agent.agent_id, Wish(kind, "lamps", {"b": 2, "gone": None}))
    batch = batches.send(session, agent.agent_id, plan, by="ann", now=datetime.now(UTC))
    assert device_config.view(session, three[0].device_id).desired == attic
    assert device_config.view(session, three[1].device_id).desired == barn
    assert batches.view(session, agent.agent_id, batch.batch_id).counts == {"waiting": 3}


def test_a_config_batch_shows_who_applied_refused_and_was_set_otherwise(session, three, agent, say):
    plan = batches.plan(session, agent.agent_id, Wish("merge", "lamps", {"b": 2}))
    batch = batches.send(session, agent.agent_id, plan, by="ann", now=datetime.now(UTC))
    say(
        ("attic/config_reply", {"epoch": 1, "rev": 1, "ok": True, "reported": {"b": 2}}),
        ("barn/config_reply", {"epoch": 2, "rev": 1, "ok": False, "error": "no b here"}),
    )
    device_config.set_desired(session, three[2], {}, by="bob", expected_rev=1)
    view = batches.view(session, agent.agent_id, batch.batch_id)
    assert [(row.handle, row.status, row.message) for row in view.rows] == [
        ("attic", "applied", ""),
        ("barn", "refused", "no b here"),
        ("cellar", "replaced", "other values were set since"),
    ]


def test_old_batches_and_their_commands_are_forgotten_together(session, three, agent):
    then = datetime.now(UTC) - timedelta(days=100)
    plan = batches.plan(session, agent.agent_id, Wish("command", "lamps", {}, "blink"))
    batches.send(session, agent.agent_id, plan, by="ann", now=then)
    limit = datetime.now(UTC) - timedelta(days=90)
    assert batches.forget(session, limit) == 0  # its commands are not over yet
    command_ends.expire(session, then + timedelta(days=1))
    [rule] = [one for one in retention.RULES if one.table == "commands"]
    assert retention.remove_some(session, rule, agent.agent_id, limit) == 2
    assert batches.forget(session, limit) == 1


def test_a_thousand_devices_are_asked_in_a_moment(session, agent):
    session.execute(
        text(
            "WITH d AS (INSERT INTO devices (agent_id, name, handle) SELECT :agent, 'd' || n, 'd' || n "
            "FROM generate_series(1, 1000) AS n RETURNING device_id, agent_id), "
            "p AS (INSERT INTO device_presence (device_id, verdict, since) SELECT device_id, 'online', now() FROM d) "
            "INSERT INTO device_tags (device_id, agent_id, tag) SELECT device_id, agent_id, 'all' FROM d"
        ),
        {"agent": agent.agent_id},
    )
    began = datetime.now(UTC)
    plan = batches.plan(session, agent.agent_id, Wish("command", "all", {}, "ping"))
    batch = batches.send(session, agent.agent_id, plan, by="ann", now=began)
    assert batches.view(session, agent.agent_id, batch.batch_id).counts == {"queued": 1000}
    assert datetime.now(UTC) - began < timedelta(seconds=10)


def test_a_deleted_device_is_neither_tagged_nor_reached(session, three, agent):
    devices.delete(session, three[0], "Attic", by="ann")
    with pytest.raises(NotFound):
        tags.change_many(session, agent.agent_id, [three[0].device_id], add=["x"], by="ann")
    plan = batches.plan(session, agent.agent_id, Wish("command", "lamps", {}, "ping"))
    assert [device.handle for device in plan.targets] == ["barn", "cellar"]
    assert plan.skipped == []
