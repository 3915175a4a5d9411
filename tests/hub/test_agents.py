"""Agents: who may make, switch off and delete one; and that nothing of one that is off or gone is let in."""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from hub import agents, audit, commands, device_views, devices, events, identity, integrations, outbox
from hub.access import changes, credentials, principals
from hub.errors import Conflict, Forbidden, Invalid, NotFound
from hub.tables import Agent, AgentMembership, User

ROOT = "marvain/v1"


@pytest.fixture
def make_user(session, agent) -> Callable[..., User]:
    def make(email: str, role: str | None = None) -> User:
        user = identity.create_user(session, email, "", "three quiet satellites")
        if role is not None:
            session.add(AgentMembership(agent_id=agent.agent_id, user_id=user.user_id, role=role))
            session.flush()
        return user

    return make


@pytest.fixture
def owner(make_user) -> User:
    return make_user("ann@example.org", "owner")


def test_only_an_owner_makes_a_further_one(session, make_user) -> None:
    for role in (None, "guest", "member", "admin"):
        user = make_user(f"{role}@example.org", role)
        with pytest.raises(Forbidden):
            agents.create(session, user.user_id, "Mine", by="x")


@pytest.mark.parametrize("name", ["", "  ", "x" * 81, "a\x1bb"])
def test_a_bad_name_is_named(session, owner, name) -> None:
    with pytest.raises(Invalid) as refused:
        agents.create(session, owner.user_id, name, by="ann")
    assert refused.value.field == "name"


def test_whoever_makes_one_owns_it(session, owner) -> None:
    made = agents.create(session, owner.user_id, "Lake  house", "by the lake", by="ann@example.org")
    view = agents.view(session, owner.user_id, made.agent_id)
    assert (view.name, view.about, view.role, view.spaces) == ("Lake house", "by the lake", "owner", 1)
    assert [one.action for one in audit.entries(session, made.agent_id)] == ["member.added", "agent.created"]


def test_another_persons_agent_is_not_found(session, agent, make_user) -> None:
    stranger = make_user("eve@example.org")
    with pytest.raises(NotFound):
        agents.view(session, stranger.user_id, agent.agent_id)
    blocked = make_user("bob@example.org", "blocked")
    with pytest.raises(NotFound):
        agents.view(session, blocked.user_id, agent.agent_id)
    assert agents.of_user(session, blocked.user_id) == []


def test_the_second_of_two_who_edit_is_told(session, agent, owner) -> None:
    agents.change(session, agent.agent_id, "First", "", revision=1, by="ann")
    with pytest.raises(Conflict) as refused:
        agents.change(session, agent.agent_id, "Second", "", revision=1, by="ben")
    assert (refused.value.field, "First" in refused.value.message) == ("revision", True)


def test_one_that_is_off_lets_nobody_in(session, agent, owner, say) -> None:
    added = devices.add(session, agent.agent_id, "Porch", scopes=["*"], by="ann")
    bearer = integrations.add(session, agent.agent_id, "Node-RED", by="ann")
    say((f"{added.device.handle}/hello", {"epoch": 3}))
    agents.set_disabled(session, agent.agent_id, disabled=True, by="ann@example.org")
    now = datetime.now(UTC)
    assert device_views.view(session, agent.agent_id, added.device.device_id).presence == "offline"
    for username, token in (("porch", added.token), ("ext_node-red", bearer.token)):
        assert isinstance(credentials.authenticate(session, username, token, now), credentials.Refused)
        assert principals.load(session, username, ROOT) is None
    assert credentials.authenticate(session, "porch", added.token, now).code == 3, "a device goes on trying"
    with pytest.raises(Conflict):
        commands.request(session, added.device, "ping", {}, by="ann")
    outcome = say((f"{added.device.handle}/event/door", {"id": "e1", "epoch": 3, "payload": {}}))
    assert outcome.refusals
    assert events.page(session, agent.agent_id).items == []
    assert identity.memberships_of(session, owner.user_id) == []
    assert identity.role_in(session, owner.user_id, agent.agent_id) is None
    assert [one.disabled for one in agents.of_user(session, owner.user_id)] == [True], "its owner can switch it on"
    agents.set_disabled(session, agent.agent_id, disabled=False, by="ann@example.org")
    assert isinstance(credentials.authenticate(session, "porch", added.token, now), credentials.Authenticated)


def test_what_is_open_ends_for_those_concerned_alone(database) -> None:
    with database.transaction() as session:
        home, garden = (Agent(name=name) for name in ("Home", "Garden"))
        session.add_all([home, garden])
        session.flush()
        porch = devices.add(session, home.agent_id, "Porch", scopes=["*"], by="ann").device
        devices.add(session, garden.agent_id, "Pump", scopes=["*"], by="ann")
        integrations.add(session, home.agent_id, "Node-RED", by="ann")
        ping = commands.request(session, porch, "ping", {}, by="ann", ttl_s=600)
    with database.listen("marvain_access") as listener:
        with database.transaction() as session:
            agents.set_disabled(session, home.agent_id, disabled=True, by="ann")
        [news] = [one for one in listener.wait(10) if "revoked" in one.payload]
    change = {one.username: one.reason for one in changes.read_all(news.payload)}
    assert change == dict.fromkeys(["porch", "ext_node-red"], "the agent Home was disabled by ann")
    with database.transaction() as session:
        assert commands.get(session, home.agent_id, ping.command_id).status == "expired"
        outbox.claim(session, 500)
        agents.set_disabled(session, home.agent_id, disabled=False, by="ann")
    with database.transaction() as session:
        assert principals.load(session, "porch", ROOT) is not None


def test_the_first_agent_is_never_one_that_is_being_deleted(session, agent) -> None:
    agent.disabled, agent.deleted_at = True, datetime.now(UTC)
    session.flush()
    assert identity.list_agents(session) == []
    with pytest.raises(NotFound):
        identity.find_agent(session, str(agent.agent_id))
    assert identity.ensure_first_agent(session) != agent
