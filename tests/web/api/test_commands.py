"""Commands, config, tags and batches over HTTP: who may, what is refused by name, once only, and the second is told."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from hub.access import personal_tokens
from hub.database import Database
from hub.tables import AgentMembership


@pytest.fixture
def place(make_place: Callable[..., Any]) -> Any:
    return make_place("Home", first=True)


@pytest.fixture
def person(bearer: Any, database: Database, make_user: Callable[..., Any], place: Any) -> Callable[..., Any]:
    """A script with the token of somebody who has a role here."""

    def make(role: str, *permissions: str) -> httpx.AsyncClient:
        user = make_user(f"{role}@example.org")
        now = datetime.now(UTC)
        with database.transaction() as session:
            session.add(AgentMembership(agent_id=place.agent_id, user_id=user.user_id, role=role))
            session.flush()
            given = list(permissions) or ["*"]
            _, token = personal_tokens.create(session, user.user_id, "a test", given, now + timedelta(days=1), now)
        return bearer(token)

    return make


@pytest.mark.parametrize(
    ("role", "permissions"), [("guest", []), ("member", []), ("admin", ["devices:read", "events:read"])]
)
async def test_who_may_not_send_or_set_is_refused(
    person: Callable[..., Any], place: Any, role: str, permissions: list[str]
) -> None:
    client = person(role, *permissions)
    for method, path, body in (
        ("POST", f"/api/devices/{place.device_id}/commands", {"verb": "ping"}),
        ("PUT", f"/api/devices/{place.device_id}/config", {"values": {}, "expected_rev": 0}),
        ("PUT", f"/api/devices/{place.device_id}/tags", {"tags": []}),
        ("POST", "/api/batches", {"tag": "x", "verb": "ping"}),
        ("POST", "/api/batches/preview", {"tag": "x", "verb": "ping"}),
    ):
        assert (await client.request(method, path, json=body)).status_code == 403, path
    assert (await client.get(f"/api/devices/{place.device_id}/commands")).json() == {"items": [], "next": None}
    config = await client.get(f"/api/devices/{place.device_id}/config")
    assert config.status_code == (200 if role == "member" else 403)


async def test_a_device_sends_no_commands(bearer: Any, place: Any) -> None:
    client = bearer(place.token)
    answer = await client.post(f"/api/devices/{place.device_id}/commands", json={"verb": "ping"})
    assert answer.status_code in (401, 403)


async def test_a_command_once_and_taken_back(person: Callable[..., Any], place: Any) -> None:
    client = person("admin")
    path = f"/api/devices/{place.device_id}/commands"
    for body, field in (
        ({"verb": "ping", "args": {"loud": True}}, "args"),
        ({"verb": "run_action"}, "args.name"),
        ({"verb": "ping", "ttl_s": 1}, "ttl_s"),
    ):
        answer = await client.post(path, json=body)
        assert (answer.status_code, answer.json()["field"]) == (422, field)
    key = {"Idempotency-Key": "one"}
    sent = await client.post(path, json={"verb": "blink", "args": {"times": 3}, "ttl_s": 600}, headers=key)
    assert sent.status_code == 201
    again = await client.post(path, json={"verb": "blink", "args": {"times": 3}, "ttl_s": 600}, headers=key)
    assert again.json() == sent.json()
    other = await client.post(path, json={"verb": "blink", "args": {"times": 4}, "ttl_s": 600}, headers=key)
    assert other.status_code == 409
    command = sent.json()
    assert (command["status"], command["steps"][0]["status"]) == ("queued", "queued")
    page = (await client.get(path, params={"limit": 1})).json()
    assert [one["command_id"] for one in page["items"]] == [command["command_id"]]
    assert page["next"] is None
    cancelled = await client.post(f"/api/commands/{command['command_id']}/cancel")
    assert (cancelled.status_code, cancelled.json()["status"]) == (200, "cancelled")
    assert (await client.post(f"/api/commands/{command['command_id']}/cancel")).status_code == 409
    assert (await client.get(f"/api/commands/{command['command_id']}")).json()["steps"][-1]["status"] == "cancelled"


async def test_values_are_set_over_the_revision_that_one_saw(person: Callable[..., Any], place: Any) -> None:
    client = person("admin")
    path = f"/api/devices/{place.device_id}/config"
    assert (await client.get(path)).headers["etag"] == '"0"'
    for body, headers, status in (
        ({"values": {"a": 1}}, {}, 422),
        ({"values": {"A": 1}, "expected_rev": 0}, {}, 422),
        ({"values": {"a": 1}}, {"If-Match": "*"}, 422),
        ({"values": {"a": 1}, "expected_rev": 0}, {"If-Match": '"1"'}, 422),
        ({"values": {"a": 1}}, {"If-Match": '"7"'}, 409),
    ):
        assert (await client.put(path, json=body, headers=headers)).status_code == status
    saved = await client.put(path, json={"values": {"a": 1}}, headers={"If-Match": '"0"'})
    assert (saved.status_code, saved.headers["etag"], saved.json()["state"]) == (200, '"1"', "waiting")
    assert (await client.put(path, json={"values": {"a": 2}, "expected_rev": 0})).status_code == 409
    assert (await client.put(path, json={"values": {"a": 2}, "expected_rev": 1})).json()["desired"] == {"a": 2}


async def test_a_batch_by_tag(person: Callable[..., Any], place: Any) -> None:
    client = person("admin")
    assert (await client.put(f"/api/devices/{place.device_id}/tags", json={"tags": ["-"]})).status_code == 422
    tagged = await client.put(f"/api/devices/{place.device_id}/tags", json={"tags": ["up", "lamps"]})
    assert tagged.json() == {"tags": ["lamps", "up"]}
    nobody = await client.post("/api/batches", json={"tag": "none", "verb": "ping"})
    assert (nobody.status_code, nobody.json()["field"]) == (422, "tags")
    assert (await client.post("/api/batches", json={"tag": "lamps"})).json()["field"] == "verb"
    plan = await client.post("/api/batches/preview", json={"tag": "lamps", "verb": "ping"})
    assert plan.json() == {"targets": [place.handle], "skipped": []}
    sent = (await client.post("/api/batches", json={"tag": "lamps", "verb": "ping"})).json()
    assert sent["counts"] == {"queued": 1}
    path = f"/api/batches/{sent['batch_id']}"
    assert (await client.get(path)).json()["devices"][0]["handle"] == place.handle
    assert (await client.post(f"{path}/cancel")).json()["counts"] == {"cancelled": 1}
    values = {"tag": "lamps", "kind": "merge", "args": {"log_level": "debug"}}
    assert (await client.post("/api/batches", json=values)).json()["counts"] == {"waiting": 1}
