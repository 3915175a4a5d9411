"""The command ledger: what a device may say when, and silence by its name."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from hub import commands, feed, outbox
from hub.commands import advance
from hub.errors import Invalid, NotFound
from hub.tables import Agent

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SOON = NOW + timedelta(seconds=30)


@pytest.mark.parametrize(
    ("facts", "field"),
    [
        ({"verb": "a/b"}, "verb"),
        ({"verb": ""}, "verb"),
        ({"verb": "#"}, "verb"),
        ({"verb": "ping", "ttl_s": 0}, "ttl_s"),
        ({"verb": "ping", "ttl_s": 1e9}, "ttl_s"),
        ({"verb": "ping", "args": {"x": "y" * 40_000}}, "args"),
    ],
)
def test_a_bad_command_is_refused(session, device, facts, field):
    with pytest.raises(Invalid) as refused:
        commands.request(session, device, by="ann", **facts)
    assert refused.value.field == field
    assert commands.for_device(session, device.device_id) == []


def test_a_command_of_another_agent_is_not_found(session, device):
    other = Agent(name="Elsewhere")
    session.add(other)
    session.flush()
    command = commands.request(session, device, "ping", by="ann")
    with pytest.raises(NotFound):
        commands.get(session, other.agent_id, command.command_id)


@pytest.mark.parametrize(
    ("status", "said", "late_s", "becomes"),
    [
        ("queued", "accepted", -1, "accepted"),
        ("queued", "succeeded", -1, "succeeded"),
        ("sent", "running", -1, "running"),
        ("running", "accepted", -1, None),
        ("running", "running", -1, None),
        ("accepted", "failed", -1, "failed"),
        ("sent", "rejected", -1, "rejected"),
        ("sent", "succeeded", 5, "late"),
        ("expired", "succeeded", 5, "late"),
        ("expired", "succeeded", 0.5, "succeeded"),
        ("unknown", "failed", 0.5, "failed"),
        ("expired", "running", 0.5, None),
        ("unknown", "failed", 5, "late"),
        ("expired", "running", 5, None),
        ("succeeded", "failed", -1, None),
        ("succeeded", "succeeded", -1, None),
        ("late", "succeeded", 9, None),
        ("rejected", "succeeded", -1, None),
    ],
)
def test_what_a_device_says_moves_the_ledger_forward_only(status, said, late_s, becomes):
    assert advance(status, said, SOON + timedelta(seconds=late_s), SOON) == becomes


def test_a_ping_round_trip_is_a_row_with_states_times_and_witnesses(session, device, say):
    say(("porch/state", {"state": "online", "epoch": 1}))
    command = commands.request(session, device, "ping", by="ann@example.org")
    feed.flush(session)
    [sent] = [one for one in outbox.claim(session, 99) if one.command_id]
    assert sent.topic == f"d/porch/cmd/ping/{command.command_id}"
    assert not sent.retain
    at = datetime.now(UTC)
    commands.mark_sent(session, [(command.command_id, at)])
    reply = {"status": "succeeded", "epoch": 1, "result": {"pong": True}}
    outcome = say((f"porch/reply/{command.command_id}", reply), at=at + timedelta(milliseconds=12))
    assert outcome.receipts == {"porch": [f"{command.command_id}:succeeded"]}
    seen = commands.get(session, device.agent_id, command.command_id)
    assert (seen.status, seen.rtt_ms, seen.result) == ("succeeded", 12.0, {"pong": True})
    assert [(step["status"], step["witness"]) for step in seen.steps] == [
        ("queued", "ann@example.org"),
        ("sent", "the broker took it"),
        ("succeeded", "the device"),
    ]


def test_a_reply_may_overtake_the_brokers_acknowledgement(session, device, say):
    command = commands.request(session, device, "ping", by="ann")
    at = datetime.now(UTC)
    say((f"porch/reply/{command.command_id}", {"status": "succeeded", "epoch": 1}), at=at + timedelta(milliseconds=5))
    commands.mark_sent(session, [(command.command_id, at)])
    seen = commands.get(session, device.agent_id, command.command_id)
    assert (seen.status, seen.rtt_ms) == ("succeeded", 5.0)


def test_silence_gets_its_name_after_the_deadline(session, device, say):
    asked = datetime.now(UTC) - timedelta(seconds=40)
    never_sent = commands.request(session, device, "ping", by="ann", now=asked)
    accepted = commands.request(session, device, "blink", by="ann", now=asked)
    say(
        (f"porch/reply/{accepted.command_id}", {"status": "accepted", "epoch": 1}),
        at=asked + timedelta(seconds=1),
    )
    assert commands.expire(session, datetime.now(UTC)) == 2
    assert commands.expire(session, datetime.now(UTC)) == 0
    assert commands.get(session, device.agent_id, never_sent.command_id).status == "expired"
    assert commands.get(session, device.agent_id, accepted.command_id).status == "unknown"
    say((f"porch/reply/{accepted.command_id}", {"status": "succeeded", "epoch": 1, "result": 7}))
    late = commands.get(session, device.agent_id, accepted.command_id)
    assert (late.status, late.result) == ("late", 7)


def test_the_sweeper_never_overwrites_a_result(session, device, say):
    asked = datetime.now(UTC) - timedelta(seconds=40)
    command = commands.request(session, device, "ping", by="ann", now=asked)
    say((f"porch/reply/{command.command_id}", {"status": "succeeded", "epoch": 1}), at=asked + timedelta(seconds=2))
    assert commands.expire(session, datetime.now(UTC)) == 0
    assert commands.get(session, device.agent_id, command.command_id).status == "succeeded"


def test_progress_is_shown_while_it_runs(session, device, say):
    command = commands.request(session, device, "copy", by="ann")
    for progress in (0.2, 0.7):
        say((f"porch/reply/{command.command_id}", {"status": "running", "epoch": 1, "progress": progress}))
    assert commands.get(session, device.agent_id, command.command_id).progress == 0.7


def test_every_change_is_told_to_the_pages(session, device, say):
    command = commands.request(session, device, "ping", by="ann")
    feed.flush(session)
    commands.mark_sent(session, [(command.command_id, datetime.now(UTC))])
    feed.flush(session)
    say((f"porch/reply/{command.command_id}", {"status": "succeeded", "epoch": 1}))
    feed.flush(session)
    told = [one for one in feed.since(session, device.agent_id, 0).messages if one["type"] == "commands.updated"]
    assert [one["items"][0]["status"] for one in told] == ["queued", "sent", "succeeded"]


def test_sql_refuses_an_end_without_a_time(session, device):
    command = commands.request(session, device, "ping", by="ann")
    with pytest.raises(Exception, match="commands_finished_check"):
        session.execute(
            text("UPDATE commands SET status = 'succeeded' WHERE command_id = :id"), {"id": command.command_id}
        )
