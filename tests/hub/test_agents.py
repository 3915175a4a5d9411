"""Agents: who may make, switch off and delete one; and that nothing of one that is off or gone is let in."""

import uuid
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from sqlalchemy import text

from hub import agents, audit, devices, events, identity, integrations
from hub.access import credentials, principals
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
    assert devices.view(session, agent.agent_id, added.device.device_id).presence == "offline"
    for username, token in (("porch", added.token), ("ext_node-red", bearer.token)):
        assert isinstance(credentials.authenticate(session, username, token, now), credentials.Refused)
        assert principals.load(session, username, ROOT) is None
    outcome = say((f"{added.device.handle}/event/door", {"id": "e1", "epoch": 3, "payload": {}}))
    assert outcome.refusals
    assert events.page(session, agent.agent_id).items == []
    assert identity.memberships_of(session, owner.user_id) == []
    assert identity.role_in(session, owner.user_id, agent.agent_id) is None
    assert [one.disabled for one in agents.of_user(session, owner.user_id)] == [True], "its owner can switch it on"
    agents.set_disabled(session, agent.agent_id, disabled=False, by="ann@example.org")
    assert isinstance(credentials.authenticate(session, "porch", added.token, now), credentials.Authenticated)


def test_deleting_takes_its_typed_name(session, agent, owner) -> None:
    for typed in ("", "home", "Hom"):
        with pytest.raises(Invalid) as refused:
            agents.delete(session, agent.agent_id, typed, by="ann")
        assert refused.value.field == "typed"
    assert not session.get_one(Agent, agent.agent_id).disabled


def test_a_deleted_one_is_gone_at_once_and_removed_bit_by_bit(session, agent, owner, say, monkeypatch) -> None:
    home = agent.agent_id
    added = devices.add(session, home, "Porch", scopes=["*"], by="ann")
    say(*((f"porch/event/t{n}", {"id": f"e{n}", "epoch": 1, "payload": {}}) for n in range(7)))
    lost = agents.delete(session, agent.agent_id, "Home", by="ann@example.org")
    assert (lost.devices, lost.events, lost.members) == (1, 7, 1)
    now = datetime.now(UTC)
    assert isinstance(credentials.authenticate(session, "porch", added.token, now), credentials.Refused)
    with pytest.raises(NotFound):
        agents.view(session, owner.user_id, agent.agent_id)
    monkeypatch.setattr(agents, "PURGE_AT_ONCE", 3)
    left = [agents.remaining(session, agent.agent_id)]
    while agents.purge(session):
        left.append(agents.remaining(session, agent.agent_id))
    assert left == sorted(left, reverse=True)
    assert left[-1] == 0
    assert len(left) > 3
    session.expunge_all()
    assert session.get(Agent, home) is None
    with pytest.raises(Conflict):
        devices.add(session, _other(session), "Other", handle="porch", scopes=[], by="eve")
    assert devices.propose_handle(session, "Porch") == "porch-2"
    assert audit.entries(session, home)[0].action == "agent.deleted", "the audit stays"
    assert audit.entries(session, None)[0].action == "agent.deleted"


def _other(session) -> uuid.UUID:
    other = Agent(name="Elsewhere")
    session.add(other)
    session.flush()
    return other.agent_id


def test_nothing_of_another_agent_is_removed_with_it(session, agent, say, make_device) -> None:
    other = _other(session)
    make_device("Shed", agent_id=other)
    say(("shed/event/x", {"id": "e", "epoch": 1, "payload": {}}))
    agents.delete(session, agent.agent_id, "Home", by="ann")
    while agents.purge(session):
        pass
    assert len(events.page(session, other).items) == 1
    assert session.execute(text("SELECT count(*) FROM devices")).scalar_one() == 1
