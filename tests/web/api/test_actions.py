"""Actions over HTTP: proposed by devices and people, decided by people; and the same proposal over MQTT."""

import json
from datetime import UTC, datetime

import pytest
from sqlalchemy import text

from hub import devices, identity
from hub.inbox import router
from hub.inbox.envelope import Incoming

MESSAGE = {"tool": "send_message", "args": {"text": "Dinner!"}}


@pytest.fixture
def home(database):
    with database.transaction() as session:
        return identity.ensure_first_agent(session).agent_id


@pytest.fixture
def bearer(database, home, new_client):
    def bearer(name, scopes):
        with database.transaction() as session:
            added = devices.add(session, home, name, scopes=scopes, by="ann")
        return new_client(headers={"Authorization": f"Bearer {added.token}"})

    return bearer


@pytest.fixture
def person(make_user, enter, new_client):
    return lambda name, role: new_client(token=enter(make_user(f"{name}@example.org", role)))


def count(database, table):
    with database.transaction() as session:
        return session.execute(text(f"SELECT count(*) FROM {table}")).scalar_one()


async def test_closed_doors_first(database, bearer, person, new_client):
    mute, owner = bearer("Mute", ["actions:read"]), person("ann", "owner")
    made = await owner.post("/v1/actions", json=MESSAGE)
    path = f"/api/actions/{made.json()['action_id']}"
    yes = {"digest": made.json()["digest"]}
    guest, porch = person("gus", "guest"), bearer("Porch", ["*"])
    for client, status in ((new_client(headers={}), 401), (guest, 403), (mute, 403)):
        assert (await client.post("/v1/actions", json=MESSAGE)).status_code == status
    for client, status in ((new_client(headers={}), 401), (guest, 403), (porch, 403)):
        for what, body in (("approve", yes), ("reject", {}), ("edit", {"args": {"text": "x"}, "revision": 1})):
            assert (await client.post(f"{path}/{what}", json=body)).status_code == status, (what, status)
        for route in ("/api/approval-rules", "/api/outside-hosts", "/api/notify-channels", "/api/schedules"):
            assert (await client.get(route)).status_code == status
    member = person("bob", "member")
    for route, body in (
        ("/api/approval-rules", {"low_role": "owner"}),
        ("/api/outside-hosts", {"host": "example.org"}),
    ):
        assert (await member.put(route, json=body)).status_code == 403
    bad = {"tool": "send_message", "args": {}}
    problem = (await owner.post("/v1/actions", json=bad)).json()
    assert (problem["status"], problem["field"]) == (422, "args.text")
    assert (await owner.post(f"{path}/approve", json={"digest": "0" * 64})).json()["field"] == "digest"
    assert count(database, "actions") == 1
    assert (await owner.get(f"/v1/actions/{made.json()['action_id']}")).json()["status"] == "proposed"


async def test_proposed_by_a_device_edited_and_decided_by_people(database, bearer, person):
    porch, owner, member = bearer("Porch", ["actions:*"]), person("ann", "owner"), person("bob", "member")
    made = (await porch.post("/v1/actions", json=MESSAGE | {"why": "it is six", "key": "k"})).json()
    assert (made["status"], made["proposed_by"], made["proposer_kind"], made["risk"]) == (
        "proposed",
        "porch",
        "device",
        "low",
    )
    again = await porch.post("/v1/actions", json=MESSAGE | {"key": "k"})
    assert again.json()["action_id"] == made["action_id"]
    other = await porch.post("/v1/actions", json={"tool": "send_message", "args": {"text": "x"}, "key": "k"})
    assert (other.status_code, other.json()["field"]) == (409, "key")
    path = f"/api/actions/{made['action_id']}"
    edited = (await owner.post(f"{path}/edit", json={"args": {"text": "Supper!"}, "revision": 1})).json()
    assert (edited["args"], edited["revision"]) == ({"text": "Supper!"}, 2)
    stale = await member.post(f"{path}/approve", json={"digest": made["digest"]})
    assert stale.status_code == 409
    yes = {"digest": edited["digest"], "reason": "good"}
    done = (await member.post(f"{path}/approve", json=yes)).json()
    assert (done["status"], done["decided_by"], done["decision_reason"]) == ("approved", "bob@example.org", "good")
    assert [step["step"] for step in done["steps"]] == ["proposed", "edited", "approved"]
    late = await owner.post(f"{path}/reject", json={})
    assert (late.status_code, late.json()["detail"]) == (409, "it is approved already by bob@example.org")
    listed = (await porch.get("/v1/actions", params={"tool": "send_message", "status": "approved"})).json()
    assert [one["action_id"] for one in listed["items"]] == [made["action_id"]]
    assert (await owner.post(f"{path}/cancel", json={"reason": "no"})).json()["status"] == "cancelled"


async def test_the_same_proposal_over_mqtt_is_the_same_and_comes_once(database, bearer):
    porch = bearer("Porch", ["actions:propose"])
    body = b'{"epoch": 1, "body": {"tool": "send_message", "args": {"text": "Dinner!"}, "why": "six"}}'

    def ask(request_id, payload=body):
        with database.transaction() as session:
            session.execute(text("DELETE FROM outbox"))
            topic = f"marvain/v1/d/porch/request/propose/{request_id}"
            router.process(session, [Incoming(topic, payload, False, datetime.now(UTC))], "marvain/v1")
        with database.transaction() as session:
            rows = session.execute(text("SELECT payload FROM outbox WHERE topic LIKE '%response%'")).scalars()
            return json.loads(rows.one())

    first, again = ask("r1"), ask("r1")
    assert first["ok"]
    assert again["body"]["action_id"] == first["body"]["action_id"]
    twin = (await porch.post("/v1/actions", json=MESSAGE | {"why": "six"})).json()
    volatile = {"action_id", "created_at", "updated_at", "expires_at", "steps"}
    assert {k: v for k, v in twin.items() if k not in volatile} == {
        k: v for k, v in first["body"].items() if k not in volatile
    }
    refused = ask("r2", b'{"epoch": 1, "body": {"tool": "send_message", "args": {}}}')
    assert (refused["ok"], refused["error"]["code"], refused["error"]["field"]) == (False, "invalid", "args.text")
    with database.transaction() as session:
        session.execute(text("UPDATE devices SET scopes = '[]'"))
    assert ask("r3")["error"]["code"] == "forbidden"
    assert count(database, "actions") == 2


async def test_admins_say_what_tools_may_do(person):
    owner = person("ann", "owner")
    names = [one["name"] for one in (await owner.get("/v1/tools")).json()["items"]]
    assert {"send_message", "device_command", "http_request"} <= set(names)
    rules = (await owner.get("/api/approval-rules")).json()
    assert (rules["high_role"], rules["revision"]) == ("admin", 0)
    changed = await owner.put("/api/approval-rules", json=rules | {"high_approvals": 2})
    assert (changed.json()["high_approvals"], changed.json()["revision"]) == (2, 1)
    assert (await owner.put("/api/approval-rules", json=rules)).json()["field"] == "revision"
    assert (await owner.put("/api/outside-hosts", json={"host": "Example.org"})).json()["host"] == "example.org"
    assert len((await owner.get("/api/outside-hosts")).json()["items"]) == 1
    assert (await owner.delete("/api/outside-hosts", params={"host": "example.org"})).status_code == 204
    new = {"name": "phones", "url": "https://ntfy.example.org/secret-topic", "token": "tk"}
    assert (await owner.post("/api/notify-channels", json=new)).status_code == 409  # there is no key
    assert (await owner.get("/api/notify-channels")).json() == {"items": []}
    assert (await owner.get("/api/schedules")).json() == {"items": []}
