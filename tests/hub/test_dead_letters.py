"""Dead letters: whose they are, found again, tried again through the same pipeline, and discarded as counted."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from hub import dead_letters, device_views, events, feed, outbox
from hub.dead_letters import Filter, View
from hub.errors import Conflict, Invalid, NotFound
from hub.inbox import retrying
from hub.tables import Agent

ROOT = "marvain/v1"
NOW = datetime.now(UTC)
EVENT = json.dumps({"id": "e1", "epoch": 3, "payload": {"n": 1}}).encode()


@pytest.fixture
def park(session):
    def park(topic=f"{ROOT}/d/porch/event/bell", payload=EVENT, error="CheckViolation: no", **facts) -> int:
        handle = topic.removeprefix(f"{ROOT}/").split("/")[1]
        facts = {"direction": "in", "handle": handle} | facts
        dead_letters.park(session, topic, payload, error, NOW - timedelta(hours=1), **facts)
        return session.execute(text("SELECT max(dead_letter_id) FROM dead_letters")).scalar_one()

    return park


@pytest.fixture
def mine(agent) -> View:
    return View(agent.agent_id)


@pytest.fixture
def again(session, mine):
    def again(number):
        return retrying.retry(session, mine, number, ROOT, NOW, by="ann@example.org")[1]

    return again


def test_another_agents_is_not_there(session, device, park):
    number = park()
    other = Agent(name="Elsewhere")
    session.add(other)
    session.flush()
    for theirs in (View(other.agent_id), View(other.agent_id, of_hub=True)):
        assert dead_letters.page(session, theirs).items == []
        with pytest.raises(NotFound):
            dead_letters.get(session, theirs, number)
        with pytest.raises(NotFound):
            dead_letters.discard(session, theirs, number, by="eve")
        with pytest.raises(NotFound):
            retrying.retry(session, theirs, number, ROOT, NOW, by="eve")


def test_those_of_nobody_are_for_the_owner_of_the_first_agent(session, agent, device, park):
    park(f"{ROOT}/d/stranger/event/bell")
    second = Agent(name="Second", created_at=NOW + timedelta(hours=1))
    session.add(second)
    session.flush()
    views = [
        dead_letters.view_of(session, agent_id, role)
        for agent_id, role in ((agent.agent_id, "owner"), (agent.agent_id, "admin"), (second.agent_id, "owner"))
    ]
    assert [dead_letters.page(session, view).total for view in views] == [1, 0, 0]


def test_they_are_found_by_words_and_direction_and_paged(session, device, park, mine):
    for n in range(5):
        park(error=f"Fault {n}%")
    park("d/porch/config", b"{}", "the broker did not take it", direction="out", handle="porch")
    assert dead_letters.page(session, mine, Filter("fault 3%")).total == 1
    assert dead_letters.page(session, mine, Filter("%")).total == 5
    assert dead_letters.page(session, mine, Filter("BELL")).total == 5
    assert [one.topic for one in dead_letters.page(session, mine, Filter(direction="out")).items] == ["d/porch/config"]
    first = dead_letters.page(session, mine, limit=4)
    rest = dead_letters.page(session, mine, before=first.next, limit=4)
    assert (len(first.items), len(rest.items), rest.next, first.total) == (4, 2, None, 6)


def test_what_is_stored_now_is_one_no_more_and_its_old_epoch_is_no_matter(session, device, say, park, again):
    say(("porch/state", {"state": "online", "epoch": 9}))
    number = park()
    assert again(number) is None
    [stored] = events.page(session, device.agent_id).items
    assert (stored.payload, stored.received_at) == ({"n": 1}, NOW - timedelta(hours=1))
    with pytest.raises(NotFound):
        again(number)


def test_it_is_no_sign_of_life(session, device, park, again):
    assert again(park()) is None
    seen = device_views.view(session, device.agent_id, device.device_id)
    assert (seen.presence, seen.epoch, seen.last_heard_at) == ("offline", 0, None)


def test_one_stored_meanwhile_is_stored_once(session, device, say, park, again):
    say(("porch/event/bell", json.loads(EVENT)))
    assert again(park()) is None
    assert len(events.page(session, device.agent_id).items) == 1


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        (b"{", "refused: "),
        (json.dumps({"id": "e", "epoch": 1, "payload": {}, "space": "Moon"}).encode(), "no such space"),
    ],
)
def test_what_is_refused_stays_with_the_new_reason(session, device, park, again, mine, payload, why):
    number = park(payload=payload)
    assert why in again(number)
    kept = dead_letters.get(session, mine, number)
    assert (kept.tries, kept.tried_at) == (2, NOW)
    assert why in kept.error
    assert session.execute(text("SELECT count(*) FROM denials")).scalar_one() == 0


def test_what_the_database_refuses_again_stays_and_says_nothing_to_anybody(session, device, park, again, mine):
    session.execute(text("ALTER TABLE events ADD CHECK (type <> 'bell')"))
    number = park()
    assert "CheckViolation" in again(number)
    assert "CheckViolation" in dead_letters.get(session, mine, number).error
    feed.flush(session)
    assert [one for one in outbox.claim(session, 99) if "/events" in one.topic] == []


@pytest.mark.parametrize("kind", ["state", "heartbeat", "hello", "request/events/r1", "gossip"])
def test_a_sign_of_life_of_long_ago_is_never_tried_again(device, park, again, kind):
    with pytest.raises(Conflict, match="over"):
        again(park(f"{ROOT}/d/porch/{kind}", b"{}"))


def test_what_was_to_go_out_goes_out(session, device, park, again):
    number = park("d/porch/config", b"{}", "the broker did not take it", direction="out", handle="porch", retain=True)
    assert again(number) is None
    outbox.flush(session)
    [message] = outbox.claim(session, 9)
    assert (message.topic, message.payload, message.retain) == ("d/porch/config", b"{}", True)


def test_all_that_match_go_only_as_counted(session, device, park, mine):
    numbers = [park(error=f"Fault {n % 2}") for n in range(6)]
    park(error="Fault 1, that came meanwhile")
    matching, up_to = Filter("fault 1"), numbers[-1]
    with pytest.raises(Invalid, match="3 that match"):
        dead_letters.discard_matching(session, mine, matching, up_to=up_to, count=4, by="ann")
    assert dead_letters.discard_matching(session, mine, matching, up_to=up_to, count=3, by="ann") == 3
    assert dead_letters.page(session, mine).total == 4
    dead_letters.discard(session, mine, numbers[0], by="ann")
    assert dead_letters.page(session, mine).total == 3
