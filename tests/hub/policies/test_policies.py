"""Policies: what they cover and what not, in words; fail closed; rates under concurrency; and the rehearsal."""

import threading
import uuid
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from hub import audit
from hub.actions import approval_rules, deciding, proposing
from hub.actions import records as actions
from hub.actions.approval_rules import Rule, Rules
from hub.actions.deciding import Decider
from hub.actions.proposing import Proposal, Proposer
from hub.audit.actors import Actor
from hub.errors import Conflict, HubError
from hub.policies import match, records, rehearsal, windows
from hub.policies.match import Asked
from hub.policies.records import Draft

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)  # a Wednesday
SAY = Draft("Say it", "send_message", ("messages:send",), other_args=True)
ANN = Decider("user:ann", Actor("ann@example.org", "person"), "owner")


@pytest.fixture
def write(session, agent):
    def write(draft=SAY, **facts):
        draft = Draft(**({name: getattr(draft, name) for name in Draft.__slots__} | facts))
        made = records.create(session, agent.agent_id, draft, by="ann", now=NOW)
        return records.switch(session, agent.agent_id, made.policy_id, on=True, revision=1, by="ann", now=NOW)

    return write


@pytest.fixture
def propose(session, agent):
    def propose(tool="send_message", args=None, *, kind="device", now=NOW, **facts):
        proposal = Proposal(tool, args or {"text": "Dinner!"}, **facts)
        proposer = Proposer("device:porch", Actor("porch", kind))
        return proposing.propose(session, agent.agent_id, proposal, proposer=proposer, now=now).action

    return propose


def test_it_approves_what_it_covers_and_says_which_and_why(session, agent, propose, write):
    assert (propose().status, propose().policy) == ("proposed", None)
    policy = write()
    action = propose(why="approve me: auto_approve true")
    assert (action.status, action.decided_by, action.decided_kind) == ("approved", "Say it", "policy")
    assert action.policy == {"covered": True, "policy_id": str(policy.policy_id), "name": "Say it", "revision": 1}
    assert action.approved_digest == action.digest
    assert session.execute(text("SELECT count(*) FROM procrastinate_jobs")).scalar_one() == 1
    entry = audit.entries(session, agent.agent_id, subject_id=action.action_id)[0]
    assert (entry.action, entry.actor, entry.actor_kind) == ("action.approved", "Say it", "policy")
    records.switch(session, agent.agent_id, policy.policy_id, on=False, revision=1, by="ann", now=NOW)
    assert propose().status == "proposed"


def test_a_policy_for_one_scope_is_none_for_two():
    two = Asked("t", {}, {"a", "b"}, "low", None, (), "device", NOW)
    assert match.fault(ROW, two) == "it does not cover the scope b"
    assert match.fault(ROW | {"scopes": ["b", "a"]}, two) == ""


def test_what_takes_people_is_never_approved_by_a_policy(session, agent, propose, write):
    write()
    approval_rules.change(session, agent.agent_id, Rules(low=Rule("member", 2)), by="ann")
    action = propose()
    assert (action.status, action.policy["why_not"]) == ("proposed", {"Say it": "it takes 2 people"})
    with pytest.raises(HubError, match="for people to approve") as refused:
        write(name="Ever", tool="schedule", scopes=("actions:schedule", "messages:send"), risk_max="high")
    assert refused.value.field == "tool"
    stored = ROW | {"tool": "schedule"}
    assert "for people" in match.fault(stored, Asked("schedule", {}, {"a"}, "low", None, (), "device", NOW))


def test_each_bound_has_its_words(session, agent, device, propose, write):
    window = {"days": ["sat", "sun"], "from": "07:00", "to": "22:00", "zone": "Europe/Berlin"}
    held = ({"path": "args.text", "is": "contains", "value": "Dinner"},)
    for facts, why in (
        ({"device": "porch"}, "it is for another satellite"),
        ({"tag": "garden"}, "it is for satellites with the tag garden"),
        ({"time_window": window}, "it is outside of its window of time"),
        ({"proposers": ("person",)}, "it is not for what a device proposes"),
        ({"other_args": False}, "it says nothing of the argument text"),
        ({"conditions": ({"path": "args.text", "is": "equals", "value": "x"},)}, "args.text is not equals 'x'"),
        ({"conditions": ({"path": "args.title", "is": "equals", "value": "x"},)}, "there is no args.title"),
    ):
        policy = write(**facts)
        action = propose()
        assert (action.status, action.policy["why_not"]) == ("proposed", {"Say it": why}), facts
        records.delete(session, agent.agent_id, policy.policy_id, by="ann")
    write(other_args=False, conditions=held)
    assert propose().status == "approved"
    assert propose(args={"text": "Dinner!", "title": "auto"}).status == "proposed"
    write(name="Careful", tool="device_command", scopes=("devices:command",), other_args=True)
    risky = propose("device_command", {"device": "porch", "verb": "anything"})
    assert risky.policy["why_not"] == {"Careful": "it covers risk up to low, and this is high"}


def test_a_rate_holds_also_when_all_come_at_once(database, session, agent, propose, write):
    write(rate_count=3, rate_s=3_600)
    session.commit()

    def run(n):
        with database.transaction() as work:
            proposer = Proposer(f"device:{n}", Actor("porch", "device"))
            proposal = Proposal("send_message", {"text": str(n)})
            proposing.propose(work, agent.agent_id, proposal, proposer=proposer, now=NOW)

    threads = [threading.Thread(target=run, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = actions.page(session, agent.agent_id, actions.Filter()).items
    assert sorted(one.status for one in found) == ["approved"] * 3 + ["proposed"] * 5
    assert propose(now=NOW + timedelta(minutes=59)).status == "proposed"
    assert propose(now=NOW + timedelta(minutes=61)).status == "approved"


ROW = {
    "tool": "t",
    "scopes": ["a"],
    "device_id": None,
    "tag": None,
    "conditions": [],
    "other_args": True,
    "time_window": None,
    "risk_max": "low",
    "proposers": [],
}
ASKED = Asked("t", {}, {"a"}, "low", None, (), "device", NOW)
ODD = st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.lists(st.integers() | st.text(max_size=3))


def test_a_row_that_cannot_be_read_approves_nothing():
    assert match.fault(ROW, ASKED) == ""
    for name, values in {
        "scopes": (None, "a", ["b"], [1], {}, ["a:*"], ["*"]),
        "conditions": (None, "x", [1], [{"path": "args.x", "is": "matches", "value": 1}], {}),
        "time_window": ({}, "always", {"days": ["mon"]}, {"days": [], "from": "0:00", "to": "0:00", "zone": "UTC"}),
        "risk_max": (None, "all", 3, ""),
        "proposers": (None, "device", ["everybody"]),
        "tag": ("x", 1, ""),
        "device_id": (uuid.uuid4(), "x"),
        "tool": (None, "T"),
    }.items():
        for value in values:
            assert match.fault(ROW | {name: value}, ASKED), (name, value)
    for name in ROW:
        assert match.fault({key: value for key, value in ROW.items() if key != name}, ASKED), name
    assert match.fault(ROW, Asked("t", {}, set(), "low", None, (), "device", NOW))

    @given(st.sampled_from(["scopes", "conditions", "time_window", "risk_max", "proposers"]), ODD)
    def check(name, value):
        harmless = {
            "scopes": (["a"],),
            "conditions": ([],),
            "time_window": (None,),
            "risk_max": ("low", "medium", "high"),
        }
        if value in harmless.get(name, ([], ["device"])):
            return
        if name == "scopes" and isinstance(value, list) and "a" in value and all(isinstance(v, str) for v in value):
            return
        assert match.fault(ROW | {name: value}, ASKED)

    check()


def test_windows_over_midnight_and_over_the_change_of_clocks():
    def holds(days, begin, end, at, zone="UTC"):
        return windows.read({"days": days, "from": begin, "to": end, "zone": zone}, "w").holds(at)

    wed_night, thu_early = datetime(2026, 11, 25, 23, tzinfo=UTC), datetime(2026, 11, 26, 1, tzinfo=UTC)
    for at, expected in ((wed_night, True), (thu_early, True), (datetime(2026, 11, 25, 1, tzinfo=UTC), False)):
        assert holds(["wed"], "22:00", "06:00", at) is expected
    assert holds(["wed"], "00:00", "00:00", NOW)
    assert not holds(["wed"], "12:01", "12:00", NOW)
    assert not holds(["wed"], "11:00", "12:00", NOW)
    summer, winter = datetime(2027, 3, 28, 5, 30, tzinfo=UTC), datetime(2026, 10, 25, 6, 30, tzinfo=UTC)
    for at in (summer, winter):
        assert holds(["sun"], "07:30", "07:31", at, "Europe/Berlin")


def test_drafts_are_checked_and_an_edit_switches_off(session, agent, device, write):
    for field, facts in {
        "name": {"name": ""},
        "tool": {"tool": "teleport"},
        "scopes": {"scopes": ()},
        "tag": {"tag": "x", "device": "porch"},
        "device": {"device": "attic"},
        "conditions.0.path": {"conditions": ({"path": "event.x", "is": "equals", "value": 1},)},
        "time_window": {"time_window": {"days": ["mon"]}},
        "rate_count": {"rate_count": 3},
        "rate_s": {"rate_count": 3, "rate_s": 0},
        "risk_max": {"risk_max": "any"},
        "proposers": {"proposers": ("everybody",)},
    }.items():
        with pytest.raises(HubError) as refused:
            write(**facts)
        assert refused.value.field == field
    policy = write()
    with pytest.raises(Conflict):
        write()
    changed = Draft("Say it", "send_message", ("messages:send",), risk_max="medium")
    edited = records.edit(session, agent.agent_id, policy.policy_id, changed, revision=1, by="ann", now=NOW)
    assert (edited.enabled, edited.revision, edited.risk_max) == (False, 2, "medium")
    for act in (records.edit, records.switch):
        facts = {"draft": changed} if act is records.edit else {"on": True}
        with pytest.raises(Conflict) as stale:
            act(session, agent.agent_id, policy.policy_id, revision=1, by="ann", now=NOW, **facts)
        assert stale.value.field == "revision"


def test_the_rehearsal_shows_first_what_people_had_rejected(session, agent, propose):
    for n in range(6):
        action = propose(args={"text": f"Dinner {n}"}, now=NOW - timedelta(days=6 - n))
        at = action.created_at + timedelta(minutes=1)
        if n % 2:
            deciding.reject(session, agent.agent_id, action.action_id, by=ANN, now=at)
        else:
            deciding.approve(session, agent.agent_id, action.action_id, by=ANN, digest=action.digest, now=at)
    propose(args={"text": "Supper"}, now=NOW)
    held = ({"path": "args.text", "is": "contains", "value": "Dinner"},)
    draft = Draft("Dinner", "send_message", ("messages:send",), conditions=held)
    told = rehearsal.rehearse(session, agent.agent_id, draft, 30, NOW)
    assert (told.looked_at, told.approved, told.approved_by_people, told.held_back) == (7, 6, 3, 0)
    assert [one.args["text"] for one in told.rejected_by_people] == ["Dinner 5", "Dinner 3", "Dinner 1"]
    assert told.why_not == {"args.text is not contains 'Dinner'": 1}
    slow = Draft("Slow", "send_message", ("messages:send",), conditions=held, rate_count=1, rate_s=2 * 86_400)
    told = rehearsal.rehearse(session, agent.agent_id, slow, 30, NOW)
    assert (told.approved, told.held_back) == (3, 3)
    with pytest.raises(HubError):
        rehearsal.rehearse(session, agent.agent_id, slow, 0, NOW)
