"""Integrations ask: proposals and decisions over MQTT, each within its scopes, answered, and told once."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from hub import audit, integration_scopes, integrations, outbox
from hub.actions import proposing, records
from hub.actions.proposing import Proposal, Proposer
from hub.actions.records import Filter
from hub.audit.actors import Actor
from hub.errors import Conflict, HubError
from hub.inbox import ext, router
from hub.inbox.envelope import Incoming

BOTH = ("actions:propose", "actions:approve")
NOW = datetime.now(UTC)


@pytest.fixture
def ha(session, agent):
    return integrations.add(session, agent.agent_id, "HA", by="ann", handle="ha").integration


@pytest.fixture
def allow(session, agent, ha):
    def allow(*scopes, role="member"):
        integration_scopes.change(session, agent.agent_id, ha.integration_id, scopes, role, by="ann@example.org")

    return allow


@pytest.fixture
def ask(session):
    def ask(topic, payload=None, at=NOW):
        session.flush()
        session.execute(text("DELETE FROM outbox"))
        encoded = payload if isinstance(payload, bytes) else json.dumps(payload or {}).encode()
        outcome = router.process(session, [Incoming(f"marvain/v1/ext/{topic}", encoded, False, at)], "marvain/v1")
        outbox.flush(session)
        rows = session.execute(text("SELECT topic, payload FROM outbox ORDER BY outbox_id")).all()
        answers = {row.topic: json.loads(row.payload) for row in rows if "/response/" in row.topic}
        return answers or [one.reason for one in outcome.refusals]

    return ask


def problem(answers):
    [(_, answer)] = answers.items()
    assert not answer["ok"]
    return answer["error"]["code"], answer["error"].get("field")


def waiting(session, agent):
    return records.page(session, agent.agent_id, Filter()).items


def test_closed_doors_first(session, agent, device, ha, allow, ask):
    assert problem(ask("ha/porch/ping")) == ("forbidden", None)
    assert problem(ask("ha/actions/propose/r1", {"tool": "send_message", "args": {"text": "x"}})) == ("forbidden", None)
    assert problem(ask("ha/actions/00000000-0000-4000-8000-000000000000/approve")) == ("forbidden", None)
    assert ask("nobody/porch/ping") == ["no integration with this handle may ask"]
    assert ask("ha/porch/ping", b"[]") == ["expected `object`, got `array`"]
    assert ask("ha/porch/ping/more") == []
    allow(*BOTH)
    assert problem(ask("ha/attic/ping")) == ("not_found", "args.device")
    assert problem(ask("ha/actions/nonsense/approve")) == ("not_found", None)
    assert problem(ask("ha/actions/propose/r1", {"tool": "teleport"})) == ("invalid", "tool")
    for facts in ({"scopes": ("everything",)}, {"decides_as": "owner"}):
        wanted = {"scopes": BOTH, "decides_as": "member"} | facts
        with pytest.raises(HubError):
            integration_scopes.change(session, agent.agent_id, ha.integration_id, **wanted, by="ann")
    integrations.revoke(session, agent.agent_id, ha.integration_id, by="ann")
    assert ask("ha/porch/ping") == ["no integration with this handle may ask"]
    with pytest.raises(Conflict):
        integration_scopes.change(session, agent.agent_id, ha.integration_id, (), "member", by="ann")
    assert waiting(session, agent) == []


def test_it_asks_and_never_tells(session, agent, device, say, allow, ask):
    allow("actions:propose")
    say(("porch/state", {"state": "online", "epoch": 1}))
    answer = ask("ha/porch/ping", {"why": "the bell", "ttl_s": 30})["out/ha/response/ping"]
    assert (answer["ok"], answer["body"]["status"], answer["body"]["proposed_by"]) == (True, "proposed", "ext_ha")
    assert answer["body"]["args"] == {"device": "porch", "verb": "ping", "ttl_s": 30.0}
    assert session.execute(text("SELECT count(*) FROM commands")).scalar_one() == 0
    again = ask("ha/porch/ping", {"why": "the bell", "ttl_s": 30}, at=NOW)["out/ha/response/ping"]
    assert again["body"]["action_id"] == answer["body"]["action_id"]
    later = ask("ha/porch/ping", {"why": "the bell", "ttl_s": 30}, at=NOW + timedelta(seconds=30))
    assert later["out/ha/response/ping"]["body"]["action_id"] != answer["body"]["action_id"]
    wish = {"tool": "send_message", "args": {"text": "Dinner!"}}
    first, second = ask("ha/actions/propose/r1", wish), ask("ha/actions/propose/r1", wish)
    assert first == second
    assert len(waiting(session, agent)) == 3


def test_it_decides_as_what_it_was_given_and_on_what_it_saw(session, agent, device, allow, ask):
    allow(*BOTH)
    porch = Proposer("device:porch", Actor("porch", "device"))

    def propose(tool="send_message", args=None):
        proposal = Proposal(tool, args or {"text": "Dinner!"})
        return proposing.propose(session, agent.agent_id, proposal, proposer=porch, now=NOW).action

    action = propose()
    outbox.flush(session)
    told = session.execute(text("SELECT payload FROM outbox WHERE topic = 'out/ha/actions'")).scalars().all()
    pending = json.loads(told[-1])
    assert (pending["action_id"], pending["status"]) == (str(action.action_id), "proposed")
    path = f"ha/actions/{action.action_id}"
    assert problem(ask(f"{path}/approve", {"digest": "0" * 64})) == ("conflict", "digest")
    assert problem(ask(f"{path}/forget")) == ("invalid", "topic")
    answer = ask(f"{path}/approve", {"digest": pending["digest"], "reason": "the button"})
    body = answer[f"out/ha/response/{action.action_id}"]["body"]
    assert (body["status"], body["decided_by"], body["decision_reason"]) == ("approved", "ext_ha", "the button")
    entry = audit.entries(session, agent.agent_id, subject_id=action.action_id)[0]
    assert (entry.actor, entry.actor_kind) == ("ext_ha", "integration")
    assert problem(ask(f"{path}/reject")) == ("conflict", None)
    high = propose("device_command", {"device": "porch", "verb": "anything"})
    assert problem(ask(f"ha/actions/{high.action_id}/approve", {"digest": high.digest})) == ("forbidden", None)
    allow(*BOTH, role="admin")
    answer = ask(f"ha/actions/{high.action_id}/reject")
    assert answer[f"out/ha/response/{high.action_id}"]["body"]["status"] == "rejected"
    changed = audit.entries(session, agent.agent_id, matching=audit.Filter(action="integration.scopes_changed"))
    assert changed[0].after == {"scopes": list(BOTH), "decides_as": "admin"}


def test_a_flood_is_looked_at_up_to_a_bound_and_shown_on_its_page(session, agent, allow):
    allow("actions:propose")
    wish = json.dumps({"tool": "send_message", "args": {"text": "Dinner!"}}).encode()
    flood = [Incoming(f"marvain/v1/ext/ha/actions/propose/r{n}", wish, False, NOW) for n in range(100)]
    outcome = router.process(session, flood, "marvain/v1")
    outbox.flush(session)
    rows = session.execute(text("SELECT payload FROM outbox WHERE topic LIKE 'out/ha/response/%'")).scalars()
    assert sorted(json.loads(one)["ok"] for one in rows) == [False] * ext.AT_ONCE + [True] * ext.AT_ONCE
    assert len(waiting(session, agent)) == ext.AT_ONCE
    assert [(one.principal, one.reason) for one in outcome.refusals] == [("ext_ha", ext.TOO_MANY)] * (100 - ext.AT_ONCE)
    # The next batch begins anew.
    router.process(session, flood[20:30], "marvain/v1")
    assert len(waiting(session, agent)) == ext.AT_ONCE + 10
