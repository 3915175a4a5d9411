"""The pulse before a real Mosquitto: when devices were heard, and ticks, for agents with an open page alone."""

import json
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from hub import feed, identity
from hub.access import credentials
from hub.mqtt import HubClient
from hub.pulse import Pulse
from hub.settings import Settings
from hub.tables import Agent, AgentMembership, UserSession

NOW = datetime.now(UTC)


def wait_until(condition: Callable[[], object], what: str, within_s: float = 20) -> None:
    end = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > end:
            pytest.fail(f"not within {within_s} s: {what}")
        time.sleep(0.02)


@pytest.fixture
def pulse(database, mosquitto_port: int, tmp_path: Path) -> Iterator[Pulse]:
    settings = Settings(database_url=database.url, mqtt_port=mosquitto_port, hub_password_file=tmp_path / "none")
    client = HubClient(settings, "", ["marvain/v1/nothing"], lambda _: None, lambda _: None)
    pulse = Pulse(database, client)
    client.start()
    assert client.wait_connected(20)
    thread = threading.Thread(target=pulse.run, daemon=True)
    thread.start()
    yield pulse
    pulse.stop()
    thread.join(20)
    client.stop()
    assert not thread.is_alive()


def told(heard, agent: Agent, kind: str) -> list[dict]:
    topic = f"marvain/v1/ui/{agent.agent_id}/presence"
    messages = [json.loads(payload) for where, payload in list(heard) if where == topic]
    return [one for one in messages if one["type"] == kind]


@pytest.fixture
def watched(session, agent, device) -> Agent:
    """An agent with an open page."""
    user = identity.create_user(session, "ann@example.org")
    session.add(AgentMembership(agent_id=agent.agent_id, user_id=user.user_id, role="owner"))
    page = UserSession(user_id=user.user_id, token_hash="x", expires_at=NOW.replace(year=NOW.year + 1))
    session.add(page)
    session.flush()
    credentials.issue_for_session(session, page, datetime.now(UTC))
    feed.flush(session)
    session.commit()
    return agent


def test_an_open_page_is_told_who_was_heard_and_that_the_line_is_live(session, watched, device, pulse, heard):
    other = Agent(name="Elsewhere")
    session.add(other)
    session.commit()
    wait_until(lambda: told(heard, watched, "tick"), "a tick")
    assert told(heard, watched, "tick")[0]["rev"] == feed.revision(session, watched.agent_id)
    pulse.hear([(watched.agent_id, device.device_id, NOW), (other.agent_id, device.device_id, NOW)])
    wait_until(lambda: told(heard, watched, "presence.heard"), "the news")
    [news] = told(heard, watched, "presence.heard")
    assert [one["device_id"] for one in news["items"]] == [str(device.device_id)]
    assert told(heard, other, "tick") == told(heard, other, "presence.heard") == []


def test_what_nobody_looks_at_is_not_kept(agent, device, pulse):
    pulse.hear([(agent.agent_id, device.device_id, NOW)] * 1000)
    assert pulse._heard == {}
