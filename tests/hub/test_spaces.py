"""Spaces: refused first; and in a private one nothing is stored, and everybody who tries is told."""

import threading
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
    [event] = events.page(session, agent.agent_id).items
    assert event.space_name == "Hall", "what happened there stays, under its name"
    [entry] = audit.entries(session, agent.agent_id, subject_id=space.space_id)
    assert (entry.action, entry.before) == ("space.deleted", {"name": "Hall", "devices": ["porch"]})


def test_a_private_space_is_not_deleted(session, agent, space) -> None:
    spaces.change(session, agent.agent_id, space.space_id, privacy_mode=True, by="ann")
    with pytest.raises(Conflict, match="private"):
        spaces.delete(session, agent.agent_id, space.space_id, "Hall", by="ann")
    spaces.change(session, agent.agent_id, space.space_id, privacy_mode=False, by="ann")
    spaces.delete(session, agent.agent_id, space.space_id, by="ann")


def test_nobody_else_learns_what_a_private_space_did_not_take(session, agent, space, make_device, say) -> None:
    make_device("Porch", space_id=space.space_id)
    make_device("Shed")
    spaces.create(session, agent.agent_id, "Kitchen", by="ann")
    spaces.change(session, agent.agent_id, space.space_id, privacy_mode=True, by="ann")
    session.info.clear()
    outcome = say(
        ("porch/event/door", {"id": "own", "epoch": 1, "payload": {}}),
        # What stands in a private space cannot talk out of it.
        ("porch/event/door", {"id": "elsewhere", "epoch": 1, "payload": {}, "space": "Kitchen"}),
        ("shed/event/door", {"id": "named", "epoch": 1, "payload": {}, "space": "Hall"}),
        ("shed/event/door", {"id": "open", "epoch": 1, "payload": {}}),
        ("porch/telemetry/warmth", b"21.5"),
    )
    # With its id, so that an outbox does not send it for ever.
    assert {denied.id for denied in outcome.denied.values()} == {"own", "elsewhere", "named", None}
    assert outcome.receipts == {"shed": ["open"]}
    assert outcome.refusals == []
    told = [items for (_, feed, _), items in session.info["feed"].items() if feed in {"events", "denials"}]
    assert [item["handle"] for items in told for item in items.values()] == ["shed"]


def test_once_the_switch_is_turned_nothing_comes_after_it(database) -> None:
    with database.transaction() as session:
        agent = Agent(name="Home")
        session.add(agent)
        session.flush()
        space_id = spaces.create(session, agent.agent_id, "Hall", by="ann").space_id
    turned = threading.Event()

    def turn() -> None:
        with database.transaction() as session:
            spaces.change(session, agent.agent_id, space_id, privacy_mode=True, by="ann")
        turned.set()

    with database.transaction() as session:
        assert spaces.private_among(session, [space_id, None]) == set()
        thread = threading.Thread(target=turn)
        thread.start()
        # Whoever has looked, and is about to store, holds the switch.
        assert not turned.wait(0.3)
    thread.join(10)
    with database.transaction() as session:
        assert spaces.private_among(session, [space_id]) == {space_id}


def test_an_empty_space_just_goes(session, agent, space) -> None:
    spaces.delete(session, agent.agent_id, space.space_id, by="ann")
    assert spaces.overview(session, agent.agent_id) == []
