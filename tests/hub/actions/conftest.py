"""A tool of the tests' own, people of each role, and a way to propose."""

import uuid
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from hub.actions import proposing
from hub.actions.deciding import Decider
from hub.actions.proposing import Proposal, Proposer
from hub.audit.actors import Actor
from hub.tools import registry
from hub.tools.tool import Done, Need

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)

if "test_paint" not in registry.load():

    @registry.tool(
        "test_paint",
        about="paint something",
        schema={
            "type": "object",
            "properties": {
                "colour": {"type": "string", "maxLength": 20},
                "coats": {"type": "integer", "minimum": 1},
                "risk": {"enum": ["low", "medium", "high"]},
            },
            "required": ["colour"],
            "additionalProperties": False,
        },
        risk="low",
        scopes=("paint:write",),
        is_repeatable=True,
        weigh=lambda _session, _agent, args: Need(args.get("risk", "low"), ("paint:write",)),
    )
    def paint(_context, args):
        return Done({"painted": args["colour"]})


def person(name: str, role: str) -> Decider:
    return Decider(f"user:{uuid.uuid5(uuid.NAMESPACE_DNS, name)}", Actor(f"{name}@example.org", "person"), role)


@pytest.fixture
def ann() -> Decider:
    return person("ann", "owner")


@pytest.fixture
def bob() -> Decider:
    return person("bob", "member")


@pytest.fixture
def porch() -> Proposer:
    return Proposer("device:porch", Actor("porch", "device"))


@pytest.fixture
def propose(session, agent, porch) -> Callable:
    def propose(tool: str = "test_paint", *, proposer: Proposer | None = None, now: datetime = NOW, **facts):
        facts = {"args": {"colour": "red"}} | facts
        return proposing.propose(session, agent.agent_id, Proposal(tool, **facts), proposer=proposer or porch, now=now)

    return propose
