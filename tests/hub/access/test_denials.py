"""Refusals become rows of their minute, and news for the agent that they concern."""

import random
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from hub import devices, feed, integrations
from hub.access import changes, denials
from hub.access.denials import Refusal
from hub.database import Database
from hub.tables import Agent

AT = datetime(2026, 11, 22, 12, 0, 30, tzinfo=UTC)


def refusal(principal: str = "lamp", reason: str = "no", count: int = 1, at: datetime = AT) -> Refusal:
    return Refusal(principal, "publish", "a/b", reason, at, count)


@pytest.fixture
def agent(database: Database) -> Agent:
    with database.transaction() as session:
        agent = Agent(name="Home")
        session.add(agent)
        session.flush()
        devices.add(session, agent.agent_id, "Lamp", scopes=[], by="tests", handle="lamp")
    return agent


def test_hostile_text_is_stored_harmlessly(database: Database, agent: Agent) -> None:
    with database.transaction() as session:
        denials.record(session, [Refusal("a\0b\ud800", "connect", "x" * 70_000, "<script>\n" * 9_000, AT)])
        row = session.execute(text("SELECT * FROM denials")).one()
    assert row.principal == "a\ufffdb?"
    assert len(row.topic) <= 500
    assert row.device_id is None


def test_the_longest_texts_still_fit_the_index(database: Database, agent: Agent) -> None:
    seeded = random.Random(7)
    name, topic, reason = ("".join(chr(seeded.randrange(0x20000, 0x2A000)) for _ in range(500)) for _ in range(3))
    with database.transaction() as session:
        assert denials.record(session, [Refusal(name, "publish", topic, reason, AT), refusal()]) == 2


def test_ever_new_refusals_of_one_name_are_counted_as_one(database: Database, agent: Agent) -> None:
    for second in range(3):
        flood = [refusal(reason=f"epoch {second}.{number}") for number in range(100)]
        with database.transaction() as session:
            denials.record(session, [*flood, refusal(principal="bell", reason=f"one {second}")])
    with database.transaction() as session:
        denials.record(session, [refusal(reason="epoch 0.0")])
        rows = session.execute(text("SELECT principal, reason, count FROM denials ORDER BY count DESC")).all()
    of_lamp = [row for row in rows if row.principal == "lamp"]
    assert len(of_lamp) == denials.MOST_PER_MINUTE + 1
    assert sum(row.count for row in of_lamp) == 301
    assert "too many different" in of_lamp[0].reason
    assert of_lamp[1].reason == "epoch 0.0"
    assert len(rows) - len(of_lamp) == 3


def test_they_are_counted_per_minute(database: Database, agent: Agent) -> None:
    with database.transaction() as session:
        assert denials.record(session, [refusal(), refusal(count=4, at=AT + timedelta(seconds=5))]) == 1
    with database.transaction() as session:
        denials.record(session, [refusal(at=AT + timedelta(seconds=9)), refusal(at=AT + timedelta(minutes=1))])
        found = denials.recent(session, agent_id=agent.agent_id)
    assert [(denial.count, denial.last_at) for denial in found] == [
        (1, AT + timedelta(minutes=1)),
        (6, AT + timedelta(seconds=9)),
    ]


def test_the_devices_agent_is_told_and_no_other(database: Database, agent: Agent) -> None:
    with database.transaction() as session:
        other = Agent(name="Other")
        session.add(other)
        session.flush()
        before = feed.revision(session, agent.agent_id)
        denials.record(session, [refusal(), refusal(principal="stranger"), refusal(reason="also no")])
    with database.transaction() as session:
        gap = feed.since(session, agent.agent_id, before)
        assert feed.revision(session, other.agent_id) == 0
        assert denials.recent(session, agent_id=other.agent_id) == []
    told = [message for message in gap.messages if message["type"] == "denials.new"]
    assert len(told) == 1
    assert [item["reason"] for item in told[0]["items"]] == ["also no", "no"]
    assert told[0]["items"][0]["last_at"] == "2026-11-22T12:00:30Z"


def test_recent_is_bounded_and_of_one_device(database: Database, agent: Agent) -> None:
    with database.transaction() as session:
        denials.record(session, [refusal(reason=str(number)) for number in range(9)])
        device_id = devices.by_handle(session, "lamp").device_id
        assert len(denials.recent(session, device_id=device_id, limit=5)) == 5
        assert {denial.device_id for denial in denials.recent(session, agent_id=agent.agent_id)} == {device_id}


def test_an_integrations_refusals_are_its_agents(database: Database, agent: Agent) -> None:
    with database.transaction() as session:
        new = integrations.add(session, agent.agent_id, "HA", by="tests", handle="ha").integration
        denials.record(session, [refusal(principal="ext_ha"), refusal(principal="ha"), refusal(principal="ext_lamp")])
        (found,) = denials.recent(session, integration_id=new.integration_id)
        assert (found.principal, found.integration_id, found.device_id) == ("ext_ha", new.integration_id, None)
        assert denials.recent(session, agent_id=agent.agent_id) == [found]
        assert denials.recent(session, agent_id=agent.agent_id, principal="lamp\0") == []
        assert denials.recent(session, agent_id=agent.agent_id, minutes=1) == []


def test_changes_are_heard_after_the_commit_and_not_after_a_rollback(database: Database) -> None:
    with database.listen(changes.CHANNEL) as listener:
        with pytest.raises(RuntimeError), database.transaction() as session:  # noqa: PT012 - the point is the rollback
            changes.announce(session, "lamp", "revoked", "never happened")
            raise RuntimeError
        with database.transaction() as session:
            changes.announce(session, "lamp", "revoked", 'by "ann": \u00e9' + "\0\U0001f600" * 5_000)
            assert listener.wait(0.2) == []
        (heard,) = listener.wait(5)
    change = changes.read(heard.payload)
    assert change is not None
    assert (change.username, change.kind, change.reason[:10]) == ("lamp", "revoked", 'by "ann": ')


@pytest.mark.parametrize(
    "payload", ["", "x", "[]", "{}", '{"username": 1, "kind": "revoked"}', '{"username": "a", "kind": "odd"}']
)
def test_odd_notifications_mean_nothing(payload: str) -> None:
    assert changes.read(payload) is None
