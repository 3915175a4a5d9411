"""Who can do what: never of another agent, and always the decision's own words."""

import uuid
from datetime import UTC, datetime

import pytest
from sqlalchemy import event

from hub import devices, identity
from hub.access import credentials, decide, overview, principals
from hub.errors import Invalid, NotFound
from hub.sessions import sessions_of, start_session
from hub.tables import Agent, Integration, Role, RoleAssignment, RoleGrant

ROOT = "marvain/v1"


@pytest.fixture
def other(session):
    other = Agent(name="Elsewhere")
    session.add(other)
    session.flush()
    return other


@pytest.fixture
def integration(session, agent):
    integration = Integration(agent_id=agent.agent_id, handle="nodes", name="Node-RED", created_by="ann")
    session.add(integration)
    session.flush()
    return integration


@pytest.fixture
def give(session, agent):
    """A role of the agent with (action, filter) grants, for the bearer given: device_id=, integration_id= or all."""

    def give(name, *grants, **bearer):
        role = Role(agent_id=agent.agent_id, name=name)
        session.add(role)
        session.flush()
        session.add_all([RoleGrant(role_id=role.role_id, action=action, filter=filter_) for action, filter_ in grants])
        session.add(RoleAssignment(role_id=role.role_id, agent_id=agent.agent_id, **bearer))
        session.flush()
        return role

    return give


@pytest.fixture
def member(session, agent):
    user = identity.create_user(session, "ann@example.org")
    identity.join(session, agent.agent_id, user, "owner")
    return user


def test_nobody_of_another_agent_is_seen_or_tried(session, agent, other, device, make_device, member):
    make_device("Attic", agent_id=other.agent_id)
    seen = {view.username for view in overview.by_principal(session, other.agent_id, ROOT)}
    assert seen == {"attic", "hub_service"}
    for name in ("porch", f"ui_{member.user_id}", "stranger", "", "a\0b", "\ud800"):
        with pytest.raises(NotFound):
            overview.try_it(session, other.agent_id, name, "publish", "t", root=ROOT)
    assert overview.by_principal(session, uuid.uuid4(), ROOT)[0].kind == "hub"


def test_there_are_no_other_actions(session, agent, device):
    for action in ("", "connect ", "write", "__class__"):
        with pytest.raises(Invalid) as refused:
            overview.try_it(session, agent.agent_id, "porch", action, "t", root=ROOT)
        assert refused.value.field == "action"
        with pytest.raises(Invalid):
            overview.by_topic(session, agent.agent_id, action, "t", ROOT)


def test_who_is_revoked_may_nothing_and_is_not_listed(session, agent, device):
    devices.revoke(session, device, by="ann")
    assert [view.kind for view in overview.by_principal(session, agent.agent_id, ROOT)] == ["hub"]
    verdict = overview.try_it(session, agent.agent_id, "porch", "connect", root=ROOT)
    assert (bool(verdict), verdict.code) == (False, decide.NOT_AUTHORIZED)


def test_a_view_says_what_each_bears(session, agent, make_device, integration, member, give):
    porch = make_device("Porch", scopes=["events:write"])
    make_device("Bell", scopes=[])
    give("Rooms", ("publish", "x/{agent}/{handle}"), device_id=porch.device_id)
    give("All", ("subscribe", "hub/status"), all_devices=True)
    give("Flows", ("subscribe", "d/porch/#"), integration_id=integration.integration_id)
    seen = overview.by_principal(session, agent.agent_id, ROOT)
    assert [(view.kind, view.name, view.roles) for view in seen] == [
        ("device", "Bell", ("All",)),
        ("device", "Porch", ("All", "Rooms")),
        ("integration", "Node-RED", ("Flows",)),
        ("browser", "ann@example.org", ("owner",)),
        ("hub", "Hub", ()),
    ]
    assert seen[1].id == porch.device_id
    assert seen[1].scopes == ("events:write",)
    sources = {grant.filter: grant.source for grant in seen[1].grants}
    assert sources[f"{ROOT}/x/{agent.agent_id}/porch"] == "the role Rooms"
    assert sources[f"{ROOT}/hub/status"] == "the role All"


def test_a_members_page_may_what_its_own_page_may(session, agent, other, member):
    """The view's page is the one that connects, but for its other agents."""
    identity.join(session, other.agent_id, member, "member")
    now = datetime.now(UTC)
    start_session(session, member, "", "", now)
    username, _, _ = credentials.issue_for_session(session, sessions_of(session, member.user_id, now)[0], now)
    real = principals.load(session, username, ROOT, now)
    shown = overview.by_principal(session, agent.agent_id, ROOT)[0]
    assert [grant for grant in real.grants if str(other.agent_id) not in grant.filter] == list(shown.grants)
    assert "Elsewhere" not in str(overview.by_principal(session, agent.agent_id, ROOT))


def test_by_topic_those_who_may_come_first(session, agent, make_device, member):
    for name in ("Bell", "Porch"):
        make_device(name)
    topic = f"{ROOT}/d/porch/state"
    found = overview.by_topic(session, agent.agent_id, "publish", topic, ROOT)
    assert [(view.name, bool(verdict)) for view, verdict in found] == [
        ("Porch", True),
        ("Hub", True),
        ("Bell", False),
        ("ann@example.org", False),
    ]
    assert found[0][1].reason == f"allowed by the scope presence:write (publish {topic})"
    readers = overview.by_topic(session, agent.agent_id, "subscribe", f"{ROOT}/ui/{agent.agent_id}/+", ROOT)
    assert [view.kind for view, verdict in readers if verdict] == ["browser", "hub"]


TRIED = [
    ("publish", f"{ROOT}/d/bell/state", None, False),
    ("publish", "a/#", None, False),
    ("subscribe", f"{ROOT}/d/#", None, False),
    ("subscribe", f"$share/g/{ROOT}/d/+/cmd/#", None, False),
    ("receive", f"{ROOT}/d/bell/cmd/ping/1", None, False),
    ("connect", "bell", None, False),
    ("connect", "", f"{ROOT}/d/bell/state", False),
    ("connect", "", f"{ROOT}/d/porch/state", True),
    ("connect", "porch", "", True),
    ("publish", f"{ROOT}/d/porch/state", None, True),
    ("subscribe", f"$share/g/{ROOT}/d/porch/cmd/#", None, True),
    ("receive", f"{ROOT}/d/porch/cmd/ping/1", None, True),
]


def test_trying_is_the_decision_itself(session, agent, device):
    for action, topic, will, allowed in TRIED:
        verdict = overview.try_it(session, agent.agent_id, "porch", action, topic, will=will, root=ROOT)
        assert verdict.allowed is allowed, (action, topic, will)
        assert "porch" in verdict.reason or "a/#" in verdict.reason


def test_who_comes_while_the_page_is_read_is_left_out(database):
    """The names are read before the grants."""
    with database.transaction() as session:
        agent = Agent(name="Home")
        session.add(agent)
        session.flush()
        devices.add(session, agent.agent_id, "Porch", scopes=[], by="tests")

    @event.listens_for(database.engine, "after_cursor_execute", once=True)
    def add_another(*_):
        with database.transaction() as session:
            devices.add(session, agent.agent_id, "Late", scopes=[], by="tests")

    with database.transaction() as session:
        seen = [view.username for view in overview.by_principal(session, agent.agent_id, ROOT)]
        assert seen == ["porch", "hub_service"]
        assert len(overview.by_principal(session, agent.agent_id, ROOT)) == 3
