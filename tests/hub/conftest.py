"""Factories for the domain: an agent, devices of it, and messages as the broker would hand them over."""

import json
import uuid
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from sqlmodel import Session

from hub import devices
from hub.inbox import router
from hub.inbox.envelope import Incoming, Outcome
from hub.tables import Agent, Device, Space

ROOT = "marvain/v1"


@pytest.fixture
def agent(session: Session) -> Agent:
    agent = Agent(name="Home")
    session.add(agent)
    session.flush()
    return agent


@pytest.fixture
def space(session: Session, agent: Agent) -> Space:
    space = Space(agent_id=agent.agent_id, name="Hall")
    session.add(space)
    session.flush()
    return space


@pytest.fixture
def make_device(session: Session, agent: Agent) -> Callable[..., Device]:
    def make(name: str = "Porch", **facts) -> Device:
        facts = {"scopes": ["*"], "by": "ann@example.org"} | facts
        return devices.add(session, facts.pop("agent_id", agent.agent_id), name, **facts).device

    return make


@pytest.fixture
def device(make_device: Callable[..., Device]) -> Device:
    return make_device()


@pytest.fixture
def say(session: Session) -> Callable[..., Outcome]:
    """Hand the hub one batch: each message is (topic below d/, payload as dict or bytes) and maybe more facts."""

    def say(*messages, at: datetime | None = None) -> Outcome:
        batch = []
        for topic, payload, *more in messages:
            facts = more[0] if more else {}
            encoded = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
            batch.append(Incoming(f"{ROOT}/d/{topic}", encoded, facts.get("retained", False), at or datetime.now(UTC)))
        return router.process(session, batch, ROOT)

    return say


def event(epoch: int = 1, **facts) -> dict:
    return {"id": uuid.uuid4().hex, "epoch": epoch, "payload": {"angle": 12}} | facts
