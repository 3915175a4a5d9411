"""A preview says what an edit does to what is open, kept and published; it changes nothing and tells nobody."""

import itertools
import random
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from hub.access import changes, differences, live_sessions, preview, principals, roles, traffic
from hub.access.differences import LostFilters
from hub.access.grants import Grant, covers
from hub.access.live_sessions import SessionReport
from hub.access.principals import Principal
from hub.access.roles import GrantDraft, RoleDraft
from hub.errors import Conflict, Invalid, NotFound
from hub.tables import Agent, Integration

ROOT = "marvain/v1"
NOW = datetime(2026, 11, 22, 12, 0, 30, tzinfo=UTC)
WRITES = (GrantDraft("publish", "x/{agent}/{handle}/#"),)
READS = (GrantDraft("subscribe", "x/{agent}/#"),)


def asked(session, agent, role_id, draft):
    return preview.preview(session, agent.agent_id, role_id, draft, root=ROOT, open_topics=(), now=NOW)


def saved(session, agent, draft):
    return roles.create(session, agent.agent_id, draft, by="ann", open_topics=()).role.role_id


def connected(username, *filters, is_connected=True):
    subscriptions = [(filter_, 1) for filter_ in filters]
    return SessionReport(username, is_connected, "192.0.2.7", "tcp", NOW, True, 30, subscriptions)


def everything(session):
    tables = ("roles", "role_grants", "role_assignments", "devices", "integrations", "audit_entries")
    return [session.execute(text(f"SELECT * FROM {table} ORDER BY 1, 2, 3")).all() for table in tables]


@pytest.fixture
def integration(session, agent):
    integration = Integration(agent_id=agent.agent_id, handle="nodes", name="Node-RED", created_by="ann")
    session.add(integration)
    session.flush()
    return integration


@pytest.fixture
def other(session):
    other = Agent(name="Elsewhere")
    session.add(other)
    session.flush()
    return other


def test_what_cannot_be_saved_has_no_preview(session, agent, other, device):
    theirs = saved(session, other, RoleDraft("Theirs"))
    saved(session, agent, RoleDraft("Taken"))
    for role_id, draft, refused, field in (
        (None, None, Invalid, "role"),
        (theirs, None, NotFound, "role"),
        (theirs, RoleDraft("Ours"), NotFound, "role"),
        (None, RoleDraft("taken"), Conflict, "name"),
        (None, RoleDraft("New", grants=(GrantDraft("publish", "hub/status"),)), Invalid, "grants.0.filter"),
        (None, RoleDraft("New", devices=(other.agent_id,)), Invalid, "devices"),
    ):
        with pytest.raises(refused) as error:
            asked(session, agent, role_id, draft)
        assert error.value.field == field
    for call in (
        lambda: preview.preview_scopes(session, other.agent_id, device.device_id, [], root=ROOT, now=NOW),
        lambda: preview.preview_revoking(session, other.agent_id, device_id=device.device_id, root=ROOT, now=NOW),
        lambda: preview.preview_revoking(session, agent.agent_id, root=ROOT, now=NOW),
    ):
        with pytest.raises(NotFound):
            call()
    with pytest.raises(Invalid):
        preview.preview_scopes(session, agent.agent_id, device.device_id, ["root"], root=ROOT, now=NOW)


def test_a_preview_changes_nothing_and_tells_nobody(database, session, agent, device, integration):
    role_id = saved(session, agent, RoleDraft("Rooms", grants=WRITES, devices=(device.device_id,)))
    session.commit()
    before = everything(session)
    principals_before = principals.load_agent(session, agent.agent_id, ROOT)
    with database.listen(changes.CHANNEL) as listener:
        assert asked(session, agent, role_id, None).losses
        assert asked(session, agent, role_id, RoleDraft("Other", grants=READS, all_devices=True)).gains
        assert asked(session, agent, None, RoleDraft("New", grants=READS, all_devices=True)).gains
        assert preview.preview_scopes(session, agent.agent_id, device.device_id, [], root=ROOT, now=NOW).losses
        for revoked in ({"device_id": device.device_id}, {"integration_id": integration.integration_id}):
            assert preview.preview_revoking(session, agent.agent_id, **revoked, root=ROOT, now=NOW).losses
        session.commit()
        assert listener.wait(0.1) == []
    assert everything(session) == before
    assert principals.load_agent(session, agent.agent_id, ROOT) == principals_before


def test_an_edit_without_effect_shows_nothing(session, agent, device):
    role_id = saved(session, agent, RoleDraft("Rooms", grants=WRITES, devices=(device.device_id,)))
    narrower = GrantDraft("publish", "x/{agent}/{handle}/lamp")
    again = asked(session, agent, role_id, RoleDraft("Halls", grants=(*WRITES, narrower), all_devices=True))
    assert again == preview.Preview()


def test_an_edit_shows_all_that_it_ends_and_no_other_agents(session, agent, other, make_device, integration):
    porch, bell = make_device("Porch", scopes=[]), make_device("Bell", scopes=[])
    attic = make_device("Attic", agent_id=other.agent_id)
    draft = RoleDraft("Rooms", "", (*WRITES, *READS), (porch.device_id,), (integration.integration_id,))
    role_id = saved(session, agent, draft)
    saved(session, other, RoleDraft("Rooms", "", (*WRITES, *READS), (attic.device_id,)))
    ours, theirs = f"{ROOT}/x/{agent.agent_id}", f"{ROOT}/x/{other.agent_id}"
    live_sessions.replace_all(
        session,
        [
            connected("porch", f"{ours}/#", f"{ours}/nodes/+", f"{ROOT}/d/porch/welcome"),
            connected("bell", f"{ROOT}/d/bell/welcome"),
            connected("attic", f"{theirs}/#"),
            connected("ext_nodes", f"{ours}/#", is_connected=False),
        ],
        NOW,
    )
    live_sessions.replace_retained(
        session,
        [(f"{ours}/porch/lamp", "porch", 9), (f"{ours}/nodes/a", "ext_nodes", 9), (f"{theirs}/attic", "attic", 9)],
        NOW,
    )
    hour = NOW - timedelta(hours=1)
    for counts, at in (
        ({("porch", f"{ours}/porch/lamp"): 7, ("bell", f"{ours}/porch/lamp"): 1, ("porch", ""): 3}, NOW),
        ({("porch", f"{ours}/porch/lamp"): 5, ("porch", f"{ours}/porch/odd"): 1}, hour),
        ({("attic", f"{theirs}/attic"): 9, ("ext_nodes", f"{ours}/nodes/a"): 2}, NOW),
        ({("porch", f"{ours}/porch/old"): 1}, NOW - timedelta(hours=25)),
    ):
        traffic.record(session, counts, at)

    # The device may still read what it says itself, and write but one topic of it; the integration loses all.
    after = (GrantDraft("publish", "x/{agent}/{handle}/odd"), GrantDraft("subscribe", "x/{agent}/porch/#"))
    seen = asked(session, agent, role_id, RoleDraft("Rooms", grants=after, devices=(porch.device_id,)))
    assert seen.gains == []
    assert seen.losses == [
        ("ext_nodes", "Node-RED", "publish", f"{ours}/nodes/#"),
        ("ext_nodes", "Node-RED", "subscribe", f"{ours}/#"),
        ("porch", "Porch", "publish", f"{ours}/porch/#"),
        ("porch", "Porch", "subscribe", f"{ours}/#"),
    ]
    assert [view.username for view in seen.sessions] == ["porch"]
    assert sorted(seen.subscriptions) == [
        ("ext_nodes", f"{ours}/#"),
        ("porch", f"{ours}/#"),
        ("porch", f"{ours}/nodes/+"),
    ]
    assert seen.retained == [
        (f"{ours}/nodes/a", "ext_nodes"),
        (f"{ours}/nodes/a", "porch"),
        (f"{ours}/porch/lamp", "ext_nodes"),
        (f"{ours}/porch/lamp", "porch"),
    ]
    assert seen.integrations == ["Node-RED"]
    assert seen.refused == [
        ("porch", f"{ours}/porch/lamp", 12, NOW),
        ("ext_nodes", f"{ours}/nodes/a", 2, NOW),
    ]
    assert (seen.unknown, seen.more) == (3, {})
    assert bell.handle not in str(seen)
    assert "attic" not in str(seen)


def test_the_preview_is_what_then_happens(session, agent, make_device, integration):
    """Saved after its preview, the edit gives and takes what was said."""
    porch = make_device("Porch")
    make_device("Bell")
    role_id = saved(session, agent, RoleDraft("Rooms", "", (*WRITES, *READS), (porch.device_id,)))
    draft = RoleDraft("Rooms", "", READS, integrations=(integration.integration_id,), all_devices=True)
    before = principals.load_agent(session, agent.agent_id, ROOT)
    said = asked(session, agent, role_id, draft)
    roles.edit(session, agent.agent_id, role_id, draft, revision=1, by="ann", open_topics=())
    changed = differences.between(before, principals.load_agent(session, agent.agent_id, ROOT))
    assert [(name, *gain) for name, _, *gain in said.gains] == [
        (one.username, *gain) for one in changed.values() for gain in one.gains
    ]
    assert [(name, *loss) for name, _, *loss in said.losses] == [
        (one.username, *loss) for one in changed.values() for loss in one.losses
    ]
    assert {name for name, *_ in said.gains} == {"bell", "ext_nodes"}


def test_scopes_and_revoking(session, agent, device):
    own = f"{ROOT}/d/porch"
    live_sessions.replace_all(session, [connected("porch", f"{own}/cmd/+/+", f"{own}/welcome")], NOW)
    live_sessions.replace_retained(session, [(f"{own}/state", "porch", 2)], NOW)
    traffic.record(session, {("porch", f"{own}/event/door"): 4, ("porch", f"{own}/state"): 1}, NOW)
    arguments = {"root": ROOT, "now": NOW}
    scoped = preview.preview_scopes(session, agent.agent_id, device.device_id, ["presence:write"], **arguments)
    assert scoped.subscriptions == [("porch", f"{own}/cmd/+/+")]
    assert scoped.refused == [("porch", f"{own}/event/door", 4, NOW)]
    assert scoped.retained == []
    revoked = preview.preview_revoking(session, agent.agent_id, device_id=device.device_id, **arguments)
    assert len(revoked.subscriptions) == 2
    assert revoked.retained == [(f"{own}/state", "porch")]
    assert [topic for _, topic, _, _ in revoked.refused] == [f"{own}/event/door", f"{own}/state"]
    assert revoked.gains == []


def test_long_lists_are_cut_and_say_so(session, agent, device, monkeypatch):
    monkeypatch.setattr(preview, "MOST", 3)
    role_id = saved(session, agent, RoleDraft("Rooms", grants=WRITES, devices=(device.device_id,)))
    topics = [f"{ROOT}/x/{agent.agent_id}/porch/{number}" for number in range(10)]
    traffic.record(session, {("porch", topic): 1 + number for number, topic in enumerate(topics)}, NOW)
    seen = asked(session, agent, role_id, None)
    assert [count for _, _, count, _ in seen.refused] == [10, 9, 8]
    assert seen.more == {"refused": 7}


def test_other_agents_retained_topics_hide_none_and_very_many_readers_cost_no_more(
    session, agent, make_device, monkeypatch
):
    monkeypatch.setattr(preview, "_MOST_RETAINED", 5)
    porch, bell = make_device(), make_device("Bell")
    space = f"{ROOT}/x/{agent.agent_id}"
    theirs = [(f"{ROOT}/d/another/telemetry/{number}", "another", 1) for number in range(5)]
    live_sessions.retained(session, [*theirs, (f"{space}/door", "nobody", 1), ("zigbee/lamp", "nobody", 1)], [], NOW)
    grants = (GrantDraft("subscribe", "x/{agent}/#"), GrantDraft("subscribe", "//zigbee/+"))
    given = {"open_topics": ("zigbee/#",), "by": "ann"}
    draft = RoleDraft("Readers", "", grants, devices=(porch.device_id, bell.device_id))
    role_id = roles.create(session, agent.agent_id, draft, **given).role.role_id
    assert asked(session, agent, role_id, None).retained == [
        (f"{space}/door", "bell"),
        (f"{space}/door", "porch"),
        ("zigbee/lamp", "bell"),
        ("zigbee/lamp", "porch"),
    ]
    monkeypatch.setattr(preview, "_MOST_VERDICTS", 5)
    assert len(asked(session, agent, role_id, None).retained) == 2


def principal(name, *grants):
    return Principal(name, "device", tuple(Grant(*one, "tests") for one in grants), ROOT)


def test_differences_are_what_no_grant_of_the_other_side_covers():
    before = [principal("a", ("publish", "x/#"), ("subscribe", "y")), principal("gone", ("publish", "z"))]
    after = [principal("a", ("publish", "x/+"), ("subscribe", "y"), ("subscribe", "x/1")), principal("new")]
    found = differences.between(before, after)
    assert list(found) == ["a", "gone", "new"]
    assert found["a"].losses == (("publish", "x/#"),)
    assert found["a"].gains == (("subscribe", "x/1"),)
    assert found["a"].ends_publishing("x/1/2")
    assert not found["a"].ends_publishing("x/1")
    assert not found["a"].ends_publishing("other")
    assert found["gone"].ends_publishing("z")
    assert not found["new"].ends_reading("z")
    assert differences.between(before, before) == {}


def test_lost_filters_are_found_like_by_asking_each():
    chance = random.Random(7)
    levels = ["a", "b", "", "$SYS", "é"]
    filters = ["/".join(one) for n in (1, 2, 3) for one in itertools.product([*levels, "+"], repeat=n)]
    filters += [f"{one}/#" for one in filters] + ["#"]
    topics = ["/".join(one) for n in (1, 2, 3, 4) for one in itertools.product(levels, repeat=n)]
    for _ in range(20):
        lost = {name: chance.sample(filters, 3) for name in ("porch", "bell", "lamp")}
        index = LostFilters(lost)
        for topic in chance.sample(topics, 200):
            assert index.of(topic) == {name for name, some in lost.items() if any(covers(one, topic) for one in some)}
