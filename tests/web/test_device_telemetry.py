"""The telemetry section of a satellite's page: who sees it, what it teaches while empty, who can be watched."""

import uuid
from collections.abc import Callable
from datetime import UTC, datetime

import httpx
import pytest
from sqlalchemy import text

from hub import devices, identity
from hub.database import Database
from hub.tables import Agent, User
from hub.telemetry import samples
from hub.telemetry.samples import NewSamples


@pytest.fixture
def porch(database: Database, owner_token: str) -> uuid.UUID:
    with database.transaction() as session:
        home = identity.find_agent(session)
        return devices.add(session, home.agent_id, "Porch", scopes=["events:write"], by="a test").device.device_id


@pytest.fixture
def fill(database: Database, porch: uuid.UUID) -> Callable[[str, float], None]:
    def fill(stream: str, value: float) -> None:
        with database.transaction() as session:
            home = identity.find_agent(session)
            samples.append(session, [NewSamples(porch, home.agent_id, stream, [(datetime.now(UTC), value)])])

    return fill


def watches(database: Database) -> list[uuid.UUID]:
    with database.transaction() as session:
        return list(session.execute(text("SELECT device_id FROM telemetry_watches")).scalars())


async def test_guests_see_nothing_of_it(
    new_client, make_user, enter: Callable[[User], str], porch: uuid.UUID, fill, database: Database
) -> None:
    fill("temperature", 21.5)
    guest = new_client(token=enter(make_user("gus@example.org", "guest")))
    page = (await guest.get(f"/devices/{porch}")).text
    assert "Porch" in page
    assert "telemetry" not in page.lower()
    assert (await guest.post(f"/devices/{porch}/telemetry/watch")).status_code == 403
    assert watches(database) == []


async def test_another_agents_device_cannot_be_watched(
    owner: httpx.AsyncClient, porch: uuid.UUID, database: Database
) -> None:
    with database.transaction() as session:
        agent = Agent(name="Elsewhere")
        session.add(agent)
        session.flush()
        foreign = devices.add(session, agent.agent_id, "Cellar", scopes=[], by="a test").device.device_id
    assert (await owner.post(f"/devices/{foreign}/telemetry/watch")).status_code == 404
    assert (await owner.post(f"/devices/{porch}/telemetry/watch")).status_code == 204
    assert (await owner.post(f"/devices/{porch}/telemetry/watch")).status_code == 204
    assert watches(database) == [porch]


async def test_an_empty_section_teaches_how_to_send(owner: httpx.AsyncClient, porch: uuid.UUID, fill) -> None:
    page = (await owner.get(f"/devices/{porch}")).text
    assert "marvain-satellite telemetry temperature 21.5" in page
    assert "marvain/v1/d/porch/telemetry/temperature" in page
    assert "lacks the scope <code>telemetry:write</code>" in page
    fill("temperature", 21.5)
    page = (await owner.get(f"/devices/{porch}")).text
    assert 'data-stream="temperature"' in page
    assert "mosquitto_pub" not in page


async def test_members_look_and_do_not_forget(
    owner: httpx.AsyncClient, new_client, make_user, enter: Callable[[User], str], porch: uuid.UUID, fill
) -> None:
    fill("temperature", 21.5)
    member = new_client(token=enter(make_user("max@example.org", "member")))
    assert "data-forget" in (await owner.get(f"/devices/{porch}")).text
    page = (await member.get(f"/devices/{porch}")).text
    assert "21.5" in page
    assert "data-forget" not in page
    assert (await member.post(f"/devices/{porch}/telemetry/watch")).status_code == 204
