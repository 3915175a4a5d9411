"""An agent is deleted: nobody sees it from that moment, its rows go in pieces, and what must stay stays."""

import threading
from datetime import UTC, datetime

import pytest
from sqlalchemy import text
from sqlmodel import Session

from hub import agent_deletion, agents, audit, commands, devices, identity, integrations
from hub.access import credentials, principals
from hub.database import Database
from hub.errors import Conflict, Invalid, NotFound
from hub.purger import Purger
from hub.tables import Agent, User

ROOT = "marvain/v1"
EVENTS = 6_000


@pytest.fixture
def home(database: Database) -> Agent:
    """An agent that stays."""
    with database.transaction() as session:
        return identity.ensure_first_agent(session)


@pytest.fixture
def owner(database: Database, home: Agent) -> User:
    """ann@example.org, who will own the garden."""
    with database.transaction() as session:
        return identity.create_user(session, "ann@example.org", "", "three quiet satellites")


@pytest.fixture
def garden(database: Database, owner: User) -> Agent:
    """An agent with one of everything."""
    with database.transaction() as session:
        agent = agents.create_for(session, session.get_one(User, owner.user_id), "Garden", by="ann")
        pump = devices.add(session, agent.agent_id, "Pump", scopes=["*"], by="ann").device
        integrations.add(session, agent.agent_id, "Node-RED", by="ann")
        commands.request(session, pump, "ping", {}, by="ann", ttl_s=600)
        session.execute(
            text(
                "INSERT INTO events (agent_id, device_id, type)"
                " SELECT :agent, :device, 'drip' FROM generate_series(1, :n)"
            ),
            {"agent": agent.agent_id, "device": pump.device_id, "n": EVENTS},
        )
        return agent


def delete(database: Database, agent: Agent, name: str = "Garden") -> agent_deletion.Losses:
    with database.transaction() as session:
        return agent_deletion.delete(session, agent.agent_id, name, by="ann@example.org")


def rows(session: Session, agent: Agent) -> dict[str, int]:
    """How many rows each table has of the agent, where it has any."""
    counts = {
        table.name: session.execute(
            text(f"SELECT count(*) FROM {table.name} WHERE {table.column} = :agent"), {"agent": agent.agent_id}
        ).scalar_one()
        for table in agent_deletion.owned_tables(session)
    }
    return {name: count for name, count in counts.items() if count}


@pytest.mark.parametrize("typed", ["", "garden", "Garde"])
def test_a_wrong_name_deletes_nothing(database, garden, typed) -> None:
    with pytest.raises(Invalid) as refused:
        delete(database, garden, typed)
    assert refused.value.field == "typed"
    with database.transaction() as session:
        assert not identity.find_agent(session, "Garden").disabled


def test_the_last_agent_stays(database, home) -> None:
    with pytest.raises(Conflict, match="last agent"):
        delete(database, home, "Home")


def test_of_two_who_delete_the_last_two_agents_at_once_one_is_refused(database, home, garden) -> None:
    outcomes: list[str] = []
    together = threading.Barrier(2)

    def go(agent: Agent) -> None:
        together.wait()
        try:
            delete(database, agent, agent.name)
            outcomes.append("deleted")
        except Conflict:
            outcomes.append("refused")

    threads = [threading.Thread(target=go, args=(agent,)) for agent in (home, garden)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["deleted", "refused"]


def test_from_that_moment_it_is_nowhere_and_nothing_of_it_at_the_broker(database, garden, owner) -> None:
    with database.transaction() as session:
        token = credentials.issue_for_device(session, devices.by_handle(session, "pump"))
        session.execute(
            text("INSERT INTO retained_topics SELECT 'd/pump/config', device_id, '{}' FROM devices"),
        )
    lost = delete(database, garden)
    assert (lost.devices, lost.events, lost.members, lost.integrations) == (1, EVENTS, 1, 1)
    with pytest.raises(NotFound):
        delete(database, garden)
    with database.transaction() as session:
        assert [agent.name for agent in identity.list_agents(session)] == ["Home"]
        assert identity.memberships_of(session, owner.user_id) == []
        with pytest.raises(NotFound):
            agents.view(session, owner.user_id, garden.agent_id)
        refused = credentials.authenticate(session, "pump", token, datetime.now(UTC))
        assert isinstance(refused, credentials.Refused)
        assert principals.load_many(session, None, ROOT) == {}
        for table in ("credentials", "retained_topics"):
            assert session.execute(text(f"SELECT count(*) FROM {table}")).scalar_one() == 0
        purged = session.execute(text("SELECT topic FROM outbox WHERE retain AND payload = ''")).scalars()
        assert {"d/pump/state", "d/pump/config"} <= set(purged)
        with pytest.raises(Conflict, match="disabled"):
            commands.request(session, devices.by_handle(session, "pump"), "ping", {}, by="ann")


def test_its_rows_go_in_pieces_and_what_must_stay_stays(database, home, garden, owner) -> None:
    with database.transaction() as session:
        devices.add(session, home.agent_id, "Porch", scopes=["*"], by="ann")
    with database.transaction() as session:
        of_home = rows(session, home)
    delete(database, garden)
    with database.transaction() as session:
        tables = agent_deletion.owned_tables(session)
        events = next(table for table in tables if table.name == "events")
        before = agent_deletion.remaining(session, garden.agent_id)
        assert agent_deletion.remove_some(session, events, garden.agent_id) == events.at_once == 5_000
        assert agent_deletion.remaining(session, garden.agent_id) == before - 5_000
        # Its owner sees how far it is, until the last.
        assert tables[-1].name == "agent_memberships"
        assert [one.deleted_at is None for one in agents.of_user(session, owner.user_id)] == [False]
    Purger(database).purge()
    with database.transaction() as session:
        assert rows(session, garden) == {}
        assert session.get(Agent, garden.agent_id) is None
        assert agents.of_user(session, owner.user_id) == []
        assert rows(session, home) == of_home
        assert audit.entries(session, garden.agent_id)[0].action == "agent.deleted"
        assert [entry.action for entry in audit.entries(session, None)][:2] == ["agent.purged", "agent.deleted"]
        assert all(report.is_whole for report in audit.verify(session))
        with pytest.raises(Conflict):
            devices.add(session, home.agent_id, "Pump", scopes=["*"], by="eve", handle="pump")
        assert devices.propose_handle(session, "Pump") == "pump-2"
        with pytest.raises(Conflict):
            integrations.add(session, home.agent_id, "Mine", by="eve", handle="node-red")
        assert integrations.add(session, home.agent_id, "Node-RED", by="eve").integration.handle == "node-red-2"


def test_a_purge_that_was_stopped_goes_on(database, garden) -> None:
    delete(database, garden)
    stopped = Purger(database)
    stopped.stop()
    stopped.purge()
    with database.transaction() as session:
        assert agent_deletion.unfinished(session) == [garden.agent_id]
    Purger(database).purge()
    with database.transaction() as session:
        assert agent_deletion.unfinished(session) == []
        assert session.get(Agent, garden.agent_id) is None


def test_no_table_of_an_agents_rows_is_forgotten_and_children_go_first(session) -> None:
    order = [table.name for table in agent_deletion.owned_tables(session)]
    foreign = session.execute(
        text(
            "SELECT DISTINCT c.relname FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid"
            " WHERE k.contype = 'f' AND k.confrelid = 'agents'::regclass"
        )
    ).scalars()
    assert set(order) == set(foreign)
    for child, parent in (("commands", "devices"), ("events", "devices"), ("devices", "spaces"), ("events", "people")):
        assert order.index(child) < order.index(parent)
