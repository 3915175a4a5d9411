"""Members: nobody is locked out, nobody takes what is not theirs, and open pages follow at once."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlmodel import Session

from hub import audit, identity, members
from hub.access import changes, credentials, principals
from hub.errors import Conflict, Forbidden, Invalid, NotFound
from hub.tables import Agent, AgentMembership, User, UserSession


def person(session: Session, agent: Agent, name: str, role: str, *, can_sign_in: bool = True) -> User:
    user = User(email=f"{name}@example.org", password_hash="hash" if can_sign_in else None)
    session.add(user)
    session.flush()
    session.add(AgentMembership(agent_id=agent.agent_id, user_id=user.user_id, role=role))
    session.flush()
    return user


def test_closed_doors(session, agent):
    owner, admin = person(session, agent, "owner", "owner"), person(session, agent, "admin", "admin")
    member, guest = person(session, agent, "member", "member"), person(session, agent, "guest", "guest")
    other = Agent(name="Elsewhere")
    session.add(other)
    session.flush()
    stranger = person(session, other, "stranger", "owner")
    invited = person(session, agent, "invited", "member", can_sign_in=False)

    def refused(error, verb, whom, *role, by):
        with pytest.raises(error):
            verb(session, agent.agent_id, whom.user_id, *role, by_user_id=by and by.user_id)

    refused(Invalid, members.set_role, member, "king", by=owner)
    refused(Invalid, members.set_role, member, "blocked", by=owner)
    refused(NotFound, members.set_role, stranger, "guest", by=owner)
    refused(NotFound, members.set_role, member, "guest", by=stranger)
    refused(Forbidden, members.set_role, member, "admin", by=member)
    refused(Forbidden, members.remove, guest, by=member)
    refused(Forbidden, members.block, guest, by=guest)
    for by in (owner, admin, None):
        refused(Conflict, members.set_role, owner, "admin", by=by)
        refused(Conflict, members.remove, owner, by=by)
        refused(Conflict, members.block, owner, by=by)
    refused(Forbidden, members.set_role, admin, "owner", by=admin)
    refused(Conflict, members.set_role, invited, "owner", by=owner)
    roles = [identity.role_in(session, user.user_id, agent.agent_id) for user in (owner, admin, member, guest)]
    assert roles == ["owner", "admin", "member", "guest"]
    assert audit.entries(session, agent.agent_id) == []


def test_the_last_who_can_change_anything_stays(session, agent):
    admin = person(session, agent, "admin", "admin")
    person(session, agent, "invited", "admin", can_sign_in=False)
    member = person(session, agent, "member", "member")
    for attempt in (
        lambda: members.set_role(session, agent.agent_id, admin.user_id, "member", by_user_id=admin.user_id),
        lambda: members.remove(session, agent.agent_id, admin.user_id, by_user_id=admin.user_id),
        lambda: members.block(session, agent.agent_id, admin.user_id, by_user_id=None, by="command line"),
    ):
        with pytest.raises(Conflict):
            attempt()
    members.set_role(session, agent.agent_id, member.user_id, "admin", by_user_id=admin.user_id)
    members.remove(session, agent.agent_id, admin.user_id, by_user_id=admin.user_id)
    assert identity.role_in(session, admin.user_id, agent.agent_id) is None


def test_where_there_is_no_owner_nobody_becomes_it_by_asking_first(session, agent):
    admin = person(session, agent, "admin", "admin")
    with pytest.raises(Forbidden):
        members.set_role(session, agent.agent_id, admin.user_id, "owner", by_user_id=admin.user_id)
    members.set_role(session, agent.agent_id, admin.user_id, "owner", by_user_id=None, by="command line")
    assert identity.role_in(session, admin.user_id, agent.agent_id) == "owner"


def test_ownership_is_handed_over_and_blocked_ones_come_back(session, agent):
    owner, admin = person(session, agent, "owner", "owner"), person(session, agent, "admin", "admin")
    members.set_role(session, agent.agent_id, admin.user_id, "owner", by_user_id=owner.user_id)
    assert identity.role_in(session, owner.user_id, agent.agent_id) == "admin"
    members.block(session, agent.agent_id, owner.user_id, by_user_id=admin.user_id)
    assert identity.role_in(session, owner.user_id, agent.agent_id) is None
    with pytest.raises(NotFound):
        members.remove(session, agent.agent_id, admin.user_id, by_user_id=owner.user_id)
    members.set_role(session, agent.agent_id, owner.user_id, "guest", by_user_id=None, by="command line")
    told = [
        (one.action, one.actor, one.subject, one.before, one.after) for one in audit.entries(session, agent.agent_id)
    ]
    of = "owner@example.org", "admin@example.org"
    assert list(reversed(told)) == [
        ("member.role_changed", of[0], of[0], {"role": "owner"}, {"role": "admin"}),
        ("member.role_changed", of[0], of[1], {"role": "admin"}, {"role": "owner"}),
        ("member.blocked", of[1], of[0], {"role": "admin"}, {"role": "blocked"}),
        ("member.role_changed", "command line", of[0], {"role": "blocked"}, {"role": "guest"}),
    ]


def test_open_pages_are_told(database, session, agent):
    person(session, agent, "owner", "owner")
    member = person(session, agent, "member", "member")
    signed_in = UserSession(user_id=member.user_id, token_hash="x", expires_at=datetime.now(UTC) + timedelta(hours=1))
    session.add(signed_in)
    session.flush()
    page, _, _ = credentials.issue_for_session(session, signed_in, datetime.now(UTC))
    session.commit()
    with database.listen(changes.CHANNEL) as listener:
        with database.transaction() as work:
            members.remove(work, agent.agent_id, member.user_id, by_user_id=None, by="command line")
        (notice,) = listener.wait(5)
    told = changes.read(notice.payload)
    assert told is not None
    assert (told.username, told.kind) == (page, "changed")
    with database.transaction() as work:
        principal = principals.load(work, page, "marvain/v1")
    assert principal is not None
    assert principal.agent_ids == ()
