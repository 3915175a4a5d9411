"""What is reported over HTTP: refused first, then stored once, and evidence of presence like a message."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from hub import presence_records, sweeper


@pytest.mark.parametrize(
    ("scopes", "method", "path", "missing"),
    [
        (["presence:write"], "POST", "/v1/events", "events:write"),
        (["events:write"], "GET", "/v1/events", "events:read"),
        (["events:write"], "GET", "/v1/spaces/{space}/events", "events:read"),
        (["events:*"], "GET", "/v1/memories", "memories:read"),
        (["events:*"], "GET", "/v1/actions", "actions:read"),
        (["events:*"], "POST", "/v1/devices/heartbeat", "presence:write"),
    ],
)
async def test_each_route_asks_for_its_scope(bearer, make_place, scopes, method, path, missing) -> None:
    place = make_place("Home", scopes=scopes)
    body = {"type": "x"} if path.endswith("/v1/events") else None
    answer = await bearer(place.token).request(method, path.format(space=place.space_id), json=body)
    assert (answer.status_code, missing in answer.json()["detail"]) == (403, True)


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "type"),
        ({"type": "a/b"}, "type"),
        ({"type": "x", "payload": []}, "payload"),
        ({"type": "x", "pyload": {}}, "pyload"),
        ({"type": "x", "epoch": 0}, "epoch"),
        ({"type": "x", "at": "2026-01-01T00:00:00"}, "at"),
        ({"type": "x", "id": "a b"}, "id"),
        ({"type": "x", "space": "nowhere"}, "space"),
    ],
)
async def test_a_bad_event_names_its_field_and_stores_nothing(bearer, home, database, body, field) -> None:
    answer = await bearer(home.token).post("/v1/events", json=body)
    assert answer.status_code in {404, 422}
    assert answer.json()["field"] == field
    with database.transaction() as session:
        assert session.execute(text("SELECT count(*) FROM events")).scalar() == 0


async def test_a_space_of_another_agent_is_not_found(bearer, home, elsewhere, database) -> None:
    client = bearer(home.token)
    answer = await client.post("/v1/events", json={"type": "x", "space": str(elsewhere.space_id)})
    assert answer.status_code == 404
    assert (await client.get(f"/v1/spaces/{elsewhere.space_id}/events")).status_code == 404
    assert (await client.get("/v1/events", params={"space": str(elsewhere.space_id)})).status_code == 404
    assert (await client.get("/v1/me", params={"agent": str(elsewhere.agent_id)})).json()["handle"] == home.handle
    assert (await client.get("/v1/events", params={"agent": str(elsewhere.agent_id)})).status_code == 404


async def test_an_event_is_stored_once_by_its_id(bearer, home) -> None:
    client = bearer(home.token)
    first = await client.post("/v1/events", json={"type": "door_open", "payload": {"angle": 12}, "id": "e1"})
    again = await client.post("/v1/events", json={"type": "door_open", "payload": {"angle": 12}, "id": "e1"})
    other = await client.post("/v1/events", json={"type": "door_open", "payload": {"angle": 13}, "id": "e1"})
    assert (first.status_code, again.status_code, other.status_code) == (201, 200, 409)
    assert first.json() == again.json()
    assert first.json()["handle"] == home.handle


async def test_a_person_reports_under_their_own_name(script, home) -> None:
    answer = (await script.post("/v1/events", json={"type": "note", "payload": {"text": "hi"}})).json()
    assert (answer["device_id"], answer["reported_by"]) == (None, "ben@example.org")
    listed = (await script.get("/v1/events")).json()["items"]
    assert [one["event_id"] for one in listed] == [answer["event_id"]]


async def test_pages_follow_each_other(bearer, home) -> None:
    client = bearer(home.token)
    for n in range(5):
        await client.post("/v1/events", json={"type": f"t{n}", "space": str(home.space_id)})
    first = (await client.get("/v1/events", params={"limit": 2})).json()
    second = (await client.get("/v1/events", params={"limit": 2, "before": first["next"]})).json()
    last = (
        await client.get(f"/v1/spaces/{home.space_id}/events", params={"limit": 2, "before": second["next"]})
    ).json()
    assert [one["type"] for page in (first, second, last) for one in page["items"]] == ["t4", "t3", "t2", "t1", "t0"]
    assert last["next"] is None
    bad = await client.get("/v1/events", params={"before": "yesterday"})
    assert (bad.status_code, bad.json()["field"]) == (422, "before")
    unknown = await client.get("/v1/events", params={"typ": "t1"})
    assert unknown.status_code == 422


async def test_a_device_that_speaks_http_alone_has_presence(bearer, home, script, database) -> None:
    device = bearer(home.token)
    beat = (await device.post("/v1/devices/heartbeat", json={"heartbeat_s": 10})).json()
    assert (beat["presence"], beat["why"]) == ("online", "heard over HTTP (heartbeat)")
    shown = (await script.get(f"/api/devices/{home.device_id}")).json()
    assert (shown["presence"], shown["source"], shown["heartbeat_s"]) == ("online", "http", 10)
    now = datetime.now(UTC)
    verdicts = []
    for quiet_s in (15, 23, 26, 30):
        with database.transaction() as session:
            sweeper.judge(session, now + timedelta(seconds=quiet_s), now - timedelta(hours=1))
        with database.transaction() as session:
            (evidence,) = presence_records.lock(session, [home.device_id]).values()
            verdicts.append((evidence.verdict, evidence.source))
            assert session.execute(text("SELECT count(*) FROM outbox WHERE topic LIKE '%/cmd/%'")).scalar() == 0
    assert verdicts == [("online", "http"), ("suspect", "http"), ("suspect", "http"), ("offline", "http")]
    event = await device.post("/v1/events", json={"type": "x"})
    assert event.status_code == 201
    assert (await script.get(f"/api/devices/{home.device_id}")).json()["presence"] == "online"


async def test_a_device_says_that_it_sleeps_or_goes(bearer, home) -> None:
    device = bearer(home.token)
    assert (await device.post("/v1/devices/heartbeat")).json()["presence"] == "online"
    asleep = await device.post("/v1/devices/heartbeat", json={"state": "sleeping"})
    assert asleep.json()["presence"] == "sleeping"
    assert (await device.post("/v1/devices/heartbeat", json={"state": "bye"})).json()["presence"] == "offline"


async def test_an_epoch_that_has_gone_back_is_a_conflict(bearer, home) -> None:
    device = bearer(home.token)
    await device.post("/v1/devices/heartbeat", json={"epoch": 7})
    for path, body in (("/v1/devices/heartbeat", {"epoch": 6}), ("/v1/events", {"epoch": 6, "type": "x"})):
        answer = await device.post(path, json=body)
        assert (answer.status_code, answer.json()["field"]) == (409, "epoch")
