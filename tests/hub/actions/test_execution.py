"""What is approved is done once, as approved, and what came of it is told, whoever dies in the middle."""

import threading
from datetime import timedelta

import pytest
from sqlalchemy import text

from hub import audit
from hub.actions import deciding, execution, proposing, records, sweep
from hub.actions.proposing import Proposal
from hub.settings import Settings
from hub.tables import Agent, Space
from hub.tools import registry
from hub.tools.tool import Done, ToolError

from .conftest import NOW

ran: list[dict] = []
answers: dict[str, object] = {}

for name, repeatable in (("test_once", False), ("test_again", True)):
    if name not in registry.load():

        @registry.tool(
            name,
            about="a tool of the tests",
            schema={"type": "object"},
            risk="low",
            scopes=("test:run",),
            is_repeatable=repeatable,
            timeout_s=5,
        )
        def work(context, args):
            ran.append(dict(args) | {"attempt": context.attempt})
            answer = answers.get(args.get("do", ""), Done({"did": args.get("do")}))
            if isinstance(answer, BaseException):
                raise answer
            if isinstance(answer, threading.Event):
                answer.wait(30)
                return Done("late")
            return answer


@pytest.fixture(autouse=True)
def _nothing_ran():
    ran.clear()
    answers.clear()


@pytest.fixture
def settings(database):
    return Settings(database_url=database.url)


@pytest.fixture
def home(database):
    with database.transaction() as work:
        agent = Agent(name="Home")
        work.add(agent)
        work.flush()
        space = Space(agent_id=agent.agent_id, name="Hall")
        work.add(space)
        work.flush()
        return agent, space


@pytest.fixture
def approved(database, home, porch, ann):
    def approved(tool="test_once", **facts):
        agent, space = home
        with database.transaction() as work:
            proposal = Proposal(tool, **{"args": {"do": "x"}, "space_id": space.space_id} | facts)
            action = proposing.propose(work, agent.agent_id, proposal, proposer=porch, now=NOW).action
            return deciding.approve(work, agent.agent_id, action.action_id, by=ann, digest=action.digest, now=NOW)

    return approved


@pytest.fixture
def run(database, settings):
    def run(action, at=NOW):
        execution.run(database, settings, action.action_id, lambda: at)
        return look(database, action)

    return run


def look(database, action):
    with database.transaction() as work:
        return records.find(work, action.agent_id, action.action_id)


def results(database):
    with database.transaction() as work:
        rows = work.execute(text("SELECT space_id, payload FROM events WHERE type = 'action_result' ORDER BY event_no"))
        return [(row.space_id, row.payload) for row in rows]


def test_it_is_done_once_and_told(database, home, approved, run):
    action = approved()
    done = run(action)
    assert (done.status, done.result, done.error, done.completed_at) == ("executed", {"did": "x"}, None, NOW)
    assert [step.step for step in done.steps] == ["proposed", "approved", "executing", "executed"]
    told = {"action_id": str(action.action_id), "tool": "test_once", "status": "executed"}
    assert results(database) == [(home[1].space_id, told | {"result": {"did": "x"}, "error": None})]
    with database.transaction() as work:
        entries = audit.entries(work, action.agent_id, subject_id=action.action_id)
    assert [entry.action for entry in entries] == ["action.executed", "action.approved", "action.proposed"]
    assert run(action) == done  # the job comes again
    assert len(ran) == 1

    answers["odd"] = Done({"x": "\0"})
    assert run(approved(args={"do": "odd"})).result == {"left out": "the result holds the character U+0000"}
    answers["large"] = Done("x" * 70_000)
    assert "larger than 65,536 bytes" in run(approved(args={"do": "large"})).result["left out"]


def test_what_is_not_what_was_approved_is_not_done(database, approved, run, home):
    for change in (
        """payload = '{"do": "something else"}'""",
        "kind = 'test_again'",
        "space_id = NULL",
        "approved_digest = 'x'",
    ):
        action = approved()
        with database.transaction() as work:
            work.execute(text(f"UPDATE actions SET {change} WHERE action_id = :id"), {"id": action.action_id})
        found = run(action)
        assert (found.status, found.error) == ("failed", "it is not what was approved, so it was not done")
    gone = approved()
    with database.transaction() as work:
        work.execute(
            text("UPDATE actions SET run_after = :at WHERE action_id = :id"),
            {"at": NOW + timedelta(hours=1), "id": gone.action_id},
        )
    assert run(gone).status == "approved"
    with database.transaction() as work:
        work.execute(text("UPDATE agents SET disabled = true"))
    assert run(gone, NOW + timedelta(hours=2)).status == "approved"
    assert ran == []


def test_failures_are_what_they_are(database, approved, run):
    answers["no"] = ToolError("it cannot")
    answers["maybe"] = ToolError("it hung up", is_certain=False)
    answers["broken"] = RuntimeError("secret detail")
    for do, status, error in (
        ("no", "failed", "it cannot"),
        ("maybe", "unknown", "it hung up"),
        ("broken", "unknown", "the tool broke (RuntimeError); the hub's log says more"),
    ):
        found = run(approved(args={"do": do}))
        assert (found.status, found.error) == (status, error)
    assert [payload["status"] for _, payload in results(database)] == ["failed", "unknown", "unknown"]


def test_what_may_be_repeated_is_tried_again_more_and_more_slowly_and_not_for_ever(database, approved, run):
    answers["no"] = ToolError("it cannot")
    action = approved("test_again", args={"do": "no"})
    at, pauses = NOW, []
    for _ in range(execution.TRIES_MAX - 1):
        found = run(action, at)
        assert (found.status, found.error) == ("approved", "it cannot")
        assert run(action, found.run_after - timedelta(seconds=1)).status == "approved"
        pauses.append((found.run_after - at).total_seconds())
        at = found.run_after
    assert pauses == [5, 15, 45, 135]
    assert run(action, at).status == "failed"
    assert [one["attempt"] for one in ran] == [1, 2, 3, 4, 5]


def test_two_runners_and_one_action(database, settings, approved):
    actions = [approved() for _ in range(4)]
    threads = [
        threading.Thread(target=execution.run, args=(database, settings, action.action_id, lambda: NOW))
        for action in actions
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ran) == 4
    assert {look(database, action).status for action in actions} == {"executed"}


def test_a_runner_that_died_leaves_nothing_executing(database, approved, settings):
    once, again, told = approved(), approved("test_again"), approved()
    for action in (once, again, told):
        with database.transaction() as work:
            claimed = execution.claim(work, action.action_id, NOW)
    later = NOW + timedelta(seconds=60)
    with database.transaction() as work:
        sweep.sweep(work, NOW + timedelta(seconds=1))
    assert {look(database, action).status for action in (once, again, told)} == {"executing"}
    with database.transaction() as work:
        sweep.take_over(work)
    with database.transaction() as work:
        sweep.sweep(work, later.replace(year=2030))
    assert (look(database, once).status, look(database, once).error) == ("unknown", sweep.LOST_LEASE)
    assert look(database, again).status == "approved"
    # The one that was thought dead comes back: it holds nothing any more.
    with database.transaction() as work:
        execution.finish(work, claimed, Done("late"), later, is_repeatable=False)
    assert look(database, told).status == "unknown"


def test_what_nobody_decides_or_begins_runs_out_and_lost_jobs_are_put_again(database, approved, home, porch):
    agent, _ = home
    with database.transaction() as work:
        proposal = Proposal("test_once", ttl_s=60)
        waiting = proposing.propose(work, agent.agent_id, proposal, proposer=porch, now=NOW).action
    begun = approved()
    with database.transaction() as work:
        work.execute(text("DELETE FROM procrastinate_jobs"))
        sweep.sweep(work, NOW + timedelta(seconds=59))
        jobs = work.execute(text("SELECT args ->> 'action_id' FROM procrastinate_jobs")).scalars().all()
        sweep.sweep(work, NOW + timedelta(seconds=59))
        assert jobs == [str(begun.action_id)]
        assert work.execute(text("SELECT count(*) FROM procrastinate_jobs")).scalar_one() == 1
    assert look(database, waiting).status == "proposed"
    with database.transaction() as work:
        sweep.sweep(work, NOW + timedelta(seconds=60))
    assert look(database, waiting).status == "expired"
    with database.transaction() as work:
        sweep.sweep(work, NOW + timedelta(hours=1))
    found = look(database, begun)
    assert (found.status, found.steps[-1].note) == ("expired", "it could not be begun in time")


def test_a_tool_that_does_not_end_is_given_up(database, approved, run, monkeypatch):
    monkeypatch.setattr(execution, "OVERTIME_S", -4.8)
    for tool, status in (("test_once", "unknown"), ("test_again", "approved")):
        late = threading.Event()
        answers["wait"] = late
        action = approved(tool, args={"do": "wait"})
        found = run(action)
        assert (found.status, found.error) == (status, "it took longer than 5 s")
        late.set()
    assert len(ran) == 2


def test_of_a_private_space_nothing_is_told(database, approved, run, home):
    action = approved()
    with database.transaction() as work:
        work.execute(text("UPDATE spaces SET privacy_mode = true"))
    assert run(action).status == "executed"
    assert results(database) == []
