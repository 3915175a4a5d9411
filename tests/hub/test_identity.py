"""Identity: blocked, revoked and disabled see nothing; the first agent is made once."""

# ruff: noqa: FBT001  parameters of cases
import threading
from datetime import UTC, datetime

import pytest
from sqlmodel import Session, select

from hub import audit, identity
from hub.database import Database
from hub.errors import Conflict, Forbidden, Invalid, NotFound
from hub.tables import Agent, AgentMembership, Space, User

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
PASSWORD = "three quiet satellites"


def make_agent(session: Session, name: str = "Home", *, disabled: bool = False) -> Agent:
    agent = Agent(name=name, disabled=disabled)
    session.add(agent)
    session.flush()
    return agent


def join(session: Session, user: User, agent: Agent, role: str = "member", *, revoked: bool = False) -> None:
    session.add(
        AgentMembership(agent_id=agent.agent_id, user_id=user.user_id, role=role, revoked_at=NOW if revoked else None)
    )
    session.flush()


@pytest.mark.parametrize(
    ("role", "revoked", "user_disabled", "agent_disabled"),
    [
        ("blocked", False, False, False),
        ("owner", True, False, False),
        ("owner", False, True, False),
        ("owner", False, False, True),
    ],
)
def test_who_is_blocked_revoked_or_disabled_is_no_member_anywhere(
    session: Session, role: str, revoked: bool, user_disabled: bool, agent_disabled: bool
) -> None:
    user = identity.create_user(session, "ann@example.org")
    user.disabled = user_disabled
    agent = make_agent(session, disabled=agent_disabled)
    join(session, user, agent, role, revoked=revoked)

    assert identity.memberships_of(session, user.user_id) == []
    assert identity.role_in(session, user.user_id, agent.agent_id) is None
    with pytest.raises(NotFound):
        identity.require_role(session, user.user_id, agent.agent_id, "guest")


def test_a_stranger_does_not_learn_that_the_agent_exists(session: Session) -> None:
    user = identity.create_user(session, "ann@example.org")
    with pytest.raises(NotFound):
        identity.require_role(session, user.user_id, make_agent(session).agent_id, "guest")


@pytest.mark.parametrize(
    ("role", "at_least", "enough"),
    [
        ("guest", "guest", True),
        ("guest", "member", False),
        ("member", "admin", False),
        ("admin", "owner", False),
        ("admin", "admin", True),
        ("owner", "guest", True),
    ],
)
def test_roles_are_ordered(session: Session, role: str, at_least: str, enough: bool) -> None:
    user = identity.create_user(session, "ann@example.org")
    agent = make_agent(session)
    join(session, user, agent, role)
    if enough:
        assert identity.require_role(session, user.user_id, agent.agent_id, at_least) == role
    else:
        with pytest.raises(Forbidden, match=at_least):
            identity.require_role(session, user.user_id, agent.agent_id, at_least)


def test_memberships_come_with_their_roles_oldest_agent_first(session: Session) -> None:
    user = identity.create_user(session, "ann@example.org")
    for name, role in (("Home", "owner"), ("Garden", "guest")):
        join(session, user, make_agent(session, name), role)
    assert {(agent.name, role) for agent, role in identity.memberships_of(session, user.user_id)} == {
        ("Home", "owner"),
        ("Garden", "guest"),
    }


def test_the_first_agent_is_made_once_however_many_ask(database: Database) -> None:
    def ask() -> None:
        with database.transaction() as session:
            identity.ensure_first_agent(session)

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with database.transaction() as session:
        assert [agent.name for agent in identity.list_agents(session)] == ["Home"]
        assert [space.name for space in session.exec(select(Space))] == ["Home"]


def test_without_a_ref_the_only_agent_is_meant(session: Session) -> None:
    with pytest.raises(Invalid, match="none yet"):
        identity.find_agent(session)
    home = make_agent(session)
    assert identity.find_agent(session) == home
    make_agent(session, "Garden")
    with pytest.raises(Invalid, match=r"Home, Garden|Garden, Home"):
        identity.find_agent(session)


def test_an_agent_is_found_by_id_and_name_unless_that_is_ambiguous(session: Session) -> None:
    home = make_agent(session)
    assert identity.find_agent(session, str(home.agent_id).upper()) == home
    assert identity.find_agent(session, "home") == home
    with pytest.raises(NotFound, match="there are: Home"):
        identity.find_agent(session, "Attic")
    twin = make_agent(session)
    with pytest.raises(Invalid, match="several"):
        identity.find_agent(session, "Home")
    assert identity.find_agent(session, str(twin.agent_id)) == twin


def test_a_space_of_another_agent_is_not_found(session: Session) -> None:
    home, garden = make_agent(session), make_agent(session, "Garden")
    session.add(Space(agent_id=garden.agent_id, name="Shed"))
    session.flush()
    shed = identity.find_space(session, garden.agent_id, "shed")
    for ref in ("Shed", str(shed.space_id)):
        with pytest.raises(NotFound):
            identity.find_space(session, home.agent_id, ref)
    assert identity.spaces_of(session, home.agent_id) == []


@pytest.mark.parametrize(
    "email", ["", "ann", "ann@", "@example.org", "a b@example.org", "ann@exa\0mple.org", "x" * 300]
)
def test_what_is_no_address_is_refused(session: Session, email: str) -> None:
    with pytest.raises(Invalid) as refused:
        identity.create_user(session, email)
    assert refused.value.field == "email"


@pytest.mark.parametrize("name", ["x" * 101, "a\0b", "a\x1b[31mb"])
def test_names_that_would_break_a_page_or_a_terminal_are_refused(session: Session, name: str) -> None:
    with pytest.raises(Invalid) as refused:
        identity.create_user(session, "ann@example.org", name)
    assert refused.value.field == "display_name"


@pytest.mark.parametrize(
    "password",
    [
        "short",
        "x" * 201,
        "aaaaaaaaaaaaaa",
        "Password123!",
        "1234567890",
        "0987654321",
        "qwertyuiop",
        "Ann@Example.org",
        "marvain2026",
        "ten chars\0 ok",
    ],
)
def test_weak_passwords_are_refused(session: Session, password: str) -> None:
    with pytest.raises(Invalid) as refused:
        identity.create_user(session, "ann@example.org", password=password)
    assert refused.value.field == "password"


def test_addresses_are_told_apart_without_case(session: Session) -> None:
    user = identity.create_user(session, " Ann@Example.ORG ", password=PASSWORD)
    assert user.email == "ann@example.org"
    with pytest.raises(Conflict):
        identity.create_user(session, "ANN@example.org")
    assert identity.find_user(session, "aNN@example.org") == user


def test_an_address_of_a_home_network_is_fine(session: Session) -> None:
    assert identity.create_user(session, "ann@hub.local").email == "ann@hub.local"


def test_a_user_of_an_earlier_system_keeps_the_row(session: Session) -> None:
    old = User(email="Ann@Example.org", cognito_sub="sub-1")
    session.add(old)
    session.flush()
    assert identity.create_user(session, "ann@example.org", "Ann").user_id == old.user_id


def test_an_owner_is_one_who_can_sign_in(session: Session) -> None:
    user = identity.create_user(session, "ann@example.org")
    join(session, user, make_agent(session), "owner")
    assert not identity.has_owner(session)
    identity.set_password(session, user, PASSWORD)
    assert identity.has_owner(session)
    user.disabled = True
    session.flush()
    assert not identity.has_owner(session)


def test_a_new_name_is_told_in_the_audit(session):
    user = identity.create_user(session, "ann@example.org", "Ann", "three quiet satellites")
    identity.rename(session, user.user_id, " Anna  B ", by="ann@example.org")
    identity.rename(session, user.user_id, "Anna B", by="ann@example.org")
    (entry,) = audit.entries(session, None, matching=audit.Filter(action="user.renamed"))
    assert (entry.before, entry.after) == ({"display_name": "Ann"}, {"display_name": "Anna B"})
