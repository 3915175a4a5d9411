"""The command ledger: what a device may say when, and silence by its name."""

import contextlib
import re
import threading
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest
from sqlalchemy import text

from hub import command_ends, commands, feed, outbox, retention
from hub.command_replies import advance
from hub.errors import Conflict, Invalid, NotFound
from hub.mqtt import BrokerAway
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
        ("cancelled", "accepted", -1, None),
        ("cancelled", "succeeded", -1, "succeeded"),
        ("cancelled", "succeeded", 5, "late"),
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
    assert command_ends.expire(session, datetime.now(UTC)) == 2
    assert command_ends.expire(session, datetime.now(UTC)) == 0
    assert commands.get(session, device.agent_id, never_sent.command_id).status == "expired"
    assert commands.get(session, device.agent_id, accepted.command_id).status == "unknown"
    say((f"porch/reply/{accepted.command_id}", {"status": "succeeded", "epoch": 1, "result": 7}))
    late = commands.get(session, device.agent_id, accepted.command_id)
    assert (late.status, late.result) == ("late", 7)


def test_the_sweeper_never_overwrites_a_result(session, device, say):
    asked = datetime.now(UTC) - timedelta(seconds=40)
    command = commands.request(session, device, "ping", by="ann", now=asked)
    say((f"porch/reply/{command.command_id}", {"status": "succeeded", "epoch": 1}), at=asked + timedelta(seconds=2))
    assert command_ends.expire(session, datetime.now(UTC)) == 0
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


VERBS = [
    {"name": "blink", "args_schema": {"required": ["times"], "properties": {"times": {"type": "integer"}}}},
    {"name": "odd", "args_schema": {"type": "nope"}},
]


@pytest.mark.parametrize(
    ("verb", "args", "field", "told"),
    [
        ("dance", {}, "verb", "it has blink, odd, ping, config, run_action"),
        ("blink", {}, "args.times", "is required"),
        ("blink", {"times": "two"}, "args.times", 'is not of type "integer"'),
        ("run_action", {}, "args.name", "is required"),
        ("config", {"values": {"A": 1}}, "args.values", "does not match"),
        ("ping", {"loud": True}, "args", "unexpected"),
        ("odd", {"a": "\0"}, "args", "U+0000"),
        ("odd", {"a": [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]}, "args", "nested"),
    ],
)
def test_a_command_is_held_to_what_the_device_says_it_can_do(session, device, say, verb, args, field, told):
    say(("porch/hello", {"epoch": 1, "verbs": VERBS}))
    with pytest.raises(Invalid, match=re.escape(told)) as refused:
        commands.request(session, device, verb, args, by="ann")
    assert refused.value.field == field
    assert commands.for_device(session, device.device_id) == []


def test_verbs_that_every_device_has_are_sent_also_when_it_does_not_name_them(session, device, say):
    say(("porch/hello", {"epoch": 1}))
    command = commands.request(session, device, "run_action", {"name": "reboot"}, by="ann")
    say((f"porch/reply/{command.command_id}", {"status": "rejected", "epoch": 1, "code": "unknown_verb"}))
    seen = commands.get(session, device.agent_id, command.command_id)
    assert (seen.status, seen.code) == ("rejected", "unknown_verb")


def test_a_schema_that_is_wrong_does_not_stop_the_command(session, device, say):
    say(("porch/hello", {"epoch": 1, "verbs": VERBS}))
    assert commands.request(session, device, "odd", {"anything": 1}, by="ann").status == "queued"


def test_what_waits_can_be_taken_back_and_is_not_sent(session, device, say):
    say(("porch/state", {"state": "online", "epoch": 1}))
    command = commands.request(session, device, "ping", by="ann")
    feed.flush(session)
    command_ends.cancel(session, device.agent_id, command.command_id, by="bob", now=datetime.now(UTC))
    assert [one for one in outbox.claim(session, 99) if one.command_id] == []
    seen = commands.get(session, device.agent_id, command.command_id)
    assert (seen.status, seen.finished_at is not None) == ("cancelled", True)
    assert [(step["status"], step["witness"]) for step in seen.steps] == [("queued", "ann"), ("cancelled", "bob")]
    say(("porch/hello", {"epoch": 2}))
    feed.flush(session)
    assert [one for one in outbox.claim(session, 99) if one.command_id] == []
    assert commands.worth_sending(session, [command.command_id], datetime.now(UTC)) == set()


def test_what_was_sent_or_is_over_or_another_agents_is_not_taken_back(session, device, say):
    other = Agent(name="Elsewhere")
    session.add(other)
    session.flush()
    command = commands.request(session, device, "ping", by="ann")
    cancel = partial(command_ends.cancel, session, by="bob", now=datetime.now(UTC))
    with pytest.raises(NotFound):
        cancel(other.agent_id, command.command_id)
    commands.mark_sent(session, [(command.command_id, datetime.now(UTC))])
    with pytest.raises(Conflict, match="was sent to porch already and cannot be taken back"):
        cancel(device.agent_id, command.command_id)
    say((f"porch/reply/{command.command_id}", {"status": "failed", "epoch": 1}))
    with pytest.raises(Conflict, match="is over: failed"):
        cancel(device.agent_id, command.command_id)
    assert commands.get(session, device.agent_id, command.command_id).status == "failed"


def test_a_device_that_can_is_told_to_end_what_it_has(session, device, say):
    say(("porch/hello", {"epoch": 1, "verbs": [{"name": "cancel"}, {"name": "sweep"}]}))
    command = commands.request(session, device, "sweep", by="ann", ttl_s=60)
    cancel = partial(command_ends.cancel, session, device.agent_id, by="bob", now=datetime.now(UTC))
    commands.mark_sent(session, [(command.command_id, datetime.now(UTC))])
    say((f"porch/reply/{command.command_id}", {"status": "running", "epoch": 1}))
    assert commands.get(session, device.agent_id, command.command_id).can_cancel
    assert cancel(command.command_id) is False
    newest, asked = commands.for_device(session, device.device_id)
    assert (newest.verb, newest.args) == ("cancel", {"command_id": str(command.command_id)})
    assert (newest.requested_by, asked.status) == ("bob", "running")
    assert newest.expires_at <= asked.expires_at + timedelta(seconds=1)
    commands.mark_sent(session, [(newest.command_id, datetime.now(UTC))])
    with pytest.raises(Conflict, match="cannot be taken back"):
        cancel(newest.command_id)
    told = {"status": "failed", "code": "cancelled", "epoch": 1}
    say((f"porch/reply/{command.command_id}", told))
    ended = commands.get(session, device.agent_id, command.command_id)
    assert (ended.code, ended.can_cancel) == ("cancelled", False)
    with pytest.raises(Conflict, match="is over: failed"):
        cancel(command.command_id)


@pytest.mark.parametrize("is_published", [True, False])
def test_a_cancel_while_it_is_being_sent_waits_and_says_the_truth(database, session, device, say, is_published):
    """The publisher holds the command from before it publishes until it is marked or given up."""
    say(("porch/state", {"state": "online", "epoch": 1}))
    session.commit()
    with database.transaction() as work:
        command = commands.request(work, device, "ping", by="ann")
    now, done = datetime.now(UTC), []

    def cancel() -> None:
        try:
            with database.transaction() as work:
                command_ends.cancel(work, device.agent_id, command.command_id, by="bob", now=now)
            done.append("cancelled")
        except Conflict as error:
            done.append(error.message)

    thread = threading.Thread(target=cancel)
    with contextlib.suppress(BrokerAway), database.transaction() as publishing:
        assert [one.command_id for one in outbox.claim(publishing, 99) if one.command_id] == [command.command_id]
        assert commands.worth_sending(publishing, [command.command_id], now) == {command.command_id}
        thread.start()
        thread.join(0.3)
        assert thread.is_alive()
        if not is_published:
            raise BrokerAway("the broker is gone")
        commands.mark_sent(publishing, [(command.command_id, now)])
    thread.join(20)
    assert done == ["ping was sent to porch already and cannot be taken back" if is_published else "cancelled"]
    with database.transaction() as work:
        left = [one for one in outbox.claim(work, 99) if one.command_id]
        assert commands.worth_sending(work, [one.command_id for one in left], now) == set()


def test_a_device_that_ran_what_was_cancelled_is_believed(session, device, say):
    """The hub died between publishing and writing it down: it believed the command unsent."""
    command = commands.request(session, device, "ping", by="ann")
    command_ends.cancel(session, device.agent_id, command.command_id, by="bob", now=datetime.now(UTC))
    say((f"porch/reply/{command.command_id}", {"status": "succeeded", "epoch": 1, "result": 7}))
    seen = commands.get(session, device.agent_id, command.command_id)
    assert (seen.status, seen.result) == ("succeeded", 7)
    assert seen.steps[-1]["witness"] == "the device, although it was cancelled"


def test_a_long_ledger_is_paged_and_in_time_forgotten(session, device):
    asked = datetime.now(UTC) - timedelta(days=91)
    ids = [
        commands.request(session, device, "ping", by="ann", now=asked + timedelta(minutes=n // 2)).command_id
        for n in range(5)
    ]
    first = commands.for_device(session, device.device_id, 3)
    rest = commands.for_device(session, device.device_id, 3, before=first[-1].command_id)
    assert sorted(one.command_id for one in first + rest) == sorted(ids)
    command_ends.expire(session, asked + timedelta(hours=1))
    [rule] = [one for one in retention.RULES if one.table == "commands"]
    assert retention.remove_some(session, rule, device.agent_id, datetime.now(UTC) - timedelta(days=90)) == 5
    assert commands.for_device(session, device.device_id) == []


def test_what_waited_is_sent_after_hello_and_again_until_it_is_answered(session, device, say):
    """Always under the same id, by which the device knows that it did it already."""
    command = commands.request(session, device, "ping", by="ann", ttl_s=600)

    def sent() -> list[str]:
        feed.flush(session)
        return [one.topic for one in outbox.claim(session, 99) if one.command_id]

    assert sent() == []
    topic = f"d/porch/cmd/ping/{command.command_id}"
    for epoch in (1, 2):
        say(("porch/hello", {"epoch": epoch}))
        assert sent() == [topic]
    say((f"porch/reply/{command.command_id}", {"status": "accepted", "epoch": 2}))
    say(("porch/hello", {"epoch": 3}))
    assert sent() == [topic]
    say((f"porch/reply/{command.command_id}", {"status": "succeeded", "epoch": 3}))
    say(("porch/hello", {"epoch": 4}))
    assert sent() == []
