"""Spaces: refused first; and in a private one nothing is stored, and everybody who tries is told."""

from datetime import UTC, datetime

import pytest

from hub import audit, devices, events, reporting, spaces
from hub.access import callers
from hub.errors import Conflict, Invalid, NotFound
from hub.tables import Agent
from hub.telemetry import streams


@pytest.mark.parametrize("name", ["", "  ", "x" * 81, "a\nb\x07"])
def test_a_bad_name_is_named(session, agent, name) -> None:
    with pytest.raises(Invalid) as refused:
        spaces.create(session, agent.agent_id, name, by="ann")
    assert refused.value.field == "name"


def test_a_name_is_taken_whatever_its_case(session, agent, space) -> None:
    with pytest.raises(Conflict):
        spaces.create(session, agent.agent_id, "HALL", by="ann")
    garden = spaces.create(session, agent.agent_id, "Garden", by="ann")
    with pytest.raises(Conflict):
        spaces.change(session, agent.agent_id, garden.space_id, name="hall", by="ann")


def test_another_agents_space_is_not_found(session, space) -> None:
    other = Agent(name="Elsewhere")
    session.add(other)
    session.flush()
    for call in (
        lambda: spaces.view(session, other.agent_id, space.space_id),
        lambda: spaces.change(session, other.agent_id, space.space_id, privacy_mode=True, by="eve"),
        lambda: spaces.delete(session, other.agent_id, space.space_id, "Hall", by="eve"),
    ):
        with pytest.raises(NotFound):
            call()


def test_the_second_of_two_who_edit_is_told(session, agent, space) -> None:
    spaces.change(session, agent.agent_id, space.space_id, name="Lobby", revision=1, by="ann")
    with pytest.raises(Conflict) as refused:
        spaces.change(session, agent.agent_id, space.space_id, name="Porch", revision=1, by="ben")
    assert (refused.value.field, "Lobby" in refused.value.message) == ("revision", True)


def test_in_a_private_space_nothing_is_stored_and_the_device_is_told(session, agent, space, make_device, say) -> None:
    device = make_device("Porch", space_id=space.space_id)
    say(("porch/event/before", {"id": "e0", "epoch": 1, "payload": {}}))
    spaces.change(session, agent.agent_id, space.space_id, privacy_mode=True, by="ann@example.org")
    outcome = say(
        ("porch/event/door", {"id": "e1", "epoch": 1, "payload": {}}),
        ("porch/event/door", {"id": "e2", "epoch": 1, "payload": {}, "space": "Hall"}),
    )
    told = {denied.id: denied.reason for denied in outcome.denied.values()}
    assert told == {"e1": spaces.PRIVATE, "e2": spaces.PRIVATE}
    assert not outcome.receipts
    with pytest.raises(Conflict) as refused:
        reporting.event(
            session, callers.device(session, device.device_id), agent.agent_id, datetime.now(UTC), type="x", payload={}
        )
    assert refused.value.field == "space"
    assert [one.type for one in events.page(session, agent.agent_id).items] == ["before"], "what was there stays"
    sampled = say(("porch/telemetry/warmth", b"21.5"))
    assert [one.reason for one in sampled.denied.values()] == [spaces.PRIVATE]
    assert streams.of_device(session, agent.agent_id, device.device_id) == []
    spaces.change(session, agent.agent_id, space.space_id, privacy_mode=False, by="ann@example.org")
    assert say(("porch/event/after", {"id": "e3", "epoch": 1, "payload": {}})).receipts
    assert [one.action for one in audit.entries(session, agent.agent_id)[:2]] == [
        "space.privacy_off",
        "space.privacy_on",
    ]


def test_a_space_with_events_takes_its_typed_name(session, agent, space, make_device, say) -> None:
    device = make_device("Porch", space_id=space.space_id)
    say(("porch/event/x", {"id": "e", "epoch": 1, "payload": {}}))
    with pytest.raises(Invalid) as refused:
        spaces.delete(session, agent.agent_id, space.space_id, "hall", by="ann")
    assert refused.value.field == "typed"
    spaces.delete(session, agent.agent_id, space.space_id, "Hall", by="ann")
    session.expire_all()
    assert devices.find(session, agent.agent_id, device.device_id).space_id is None


def test_an_empty_space_just_goes(session, agent, space) -> None:
    spaces.delete(session, agent.agent_id, space.space_id, by="ann")
    assert spaces.overview(session, agent.agent_id) == []
