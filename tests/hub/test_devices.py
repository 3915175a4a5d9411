"""Devices: closed doors first."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text
from sqlmodel import Session

from hub import audit, commands, device_views, devices, events, feed, outbox
from hub.access import credentials, principals
from hub.errors import Conflict, Invalid, NotFound
from hub.tables import Agent, Space


@pytest.mark.parametrize(
    ("facts", "field"),
    [
        ({"name": "  "}, "name"),
        ({"name": "x" * 81}, "name"),
        ({"name": "a\x1b[31m"}, "name"),
        ({"name": "日本"}, "name"),
        ({"scopes": ["events:everything"]}, "scopes"),
        ({"handle": "-porch"}, "handle"),
        ({"handle": "Porch"}, "handle"),
        ({"handle": "a/b"}, "handle"),
    ],
)
def test_bad_input_names_the_field_and_stores_nothing(session, make_device, facts, field):
    with pytest.raises(Invalid) as refused:
        make_device(**facts)
    assert refused.value.field == field
    assert session.execute(text("SELECT count(*) FROM devices")).scalar_one() == 0


def test_a_space_of_another_agent_is_not_found(session, make_device):
    other = Agent(name="Elsewhere")
    session.add(other)
    session.flush()
    space = Space(agent_id=other.agent_id, name="Attic")
    session.add(space)
    session.flush()
    with pytest.raises(NotFound):
        make_device(space_id=space.space_id)


def test_a_device_of_another_agent_is_not_found(session, device):
    other = Agent(name="Elsewhere")
    session.add(other)
    session.flush()
    with pytest.raises(NotFound):
        devices.find(session, other.agent_id, device.device_id)
    with pytest.raises(NotFound):
        device_views.view(session, other.agent_id, device.device_id)
    assert device_views.overview(session, other.agent_id) == []


def test_a_taken_handle_is_a_conflict_and_a_name_twice_is_not(session, make_device):
    assert make_device("Front Door").handle == "front-door"
    assert make_device("front door").handle == "front-door-2"
    assert make_device("Front door!").handle == "front-door-3"
    with pytest.raises(Conflict) as refused:
        make_device("Other", handle="front-door")
    assert refused.value.field == "handle"
    assert session.execute(text("SELECT count(*) FROM devices")).scalar_one() == 3


def test_the_token_is_stored_as_a_hash_only(session, agent):
    new = devices.add(session, agent.agent_id, "Porch", scopes=["*"], by="ann")
    everything = session.execute(text("SELECT (to_jsonb(d) || to_jsonb(c))::text FROM devices d, credentials c"))
    assert new.token.startswith("mv1.porch.")
    assert new.token.rsplit(".", 1)[1] not in everything.scalar_one()


def test_a_view_has_what_a_row_shows(session, make_device, space):
    device = make_device(space_id=space.space_id, scopes=["events:write"])
    seen = device_views.view(session, device.agent_id, device.device_id)
    assert (seen.presence, seen.why, seen.space_name) == ("offline", "never connected", "Hall")
    assert seen.scopes == ["events:write"]
    assert seen.last_command is None


def test_revoked_is_for_good(session, device, agent):
    devices.revoke(session, device, by="ann", reason="lost on the train")
    with pytest.raises(Conflict):
        devices.revoke(session, device, by="bob")
    with pytest.raises(Conflict):
        devices.rotate(session, device, by="bob")
    with pytest.raises(Conflict):
        commands.request(session, device, "ping", by="bob")
    seen = device_views.view(session, agent.agent_id, device.device_id)
    assert (seen.revoked_by, seen.revoked_reason) == ("ann", "lost on the train")
    assert "revoked by ann: lost on the train" in seen.why


def test_revoke_purges_what_was_retained_and_ends_its_commands(session, device, say):
    say((f"{device.handle}/state", {"state": "online", "epoch": 1}))
    command = commands.request(session, device, "ping", by="ann")
    feed.flush(session)
    devices.revoke(session, device, by="ann")
    feed.flush(session)
    purged = [one.topic for one in outbox.claim(session, 500) if one.retain and not one.payload]
    assert set(purged) == {"d/porch/state", "d/porch/presence", "d/porch/config"}
    assert session.execute(text("SELECT count(*) FROM retained_topics")).scalar_one() == 0
    assert commands.get(session, device.agent_id, command.command_id).status == "expired"


@pytest.mark.parametrize("reason", ["x" * 201, "a\0b", "a\ud800b"])
def test_a_reason_that_is_too_long_or_unprintable_is_refused(session, device, reason):
    with pytest.raises(Invalid) as refused:
        devices.revoke(session, device, by="ann", reason=reason)
    assert refused.value.field == "reason"


def test_rotate_makes_the_old_token_worthless(session, agent, say):
    new = devices.add(session, agent.agent_id, "Porch", scopes=["*"], by="ann")
    say(("porch/state", {"state": "online", "epoch": 9}))
    token = devices.rotate(session, new.device, by="ann")
    now = session.execute(text("SELECT now()")).scalar_one()
    refused = credentials.authenticate(session, "porch", new.token, now)
    assert isinstance(refused, credentials.Refused)
    assert "replaced" in refused.reason
    assert isinstance(credentials.authenticate(session, "porch", token, now), credentials.Authenticated)
    seen = device_views.view(session, agent.agent_id, new.device.device_id)
    assert (seen.presence, seen.epoch) == ("offline", 0)


def test_brokers_and_pages_are_told(database, agent, session):
    session.commit()
    with database.listen("marvain_access") as listener:
        with database.transaction() as work:
            new = devices.add(work, agent.agent_id, "Porch", scopes=["*"], by="ann")
        with database.transaction() as work:
            devices.revoke(work, devices.by_handle(work, "porch"), by="ann", reason="stolen")
        [notice] = listener.wait(5)
    assert json.loads(notice.payload) == {
        "username": "porch",
        "kind": "revoked",
        "reason": "this device was revoked by ann: stolen",
    }
    with database.transaction() as work:
        told = feed.since(work, agent.agent_id, 0).messages
    changes = [(one["type"], one["items"][0].get("change")) for one in told if one["type"] == "devices.updated"]
    assert changes == [("devices.updated", "added"), ("devices.updated", "revoked")]
    assert all(one["items"][0]["device_id"] == str(new.device.device_id) for one in told)


def test_scopes_change_at_once_and_every_change_is_audited(database, agent, session):
    session.commit()
    with database.transaction() as work:
        device = devices.add(work, agent.agent_id, "Porch", scopes=["presence:write"], by="ann").device
    with database.listen("marvain_access") as listener:
        with database.transaction() as work:
            found = devices.find(work, agent.agent_id, device.device_id)
            with pytest.raises(Invalid):
                devices.set_scopes(work, found, ["events:everything"], by="ann")
            devices.set_scopes(work, found, ["presence:write"], by="ann")
            devices.set_scopes(work, found, ["events:write", "events:write"], by="bob")
            principal = principals.load(work, "porch", "marvain/v1")
        [notice] = listener.wait(5)
    assert json.loads(notice.payload) == {
        "username": "porch",
        "kind": "changed",
        "reason": "its scopes were changed by bob",
    }
    assert principal.scopes == ("events:write",)
    with database.transaction() as work:
        found = devices.find(work, agent.agent_id, device.device_id)
        token = devices.rotate(work, found, by="ann")
        devices.revoke(work, found, by="ann", reason="lost")
        with pytest.raises(Conflict):
            devices.set_scopes(work, found, ["*"], by="ann")
        told = [(one.action, one.actor, one.before, one.after) for one in audit.entries(work, agent.agent_id)]
        everything = work.execute(text("SELECT string_agg(a::text, '') FROM audit_entries a")).scalar_one()
    assert list(reversed(told)) == [
        ("device.added", "ann", None, {"name": "Porch", "handle": "porch", "scopes": ["presence:write"]}),
        ("device.scopes_changed", "bob", {"scopes": ["presence:write"]}, {"scopes": ["events:write"]}),
        ("device.rotated", "ann", None, None),
        ("device.revoked", "ann", None, {"reason": "lost"}),
    ]
    assert token.rsplit(".", 1)[1] not in everything


def test_with_an_overlap_both_tokens_are_good_until_it_ends(session: Session, agent: Agent) -> None:
    first = devices.add(session, agent.agent_id, "Porch", scopes=["*"], by="ann")
    second = devices.rotate(session, first.device, by="ann", overlap_s=60)
    now = datetime.now(UTC)
    for token in (first.token, second):
        assert isinstance(credentials.authenticate(session, "porch", token, now), credentials.Authenticated)
    later = now + timedelta(seconds=61)
    assert "was replaced" in credentials.authenticate(session, "porch", first.token, later).reason
    assert isinstance(credentials.authenticate(session, "porch", second, later), credentials.Authenticated)
    assert credentials.end_overlaps(session, now) == 0
    assert credentials.end_overlaps(session, later) == 1
    assert "was replaced" in credentials.authenticate(session, "porch", first.token, now).reason


def test_a_second_rotation_leaves_no_third_token(session: Session, agent: Agent) -> None:
    first = devices.add(session, agent.agent_id, "Porch", scopes=["*"], by="ann")
    second = devices.rotate(session, first.device, by="ann", overlap_s=60)
    devices.rotate(session, first.device, by="ann", overlap_s=60)
    now = datetime.now(UTC)
    assert isinstance(credentials.authenticate(session, "porch", first.token, now), credentials.Refused)
    assert isinstance(credentials.authenticate(session, "porch", second, now), credentials.Authenticated)


@pytest.mark.parametrize("overlap_s", [-1, devices.OVERLAP_MAX_S + 1])
def test_an_overlap_has_bounds(session: Session, agent: Agent, overlap_s: int) -> None:
    added = devices.add(session, agent.agent_id, "Porch", scopes=["*"], by="ann")
    with pytest.raises(Invalid) as refused:
        devices.rotate(session, added.device, by="ann", overlap_s=overlap_s)
    assert refused.value.field == "overlap_s"
    assert isinstance(
        credentials.authenticate(session, "porch", added.token, datetime.now(UTC)), credentials.Authenticated
    )


def test_a_deleted_device_leaves_what_it_reported_and_nothing_else(session, agent, say) -> None:
    added = devices.add(session, agent.agent_id, "Porch", scopes=["*"], by="ann")
    say(("porch/event/door", {"id": "e", "epoch": 1, "payload": {}}))
    with pytest.raises(Invalid) as refused:
        devices.delete(session, added.device, "porch", by="ann")
    assert refused.value.field == "typed"
    devices.delete(session, added.device, "Porch", by="ann")
    assert device_views.overview(session, agent.agent_id) == []
    with pytest.raises(NotFound):
        devices.find(session, agent.agent_id, added.device.device_id)
    assert principals.load(session, "porch", "marvain/v1") is None
    assert "was revoked" in credentials.authenticate(session, "porch", added.token, datetime.now(UTC)).reason
    (event,) = events.page(session, agent.agent_id).items
    assert event.device_name == "Porch"
    with pytest.raises(Conflict):
        devices.add(session, agent.agent_id, "New", handle="porch", scopes=[], by="ann")


def test_the_second_of_two_who_rename_it_is_told(session, agent) -> None:
    device = devices.add(session, agent.agent_id, "Porch", scopes=["*"], by="ann").device
    devices.change(session, device, name="Front", space_id=None, revision=1, by="ann")
    with pytest.raises(Conflict) as refused:
        devices.change(session, device, name="Back", space_id=None, revision=1, by="ben")
    assert refused.value.field == "revision"
    assert device.name == "Front"
