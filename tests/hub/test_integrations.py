"""Integrations: closed doors first."""

import pytest
from sqlalchemy import text

from hub import audit, integrations
from hub.access import changes, credentials, roles
from hub.access.roles import GrantDraft, RoleDraft
from hub.errors import Conflict, Invalid, NotFound
from hub.tables import Agent


@pytest.fixture
def other(session) -> Agent:
    other = Agent(name="Elsewhere")
    session.add(other)
    session.flush()
    return other


def test_bad_input_names_the_field_and_stores_nothing(session, agent, other):
    for facts, field in (
        ({"name": " "}, "name"),
        ({"name": "x" * 81}, "name"),
        ({"name": "a\x1b[31m"}, "name"),
        ({"name": "日本"}, "name"),
        ({"name": "HA", "handle": "ext_ha"}, "handle"),
        ({"name": "HA", "handle": "Ha"}, "handle"),
        ({"name": "HA", "handle": "h" * 60}, "handle"),
    ):
        with pytest.raises(Invalid) as refused:
            integrations.add(session, agent.agent_id, facts.pop("name"), by="ann", **facts)
        assert refused.value.field == field
    theirs = roles.create(session, other.agent_id, RoleDraft("Theirs"), by="eve", open_topics=()).role
    with pytest.raises(NotFound), session.begin_nested():
        integrations.add(session, agent.agent_id, "HA", by="ann", roles=[theirs.role_id])
    assert session.execute(text("SELECT count(*) FROM integrations")).scalar_one() == 0


def test_another_agents_integration_is_not_found_and_a_taken_handle_is_a_conflict(session, agent, other):
    new = integrations.add(session, agent.agent_id, "Home Assistant", by="ann").integration
    assert new.handle == "home-assistant"
    for refused in (
        lambda: integrations.find(session, other.agent_id, new.integration_id),
        lambda: integrations.rename(session, other.agent_id, new.integration_id, "Mine", by="eve"),
        lambda: integrations.rotate(session, other.agent_id, new.integration_id, by="eve"),
        lambda: integrations.revoke(session, other.agent_id, new.integration_id, by="eve"),
        lambda: integrations.set_roles(session, other.agent_id, new.integration_id, [], by="eve"),
        lambda: integrations.by_handle(session, "ext_nobody"),
    ):
        with pytest.raises(NotFound):
            refused()
    assert integrations.list_integrations(session, other.agent_id) == []
    with pytest.raises(Conflict) as taken:
        integrations.add(session, other.agent_id, "Other", by="eve", handle="home-assistant")
    assert taken.value.field == "handle"
    assert integrations.add(session, other.agent_id, "Home Assistant", by="eve").integration.handle != new.handle


def test_its_life_is_audited_told_and_ends_for_good(database, agent, session):
    session.commit()
    grant = GrantDraft("subscribe", "hub/status")
    with database.transaction() as work:
        role = roles.create(work, agent.agent_id, RoleDraft("Watch", "", (grant,)), by="ann", open_topics=()).role
        new = integrations.add(work, agent.agent_id, "HA", by="ann", roles=[role.role_id])
    integration_id = new.integration.integration_id
    with database.listen(changes.CHANNEL) as listener:
        with database.transaction() as work:
            assert integrations.find(work, agent.agent_id, integration_id).roles == [(role.role_id, "Watch")]
            integrations.rename(work, agent.agent_id, integration_id, "  Home   Assistant ", by="bob")
            token = integrations.rotate(work, agent.agent_id, integration_id, by="bob")
            now = work.execute(text("SELECT now()")).scalar_one()
            refused = credentials.authenticate(work, "ext_ha", new.token, now)
            assert isinstance(refused, credentials.Refused)
            assert "replaced" in refused.reason
            assert isinstance(credentials.authenticate(work, "ext_ha", token, now), credentials.Authenticated)
            integrations.set_roles(work, agent.agent_id, integration_id, [], by="bob")
            integrations.revoke(work, agent.agent_id, integration_id, by="bob", reason=" sold ")
        told = [changes.read(one.payload) for one in listener.wait(5)]
    assert {(one.username, one.kind) for one in told} == {
        ("ext_ha", "rotated"),
        ("ext_ha", "changed"),
        ("ext_ha", "revoked"),
    }
    with pytest.raises(Invalid):
        integrations.revoke(session, agent.agent_id, integration_id, by="bob", reason="a\0b")
    for again in (integrations.revoke, integrations.rotate):
        with pytest.raises(Conflict):
            again(session, agent.agent_id, integration_id, by="bob")
    (seen,) = integrations.list_integrations(session, agent.agent_id)
    assert (seen.name, seen.username, seen.roles) == ("Home Assistant", "ext_ha", [])
    assert (seen.revoked_by, seen.revoked_reason, seen.created_by) == ("bob", "sold", "ann")
    entries = audit.entries(session, agent.agent_id, subject_id=integration_id)
    assert [(one.action, one.actor) for one in reversed(entries)] == [
        ("integration.added", "ann"),
        ("integration.renamed", "bob"),
        ("integration.rotated", "bob"),
        ("integration.revoked", "bob"),
    ]
    of_role = audit.entries(session, agent.agent_id, subject_id=role.role_id)
    assert [one.after["integrations"] for one in reversed(of_role)] == [[], ["ha"], []]
    everything = session.execute(text("SELECT coalesce(string_agg(a::text, ''), '') FROM audit_entries a"))
    assert token.rsplit(".", 1)[1] not in everything.scalar_one()
