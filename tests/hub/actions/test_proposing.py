"""Proposals: what is refused, what is stored once, and what a proposer may leave waiting."""

import threading
import uuid

import pytest
from sqlalchemy import text

from hub import audit
from hub.actions import proposing, records
from hub.actions.proposing import Proposal
from hub.errors import Conflict, Invalid, NotFound, Throttled
from hub.tables import Agent, Event, Space

from .conftest import NOW


def count(session):
    return session.execute(text("SELECT count(*) FROM actions")).scalar_one()


def test_what_is_wrong_is_named_and_nothing_is_stored(session, agent, propose):
    other = Agent(name="Elsewhere")
    session.add(other)
    session.flush()
    space = Space(agent_id=other.agent_id, name="Vault")
    event = Event(agent_id=other.agent_id, type="door_open")
    session.add_all([space, event])
    session.flush()
    for field, facts in {
        "tool": {"tool": "teleport"},
        "args.colour": {"args": {}},
        "args.coats": {"args": {"colour": "red", "coats": 0}},
        "args": {"args": {"colour": "red", "auto_approve": True}},
        "why": {"why": "x" * 1_001},
        "key": {"key": "two words"},
        "ttl_s": {"ttl_s": 0},
        "space": {"space_id": space.space_id},
        "cause_event_id": {"cause_event_id": event.event_id},
    }.items():
        with pytest.raises((Invalid, NotFound)) as refused:
            propose(**facts)
        assert refused.value.field == field
    with pytest.raises(Invalid, match="U\\+0000"):
        propose(why="a\0b")
    agent.disabled = True
    session.add(agent)
    session.flush()
    with pytest.raises(Conflict, match="disabled"):
        propose()
    assert count(session) == 0


def test_a_proposal_says_who_and_why_and_waits_for_people(session, agent, propose):
    event = Event(agent_id=agent.agent_id, type="door_open")
    session.add(event)
    session.flush()
    proposed = propose(why=" the door is grey ", cause_event_id=event.event_id, args={"colour": "red", "risk": "high"})
    found = records.find(session, agent.agent_id, proposed.action.action_id)
    assert found == proposed.action
    assert (found.status, found.risk, found.scopes) == ("proposed", "high", ["paint:write"])
    assert (found.proposed_by, found.proposer_kind, found.why) == ("porch", "device", "the door is grey")
    assert found.cause_event_id == event.event_id
    assert (found.expires_at - NOW).total_seconds() == 86_400
    assert [(step.step, step.witness) for step in found.steps] == [("proposed", "porch")]
    [entry] = audit.entries(session, agent.agent_id, subject_id=found.action_id)
    assert (entry.action, entry.actor, entry.actor_kind) == ("action.proposed", "porch", "device")
    with pytest.raises(NotFound):
        records.find(session, uuid.uuid4(), found.action_id)


def test_a_key_stands_for_one_action_whatever_people_edited_since(session, agent, propose, porch):
    first = propose(key="k1")
    again = propose(key="k1", args={"colour": "red"})
    assert (again.is_new, again.action.action_id) == (False, first.action.action_id)
    session.execute(text("UPDATE actions SET payload = '{}', digest = 'edited'"))
    assert propose(key="k1").action.action_id == first.action.action_id
    with pytest.raises(Conflict) as refused:
        propose(key="k1", args={"colour": "blue"})
    assert refused.value.field == "key"
    other = proposing.Proposer("user:ann", porch.label)
    assert propose(key="k1", args={"colour": "blue"}, proposer=other).is_new
    assert propose().action.action_id != propose().action.action_id


def test_the_same_key_at_the_same_moment_is_one_action(database, session, agent, porch):
    session.commit()
    found = []

    def run():
        with database.transaction() as work:
            proposal = Proposal("test_paint", {"colour": "red"}, key="once")
            found.append(proposing.propose(work, agent.agent_id, proposal, proposer=porch, now=NOW))

    threads = [threading.Thread(target=run) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({one.action.action_id for one in found}) == 1
    assert sum(one.is_new for one in found) == 1


def test_nobody_buries_the_proposals_of_others(session, agent, propose, porch, monkeypatch):
    monkeypatch.setattr(proposing, "WAITING_MAX", 3)
    for _ in range(3):
        propose()
    with pytest.raises(Throttled, match="3 of your proposals wait"):
        propose()
    propose(proposer=proposing.Proposer("device:gate", porch.label))
    session.execute(
        text("UPDATE actions SET status = 'cancelled', completed_at = now() WHERE proposer = 'device:porch'")
    )
    propose()
