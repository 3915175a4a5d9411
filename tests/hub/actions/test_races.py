"""Approvers, a rejecter, somebody who takes back, runners, the sweep and a late device at once, in real transactions.

Whatever the interleaving: one decision counts, nothing is done twice, and the timeline is a walk through the table.
"""

import contextlib
import itertools
import random
import threading
import uuid
from datetime import timedelta

import pytest
from sqlalchemy import text

from hub import audit
from hub.actions import approval_rules, deciding, execution, proposing, records, sweep
from hub.actions.approval_rules import Rule, Rules
from hub.actions.proposing import Proposal
from hub.actions.states import STATUSES, may_become
from hub.errors import Conflict
from hub.settings import Settings
from hub.tables import Agent
from hub.tools import registry
from hub.tools.tool import Done

from .conftest import NOW, person

ROUNDS = 60
done: list[uuid.UUID] = []

if "test_race" not in registry.load():

    @registry.tool(
        "test_race", about="a tool of the tests", schema={"type": "object"}, risk="low", scopes=("test:run",)
    )
    def race(context, _args):
        done.append(context.action_id)
        return Done("done")


class House:
    """An agent of which two people have to say yes, and what may happen to an action of it."""

    def __init__(self, database, porch) -> None:
        self.database = database
        self.settings = Settings(database_url=database.url)
        self.porch = porch
        self.outcomes: list[tuple[uuid.UUID, str]] = []
        with database.transaction() as work:
            agent = Agent(name="Home")
            work.add(agent)
            work.flush()
            self.agent_id = agent.agent_id
            approval_rules.change(work, agent.agent_id, Rules(low=Rule("member", 2)), by="ann@example.org")

    def propose(self):
        with self.database.transaction() as work:
            proposal = Proposal("test_race", ttl_s=60)
            return proposing.propose(work, self.agent_id, proposal, proposer=self.porch, now=NOW).action

    def decide(self, what, action, who) -> None:
        facts = {"digest": action.digest} if what == "approve" else {}
        with self.database.transaction() as work:
            getattr(deciding, what)(work, self.agent_id, action.action_id, by=who, now=NOW, **facts)

    def run(self, action) -> None:
        execution.run(self.database, self.settings, action.action_id, lambda: NOW)

    def recover(self, action) -> None:
        with self.database.transaction() as work:
            work.execute(
                text("UPDATE actions SET lease_until = :now WHERE action_id = :id AND status = 'executing'"),
                {"id": action.action_id, "now": NOW},
            )
            sweep.sweep(work, NOW + timedelta(seconds=30))

    def late(self, action) -> None:
        with self.database.transaction() as work:
            execution.end(work, action.action_id, "executed", NOW, witness="porch", note="late")

    def steps(self, action):
        return [
            (action, "approve", lambda: self.decide("approve", action, person("ann", "owner"))),
            (action, "approve", lambda: self.decide("approve", action, person("bob", "member"))),
            (action, "approve", lambda: self.decide("approve", action, person("cat", "member"))),
            (action, "reject", lambda: self.decide("reject", action, person("dan", "admin"))),
            (action, "cancel", lambda: self.decide("cancel", action, person("eve", "admin"))),
            (action, "run", lambda: self.run(action)),
            (action, "run", lambda: self.run(action)),
            (action, "recover", lambda: self.recover(action)),
            (action, "late", lambda: self.late(action)),
        ]

    def work(self, todo) -> None:
        """Take steps until there are none; popping from a list is one operation."""
        while todo:
            try:
                action, what, step = todo.pop()
            except IndexError:
                return
            with contextlib.suppress(Conflict):
                step()
                self.outcomes.append((action.action_id, what))

    def judge(self, action) -> str:
        """Hold the action, its timeline and its audit to one another; how it ended."""
        with self.database.transaction() as work:
            final = records.find(work, self.agent_id, action.action_id)
            entries = [one.action for one in audit.entries(work, self.agent_id, subject_id=action.action_id)]
        walk = [step.step for step in final.steps if step.step in STATUSES]
        assert walk[0] == "proposed"
        assert walk[-1] == final.status
        assert all(may_become(before, after) for before, after in itertools.pairwise(walk)), walk
        assert done.count(action.action_id) == walk.count("executing") <= 1
        said_yes = self.outcomes.count((action.action_id, "approve"))
        assert len(final.said_yes) == said_yes
        assert ("approved" in walk) == (said_yes >= 2)
        for what in ("rejected", "cancelled", "approved"):
            assert entries.count(f"action.{what}") == walk.count(what) <= 1
        return final.status


@pytest.mark.parametrize("seed", [1, 2])
def test_any_interleaving_ends_in_one_truth(database, porch, seed):
    chance = random.Random(seed)
    done.clear()
    house = House(database, porch)
    actions = [house.propose() for _ in range(ROUNDS)]
    # The steps of three actions, mixed, by four threads.
    for some in zip(*[iter(actions)] * 3, strict=True):
        todo = [step for action in some for step in house.steps(action)]
        chance.shuffle(todo)
        threads = [threading.Thread(target=house.work, args=(todo,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert {"executed", "rejected", "cancelled"} <= {house.judge(action) for action in actions}
