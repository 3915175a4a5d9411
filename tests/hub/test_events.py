"""Events: paged newest first, only the agent's own."""

import uuid

import pytest

from hub import events
from hub.errors import Invalid
from hub.tables import Agent


def fill(say, n, type_="door", handle="porch"):
    say(*[(f"{handle}/event/{type_}", {"id": uuid.uuid4().hex, "epoch": 1, "payload": {"n": i}}) for i in range(n)])


@pytest.mark.parametrize("cursor", ["x", "-1", "1.5", "9" * 17, "१", "1; DROP TABLE events"])
def test_a_cursor_that_is_none_is_refused(session, agent, cursor):
    with pytest.raises(Invalid) as refused:
        events.page(session, agent.agent_id, before=cursor)
    assert refused.value.field == "before"


@pytest.mark.parametrize("limit", [0, 201, -5])
def test_a_limit_out_of_bounds_is_refused(session, agent, limit):
    with pytest.raises(Invalid):
        events.page(session, agent.agent_id, limit=limit)


def test_another_agent_sees_nothing(session, device, say):
    fill(say, 3)
    other = Agent(name="Elsewhere")
    session.add(other)
    session.flush()
    ids = [one.event_id for one in events.page(session, device.agent_id).items]
    assert events.page(session, other.agent_id).items == []
    assert events.by_ids(session, other.agent_id, ids) == []
    assert len(events.by_ids(session, device.agent_id, ids)) == 3


def test_pages_follow_each_other_without_a_gap(session, device, say):
    fill(say, 25)
    seen, cursor = [], None
    while True:
        page = events.page(session, device.agent_id, before=cursor, limit=10)
        seen += [one.payload["n"] for one in page.items]
        cursor = page.next
        if cursor is None:
            break
    assert seen == list(range(24, -1, -1))


def test_filters_hold_together(session, device, make_device, say):
    gate = make_device("Gate")
    fill(say, 2, "door")
    fill(say, 3, "bell")
    fill(say, 4, "bell", "gate")
    found = events.page(session, device.agent_id, type="bell", device_id=gate.device_id)
    assert [one.handle for one in found.items] == ["gate"] * 4
    assert events.types(session, device.agent_id) == ["bell", "door"]
