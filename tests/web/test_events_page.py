"""The events page: only the agent's own, narrowed and paged in SQL, every payload shown as text."""

import re
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import httpx
import pytest

from hub import devices, events, identity
from hub.database import Database
from hub.tables import Agent, Device, Space

Report = Callable[..., list[uuid.UUID]]
XSS = "<script>alert(1)</script>"


@pytest.fixture
def home(database: Database, owner_token: str) -> uuid.UUID:
    with database.transaction() as session:
        return identity.find_agent(session).agent_id


def add_device(database: Database, agent_id: uuid.UUID, name: str) -> Device:
    with database.transaction() as session:
        space = identity.spaces_of(session, agent_id)
        return devices.add(
            session, agent_id, name, scopes=["*"], by="a test", space_id=space[0].space_id if space else None
        ).device


@pytest.fixture
def porch(database: Database, home: uuid.UUID) -> Device:
    return add_device(database, home, "Porch")


@pytest.fixture
def foreign(database: Database, home: uuid.UUID) -> Device:
    with database.transaction() as session:
        agent = Agent(name="Elsewhere")
        session.add(agent)
        session.flush()
        session.add(Space(agent_id=agent.agent_id, name="Cellar"))
    return add_device(database, agent.agent_id, "Secret cellar")


@pytest.fixture
def report(database: Database) -> Report:
    """Stores events as the inbox does; returns their ids, newest first."""

    def store(device: Device, kind: str, payloads: Sequence[object]) -> list[uuid.UUID]:
        now = datetime.now(UTC)
        new = [
            events.NewEvent(
                device_id=device.device_id,
                agent_id=device.agent_id,
                handle=device.handle,
                space_id=device.space_id,
                message_id=uuid.uuid4().hex,
                type=kind,
                payload=payload,
                epoch=1,
                seq=n,
                happened_at=None,
                received_at=now,
            )
            for n, payload in enumerate(payloads)
        ]
        with database.transaction() as session:
            events.append(session, new)
            return [event.event_id for event in events.page(session, device.agent_id, limit=len(new)).items]

    return store


def shown(page: httpx.Response) -> list[str]:
    assert page.status_code == 200
    return re.findall(r'data-event="([^"]+)"', page.text)


async def test_another_agents_events_are_not_there(owner: httpx.AsyncClient, foreign: Device, report: Report) -> None:
    hidden = report(foreign, "door_open", [{"angle": 1}])
    assert shown(await owner.get("/events")) == []
    assert shown(await owner.get(f"/events/rows?ids={hidden[0]}")) == []
    for query in (f"device={foreign.device_id}", f"space={foreign.space_id}", "device=x", f"space={uuid.uuid4()}"):
        assert (await owner.get(f"/events?{query}")).status_code == 404


@pytest.mark.parametrize("before", ["x", "-1", "1e9", "9" * 17, "1; DROP TABLE events"])
async def test_a_cursor_is_a_number(owner: httpx.AsyncClient, before: str) -> None:
    assert (await owner.get("/events", params={"before": before})).status_code == 422


@pytest.mark.parametrize("ids", ["", "x", ",".join(str(uuid.uuid4()) for _ in range(101))])
async def test_ids_are_a_bounded_list(owner: httpx.AsyncClient, ids: str) -> None:
    answer = await owner.get("/events/rows", params={"ids": ids})
    assert answer.status_code == (200 if not ids else 422)


async def test_payloads_and_names_are_text(
    owner: httpx.AsyncClient, database: Database, home: uuid.UUID, report: Report
) -> None:
    hostile = add_device(database, home, f"X {XSS}")
    report(hostile, "door_open", [{XSS: XSS, "deep": [{"a": XSS}]}])
    page = await owner.get("/events")
    assert "<script>alert" not in page.text
    assert page.text.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 4


async def test_the_newest_comes_first_and_older_follows(
    owner: httpx.AsyncClient, porch: Device, report: Report
) -> None:
    stored = [str(one) for one in report(porch, "tick", [{"n": n} for n in range(120)])]
    seen: list[str] = []
    path: str | None = "/events?type=tick"
    while path:
        page = await owner.get(path)
        seen += shown(page)
        older = re.search(r'<p class="older">\s*<a id="older"[^>]* href="([^"]+)"', page.text)
        path = older[1].replace("&amp;", "&") if older else None
        assert path is None or "type=tick" in path
    assert seen == stored


async def test_filters_narrow(
    owner: httpx.AsyncClient, database: Database, home: uuid.UUID, porch: Device, report: Report
) -> None:
    garage = add_device(database, home, "Garage")
    door = [str(one) for one in report(porch, "door_open", [{}])]
    motion = [str(one) for one in report(garage, "motion", [{}])]
    assert shown(await owner.get("/events?type=motion")) == motion
    assert shown(await owner.get(f"/events?device={porch.device_id}")) == door
    assert shown(await owner.get(f"/events?space={porch.space_id}")) == motion + door
    nothing = await owner.get(f"/events?type=motion&device={porch.device_id}")
    assert shown(nothing) == []
    assert "Nothing matches" in nothing.text


async def test_rows_are_fetched_for_many_ids_at_once(owner: httpx.AsyncClient, porch: Device, report: Report) -> None:
    stored = [str(one) for one in report(porch, "tick", [{"n": n} for n in range(100)])]
    assert shown(await owner.get("/events/rows", params={"ids": ",".join(reversed(stored))})) == stored


async def test_an_empty_list_teaches(owner: httpx.AsyncClient) -> None:
    page = await owner.get("/events")
    assert "No events yet" in page.text
    assert "marvain-satellite send door_open &#39;{&#34;angle&#34;: 12}&#39;" in page.text
