"""A device's word, or its silence, is the end of the action for which it was told something."""

from datetime import timedelta

import pytest
from sqlalchemy import text

from hub import command_ends, commands
from hub.actions import deciding, execution, proposing, records, sweep
from hub.actions.proposing import Proposal
from hub.errors import Conflict, Invalid, NotFound
from hub.settings import Settings

from .conftest import NOW


@pytest.fixture
def send(database, session, agent, device, say, porch, ann):
    """An approved `ping` of the device, as far as its command."""
    say(
        ("porch/state", {"state": "online", "epoch": 1}),
        ("porch/hello", {"epoch": 1, "protocol": 1, "verbs": [{"name": "blink", "risk": "low", "args_schema": {}}]}),
    )
    session.commit()

    def send(**args):
        with database.transaction() as work:
            proposal = Proposal("device_command", {"device": "porch", "verb": "blink", "ttl_s": 30} | args)
            action = proposing.propose(work, agent.agent_id, proposal, proposer=porch, now=NOW).action
            deciding.approve(work, agent.agent_id, action.action_id, by=ann, digest=action.digest, now=NOW)
        execution.run(database, Settings(database_url=database.url), action.action_id)
        with database.transaction() as work:
            return work.execute(
                text("SELECT command_id, action_id, expires_at FROM commands WHERE action_id = :id"),
                {"id": action.action_id},
            ).one()

    return send


@pytest.fixture
def look(database, agent):
    def look(command):
        with database.transaction() as work:
            return records.find(work, agent.agent_id, command.action_id)

    return look


def test_a_proposal_has_the_risk_of_its_verb_and_must_fit_it(session, agent, device, say, propose):
    with pytest.raises(NotFound) as missing:
        propose("device_command", args={"device": "attic", "verb": "ping"})
    assert missing.value.field == "args.device"
    assert propose("device_command", args={"device": "porch", "verb": "anything"}).action.risk == "high"
    schema = {"type": "object", "properties": {"times": {"type": "integer"}}, "additionalProperties": False}
    verbs = [{"name": "blink", "risk": "medium", "args_schema": schema}]
    say(("porch/hello", {"epoch": 1, "protocol": 1, "verbs": verbs}))
    action = propose("device_command", args={"device": "porch", "verb": "blink", "args": {"times": 2}}).action
    assert (action.risk, action.scopes, action.device_id) == ("medium", ["devices:command"], device.device_id)
    with pytest.raises(Invalid) as invalid:
        propose("device_command", args={"device": "porch", "verb": "blink", "args": {"times": "two"}})
    assert invalid.value.field == "args.times"
    with pytest.raises(Invalid):
        propose("device_command", args={"device": "porch", "verb": "anything"})
    device.revoked_at = NOW
    session.add(device)
    session.flush()
    with pytest.raises(Conflict, match="revoked"):
        propose("device_command", args={"device": "porch", "verb": "ping"})


def test_what_the_device_answers_is_what_came_of_it(session, say, send, look):
    for reply, status, result, error in (
        ({"status": "succeeded", "result": {"times": 2}}, "executed", {"times": 2}, None),
        ({"status": "failed", "code": "broken", "message": "the bulb"}, "failed", None, "broken: the bulb"),
        ({"status": "rejected", "message": "not now"}, "failed", None, "not now"),
    ):
        command = send()
        assert look(command).status == "executing"
        say((f"porch/reply/{command.command_id}", {"epoch": 1, "status": "accepted"}))
        session.commit()
        assert look(command).status == "executing"
        say((f"porch/reply/{command.command_id}", {"epoch": 1} | reply))
        session.commit()
        found = look(command)
        assert (found.status, found.result, found.error) == (status, result, error)
        assert found.steps[-1].witness == "porch"


def test_silence_is_unknown_once_it_was_sent_and_a_late_word_still_counts(session, database, say, send, look):
    sent, unsent, taken_back = send(), send(), send()
    late = sent.expires_at + timedelta(seconds=5)
    with database.transaction() as work:
        commands.mark_sent(work, [(sent.command_id, NOW)])
        command_ends.cancel_queued(work, [taken_back.command_id], by="ann", now=NOW)
    with database.transaction() as work:
        command_ends.expire(work, late)
    assert (look(sent).status, look(sent).error) == ("unknown", "the device did not answer before the deadline")
    assert (look(unsent).status, look(taken_back).status) == ("failed", "failed")
    assert look(taken_back).error == "cancelled before it was sent"
    say((f"porch/reply/{sent.command_id}", {"epoch": 1, "status": "succeeded", "result": 7}), at=late)
    session.commit()
    found = look(sent)
    assert (found.status, found.result, found.steps[-1].note) == ("executed", 7, "it answered after the deadline")
    assert [step.step for step in found.steps][-3:] == ["executing", "unknown", "executed"]


def test_whoever_dies_while_a_device_is_at_work_changes_nothing(session, database, say, send, look):
    command = send()
    with database.transaction() as work:
        sweep.take_over(work)
        sweep.sweep(work, command.expires_at + timedelta(hours=1))
    assert look(command).status == "executing"
    say((f"porch/reply/{command.command_id}", {"epoch": 1, "status": "succeeded"}))
    session.commit()
    assert look(command).status == "executed"
