"""Decisions: who may, on what exactly, how many it takes, and what comes of it."""

import threading
import uuid
from datetime import timedelta

import pytest
from sqlalchemy import text

from hub import audit
from hub.actions import approval_rules, deciding, queue, records
from hub.actions.approval_rules import Rule, Rules
from hub.errors import Conflict, Forbidden, Invalid, NotFound

from .conftest import NOW, person


@pytest.fixture
def decide(session, agent):
    def decide(what, action, **facts):
        if what == "approve":
            facts = {"digest": action.digest} | facts
        return getattr(deciding, what)(session, agent.agent_id, action.action_id, now=NOW, **facts)

    return decide


def jobs(session):
    rows = session.execute(text("SELECT queue_name, task_name, args FROM procrastinate_jobs ORDER BY id"))
    return [tuple(row) for row in rows]


def test_closed_doors_first(session, agent, propose, decide, ann, bob):
    high = propose(args={"colour": "red", "risk": "high"}).action
    for what in ("approve", "reject", "cancel"):
        for stranger in (bob, person("gus", "guest"), person("blocked", "blocked"), person("odd", "")):
            with pytest.raises(Forbidden, match="take the role admin"):
                decide(what, high, by=stranger)
    with pytest.raises(NotFound):
        deciding.approve(session, uuid.uuid4(), high.action_id, by=ann, digest=high.digest, now=NOW)
    with pytest.raises(Conflict) as refused:
        decide("approve", high, by=ann, digest="0" * 64)
    assert refused.value.field == "digest"
    with pytest.raises(Invalid) as invalid:
        decide("reject", high, by=ann, reason="x" * 1_001)
    assert invalid.value.field == "reason"
    with pytest.raises(Conflict, match="has run out"):
        deciding.approve(
            session, agent.agent_id, high.action_id, by=ann, digest=high.digest, now=NOW + timedelta(days=1)
        )
    agent.disabled = True
    session.add(agent)
    session.flush()
    with pytest.raises(Conflict, match="disabled"):
        decide("approve", high, by=ann)
    assert records.find(session, agent.agent_id, high.action_id).status == "proposed"
    assert jobs(session) == []


def test_a_yes_is_stored_with_all_that_it_was_and_queued_once(session, agent, propose, decide, bob, ann):
    action = propose().action
    approved = decide("approve", action, by=bob, reason=" fine ")
    assert (approved.status, approved.approved_digest, approved.approved_at) == ("approved", action.digest, NOW)
    assert (approved.decided_by, approved.decided_kind, approved.decision_reason) == (str(bob.label), "person", "fine")
    assert [(yes.label, yes.reason, yes.counts) for yes in approved.said_yes] == [(str(bob.label), "fine", True)]
    assert [step.step for step in approved.steps] == ["proposed", "approved"]
    assert jobs(session) == [(queue.QUEUE, queue.TASK, {"action_id": str(action.action_id)})]
    entry = audit.entries(session, agent.agent_id, subject_id=action.action_id)[0]
    assert (entry.action, entry.actor, entry.after["digest"]) == ("action.approved", str(bob.label), action.digest)
    for what in ("approve", "reject"):
        with pytest.raises(Conflict, match=f"it is approved already by {bob.label}"):
            decide(what, action, by=ann)
    assert decide("cancel", action, by=ann).status == "cancelled"


def test_it_takes_as_many_as_the_rules_say_each_once_and_an_edit_begins_anew(session, agent, propose, decide, ann):
    rules = Rules(high=Rule("admin", 2), expires_s=600)
    approval_rules.change(session, agent.agent_id, rules, by="ann@example.org")
    action = propose(args={"colour": "red", "risk": "high"}).action
    assert (action.approvals_needed, (action.expires_at - NOW).total_seconds()) == (2, 600)
    once = decide("approve", action, by=ann)
    assert (once.status, once.approvals, [step.step for step in once.steps]) == (
        "proposed",
        1,
        ["proposed", "approval"],
    )
    with pytest.raises(Conflict, match="you have said yes already"):
        decide("approve", action, by=ann)
    cat = person("cat", "admin")
    edited = decide("edit", once, by=cat, args={"colour": "blue", "risk": "low"}, revision=1)
    assert (edited.revision, edited.risk, edited.approvals, edited.approvals_needed) == (2, "low", 0, 2)
    assert [yes.counts for yes in edited.said_yes] == [False]
    with pytest.raises(Conflict) as stale:
        decide("approve", action, by=cat)
    assert stale.value.field == "digest"
    with pytest.raises(Conflict) as stale:
        decide("edit", once, by=ann, args={"colour": "green"}, revision=1)
    assert stale.value.field == "revision"
    with pytest.raises(Invalid) as invalid:
        decide("edit", edited, by=ann, args={"colour": 7}, revision=2)
    assert invalid.value.field == "args.colour"
    assert decide("approve", edited, by=ann).status == "proposed"
    done = decide("approve", edited, by=cat)
    assert (done.status, done.args, len(jobs(session))) == ("approved", {"colour": "blue", "risk": "low"}, 1)
    step = next(one for one in done.steps if one.step == "edited")
    assert step.detail == {"before": {"colour": "red", "risk": "high"}, "after": {"colour": "blue", "risk": "low"}}


def test_nobody_edits_an_action_into_what_they_may_not_decide(propose, decide, bob):
    action = propose().action
    with pytest.raises(Forbidden, match="high risk take the role admin"):
        decide("edit", action, by=bob, args={"colour": "red", "risk": "high"}, revision=1)


def test_one_no_is_enough_and_a_proposer_may_take_back(session, propose, decide, ann, bob):
    rejected = decide("reject", propose().action, by=bob, reason="no")
    assert (rejected.status, rejected.decided_by, rejected.completed_at) == ("rejected", str(bob.label), NOW)
    own = propose(args={"colour": "red", "risk": "high"}, proposer=bob).action
    assert decide("cancel", own, by=bob, reason="never mind").status == "cancelled"
    with pytest.raises(Conflict, match="cannot be taken back"):
        decide("cancel", own, by=ann)
    assert jobs(session) == []


def test_of_many_at_once_one_wins(database, session, agent, propose):
    action = propose().action
    session.commit()
    outcomes = []

    def run(what, who):
        try:
            with database.transaction() as work:
                facts = {"digest": action.digest} if what == "approve" else {}
                getattr(deciding, what)(work, agent.agent_id, action.action_id, by=who, now=NOW, **facts)
            outcomes.append(what)
        except Conflict:
            outcomes.append("conflict")

    threads = [
        threading.Thread(target=run, args=(what, person(f"p{n}", "admin")))
        for n, what in enumerate(["approve", "reject"] * 4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes.count("conflict") == 7
    final = records.find(session, agent.agent_id, action.action_id)
    assert len(jobs(session)) == (1 if final.status == "approved" else 0)
    assert [step.step for step in final.steps] == ["proposed", final.status]


def test_rules_are_checked_and_two_editors_told(session, agent):
    for field, rules in {
        "low_role": Rules(low=Rule("guest")),
        "high_approvals": Rules(high=Rule("admin", 10)),
        "expires_s": Rules(expires_s=59),
    }.items():
        with pytest.raises(Invalid) as refused:
            approval_rules.change(session, agent.agent_id, rules, by="ann@example.org")
        assert refused.value.field == field
    assert approval_rules.view(session, agent.agent_id) == Rules()
    assert approval_rules.change(session, agent.agent_id, Rules(), by="ann@example.org") == Rules()
    changed = approval_rules.change(session, agent.agent_id, Rules(low=Rule("owner")), by="ann@example.org")
    assert (changed.revision, changed.low, changed.may_decide("admin", "low")) == (1, Rule("owner"), False)
    with pytest.raises(Conflict) as refused:
        approval_rules.change(session, agent.agent_id, Rules(low=Rule("admin")), by="bob@example.org")
    assert refused.value.field == "revision"
    [entry] = audit.entries(session, agent.agent_id)
    assert (entry.action, entry.before["low_role"], entry.after["low_role"]) == (
        "approval_rules.changed",
        "member",
        "owner",
    )
