"""What the broker reports of its sessions: bounded, whole, and to each agent only its own."""

import dataclasses
import uuid
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from hub import audit, identity
from hub.access import changes, credentials, live_sessions
from hub.access.live_sessions import SessionReport
from hub.errors import Forbidden, Invalid, NotFound
from hub.sessions import sessions_of, start_session
from hub.tables import Agent, Integration

NOW = datetime(2026, 11, 22, 12, 0, 30, tzinfo=UTC)


def reported(username: str, *, connected: bool = True, subscriptions=(), **facts) -> SessionReport:
    return SessionReport(
        username=username,
        connected=connected,
        address="192.0.2.7",
        transport="tcp",
        connected_at=NOW,
        persistent=False,
        keep_alive_s=30,
        subscriptions=list(subscriptions),
        **facts,
    )


def names(session, agent_id=None):
    if agent_id is None:
        return set(session.execute(text("SELECT username FROM broker_sessions")).scalars())
    return {view.username for view in live_sessions.of_agent(session, agent_id)}


def kicks(session, agent):
    return [one for one in audit.entries(session, agent.agent_id) if one.action == "session.kicked"]


@pytest.fixture
def other(session):
    other = Agent(name="Elsewhere")
    session.add(other)
    session.flush()
    return other


@pytest.fixture
def open_page(session, agent):
    """A page of a user who is a member of the agents given; returns its username on the wire."""

    def open_page(email: str, *agents: Agent) -> str:
        user = identity.create_user(session, email)
        for one in agents or (agent,):
            identity.join(session, one.agent_id, user, "member")
        now = datetime.now(UTC)
        start_session(session, user, "", "", now)
        [signed_in] = sessions_of(session, user.user_id, now)
        return credentials.issue_for_session(session, signed_in, now)[0]

    return open_page


def test_hostile_names_and_filters_are_left_out(session):
    report = reported("porch", subscriptions=[("a\0b", 0), ("x" * 70_000, 1), ("\ud800", 1), ("fine/#", 1)])
    report = dataclasses.replace(report, address="a\0\ud800" * 900, queued=2**40)
    odd = [reported("a\0b"), reported("\ud800"), reported("x" * 2_000)]
    live_sessions.report(session, [*odd, report], ["\0", "\ud800", "gone"], NOW)
    row = session.execute(text("SELECT * FROM broker_sessions")).one()
    assert (row.username, row.subscriptions) == ("porch", [["fine/#", 1]])
    assert len(row.address) <= 1_024
    live_sessions.retained(session, [("a\0", "porch", 1), ("x" * 2_000, "porch", 1), ("t", "\ud800", 1)], ["\0"], NOW)
    assert session.execute(text("SELECT count(*) FROM broker_retained")).scalar_one() == 0


def test_a_session_with_endless_subscriptions_is_cut(session):
    live_sessions.report(session, [reported("porch", subscriptions=[(f"t/{n}", 0) for n in range(2_000)])], [], NOW)
    assert session.execute(text("SELECT jsonb_array_length(subscriptions) FROM broker_sessions")).scalar_one() == 500


def test_other_agents_sessions_are_not_shown(session, agent, other, make_device, open_page):
    make_device("Porch")
    make_device("Attic", agent_id=other.agent_id)
    for owner, handle in ((agent, "nodes"), (other, "elsewhere")):
        session.add(Integration(agent_id=owner.agent_id, handle=handle, name=handle.title(), created_by="ann"))
    session.flush()
    ours, theirs = open_page("ann@example.org"), open_page("bob@example.org", other)
    everybody = ["porch", "attic", "ext_nodes", "ext_elsewhere", ours, theirs, "hub_service", "stranger"]
    live_sessions.replace_all(session, [reported(name) for name in everybody], NOW)
    assert names(session, agent.agent_id) == {"porch", "ext_nodes", ours, "hub_service"}
    assert names(session, other.agent_id) == {"attic", "ext_elsewhere", theirs, "hub_service"}
    assert names(session, uuid.uuid4()) == {"hub_service"}


@pytest.mark.parametrize("change", ["role = 'blocked'", "revoked_at = now()"])
def test_pages_of_former_members_are_not_shown(session, agent, open_page, change):
    page = open_page("ann@example.org")
    live_sessions.report(session, [reported(page)], [], NOW)
    assert names(session, agent.agent_id) == {page}
    session.execute(text(f"UPDATE agent_memberships SET {change}"))
    assert names(session, agent.agent_id) == set()


def test_a_page_does_not_tell_what_else_its_user_belongs_to(session, agent, other, open_page):
    page = open_page("ann@example.org", agent, other)
    feeds = [(f"marvain/v1/ui/{one.agent_id}/devices", 1) for one in (agent, other)]
    live_sessions.report(session, [reported(page, subscriptions=[*feeds, ("marvain/v1/hub/status", 1)])], [], NOW)
    [seen] = live_sessions.of_agent(session, agent.agent_id)
    assert seen.subscriptions == [feeds[0], ("marvain/v1/hub/status", 1)]


def test_only_the_agents_own_are_disconnected(database, session, agent, other, make_device, open_page):
    make_device("Attic", agent_id=other.agent_id)
    theirs = open_page("bob@example.org", other)
    for name in ("attic", theirs, "stranger", "a\0b", "\ud800", ""):
        with pytest.raises(NotFound):
            live_sessions.disconnect(session, agent.agent_id, name, by="ann")
    with pytest.raises(Forbidden):
        live_sessions.disconnect(session, agent.agent_id, "hub_service", by="ann")
    assert kicks(session, agent) == []


def test_an_odd_reason_disconnects_nobody(session, agent, device):
    for reason in ("x" * 201, "a\nb", "a\0"):
        with pytest.raises(Invalid) as refused:
            live_sessions.disconnect(session, agent.agent_id, "porch", by="ann", reason=reason)
        assert refused.value.field == "reason"
    assert kicks(session, agent) == []


def test_a_disconnect_is_told_and_audited(database, session, agent, device, open_page):
    session.add(Integration(agent_id=agent.agent_id, handle="nodes", name="Nodes", created_by="ann"))
    page = open_page("ann@example.org")
    session.commit()
    with database.listen(changes.CHANNEL) as listener:
        with database.transaction() as work:
            for name in ("porch", "ext_nodes", page):
                live_sessions.disconnect(work, agent.agent_id, name, by="ann", reason="too loud")
        heard = [changes.read(one.payload) for one in listener.wait(5)]
    told = "disconnected by ann: too loud"
    assert heard == [changes.Change(name, "kicked", told) for name in ("porch", "ext_nodes", page)]
    entries = kicks(session, agent)
    assert [(one.action, one.actor, one.subject) for one in entries] == [
        ("session.kicked", "ann", name) for name in (page, "ext_nodes", "porch")
    ]
    assert entries[2].subject_id == device.device_id


def test_a_view_says_whose_it_is(session, agent, device, open_page):
    page = open_page("ann@example.org")
    said = reported("porch", queued=3, queued_bytes=2**40, received=7, received_per_s=0.5)
    live_sessions.report(session, [said, reported(page, connected=False)], [], NOW)
    first, second = live_sessions.of_agent(session, agent.agent_id)
    assert (first.kind, first.name, first.device_id) == ("device", device.name, device.device_id)
    assert (first.queued_bytes, first.received_per_s, first.connected_at) == (2**40, 0.5, NOW)
    assert (second.kind, second.name, second.email, second.connected) == (
        "browser",
        "ann@example.org",
        "ann@example.org",
        False,
    )
    assert {one.reported_at for one in (first, second)} == {NOW}


def test_a_page_comes_from_where_its_user_signed_in(session, agent, open_page):
    page = open_page("ann@example.org")
    session.execute(text("UPDATE user_sessions SET address = '192.0.2.7'"))
    live_sessions.report(session, [reported(page)], [], NOW)
    [seen] = live_sessions.of_agent(session, agent.agent_id)
    assert seen.address == "192.0.2.7"


def test_reports_change_what_they_name_and_nothing_else(session):
    live_sessions.replace_all(session, [reported("porch"), reported("bell"), reported("lamp")], NOW)
    later = NOW + timedelta(seconds=1)
    live_sessions.report(session, [reported("bell", sent=1), reported("bell", sent=2)], ["lamp", "bell"], later)
    rows = session.execute(text("SELECT username, sent, reported_at FROM broker_sessions ORDER BY username")).all()
    assert rows == [("bell", 2, later), ("porch", 0, NOW)]
    live_sessions.report(session, [], [], later)
    live_sessions.replace_all(session, [reported("lamp")], later)
    assert names(session) == {"lamp"}


def test_retained_topics_follow_the_broker(session):
    live_sessions.replace_retained(session, [("a", "porch", 10), ("b", "bell", 20)], NOW)
    live_sessions.retained(session, [("a", "bell", 11), ("c", "porch", 30), ("c", "porch", 31)], ["b", "x"], NOW)
    rows = session.execute(text("SELECT topic, username, bytes FROM broker_retained ORDER BY topic")).all()
    assert rows == [("a", "bell", 11), ("c", "porch", 31)]
    live_sessions.replace_retained(session, [], NOW)
    assert session.execute(text("SELECT count(*) FROM broker_retained")).scalar_one() == 0
