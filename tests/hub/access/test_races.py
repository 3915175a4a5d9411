"""Who comes while access is changed is told of it, or comes after it: nobody keeps what was taken away."""

import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from hub import devices, members
from hub.access import changes, credentials, roles
from hub.access.roles import GrantDraft, RoleDraft
from hub.database import Database
from hub.tables import Agent, AgentMembership, User, UserSession

ALL = RoleDraft("All", "", (GrantDraft("publish", "x/{agent}/#"),), all_devices=True)


@pytest.fixture
def agent_id(database: Database) -> uuid.UUID:
    with database.transaction() as session:
        agent = Agent(name="Home")
        session.add(agent)
        session.flush()
        return agent.agent_id


@pytest.fixture
def beside() -> Iterator[Callable[..., Future]]:
    with ThreadPoolExecutor(1) as threads:
        yield threads.submit


def until_waiting(database: Database, other: Future) -> None:
    """Return when the other one waits for a lock."""
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    deadline = time.monotonic() + 10
    while True:
        with database.engine.connect() as connection:
            if connection.execute(text(waiting)).scalar_one():
                return
        assert not other.done(), "it did not wait"
        assert time.monotonic() < deadline


def test_a_device_added_while_a_role_of_all_is_edited(database, agent_id, beside):
    with database.transaction() as session:
        role = roles.create(session, agent_id, ALL, by="ann", open_topics=()).role

    def add() -> str:
        with database.transaction() as session:
            return devices.add(session, agent_id, "Porch", scopes=[], by="bob").device.handle

    with database.transaction() as session:
        roles.delete(session, agent_id, role.role_id, by="ann")
        added = beside(add)
        until_waiting(database, added)
    assert added.result(10) == "porch"


def test_a_role_of_all_edited_while_a_device_is_added(database, agent_id, beside):
    with database.transaction() as session:
        role = roles.create(session, agent_id, ALL, by="ann", open_topics=()).role

    def delete() -> None:
        with database.transaction() as session:
            roles.delete(session, agent_id, role.role_id, by="ann")

    with database.listen(changes.CHANNEL) as listener:
        with database.transaction() as session:
            devices.add(session, agent_id, "Porch", scopes=[], by="bob")
            deleted = beside(delete)
            until_waiting(database, deleted)
        deleted.result(10)
        told = [change.username for one in listener.wait(5) for change in changes.read_all(one.payload)]
    assert told == ["porch"]


def test_a_page_opened_while_its_member_is_blocked(database, agent_id, beside):
    with database.transaction() as session:
        user = User(email="ann@example.org", password_hash="hash")
        session.add(user)
        session.flush()
        signed_in = UserSession(user_id=user.user_id, token_hash="x", expires_at=datetime.now(UTC) + timedelta(hours=1))
        session.add_all([signed_in, AgentMembership(agent_id=agent_id, user_id=user.user_id, role="member")])

    def block() -> None:
        with database.transaction() as session:
            members.block(session, agent_id, user.user_id, by_user_id=None, by="command line")

    with database.listen(changes.CHANNEL) as listener:
        with database.transaction() as session:
            page, _, _ = credentials.issue_for_session(session, signed_in, datetime.now(UTC))
            blocked = beside(block)
            until_waiting(database, blocked)
        blocked.result(10)
        told = [change.username for one in listener.wait(5) for change in changes.read_all(one.payload)]
    assert told == [page]
