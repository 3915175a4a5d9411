"""Automations and policies, pages and HTTP: who may, forms that keep what was typed, rehearsals, hostile words."""

from datetime import UTC, datetime

import pytest

from hub import devices, identity
from hub.actions import deciding, proposing
from hub.actions.deciding import Decider
from hub.actions.proposing import Proposal, Proposer
from hub.audit.actors import Actor
from hub.automations import records as automations
from hub.policies import records as policies

HOSTILE = "<script>alert(1)</script>"
RULE = {"kind": "event", "tool": "send_message", "type": "door", "name": "Door", "arg.text": "{{event.payload.angle}}"}
POLICY = {"tool": "send_message", "name": "Say it", "scopes": "messages:send", "risk_max": "low", "other_args": "true"}


@pytest.fixture
def home(database):
    with database.transaction() as session:
        agent_id = identity.ensure_first_agent(session).agent_id
        devices.add(session, agent_id, "Porch", scopes=["*"], by="ann")
        return agent_id


@pytest.fixture
def person(make_user, enter, new_client, home):
    return lambda name, role: new_client(token=enter(make_user(f"{name}@example.org", role)))


async def test_closed_doors_first(person, new_client):
    member, guest = person("bob", "member"), person("gus", "guest")
    for base, form in (("/automations", RULE), ("/policies", POLICY)):
        assert (await guest.get(base)).status_code == 403
        assert (await member.get(base)).status_code == 200
        assert (await member.get(f"{base}/new")).status_code == 403
        assert (await member.post(base, data=form)).status_code == 403
        assert (await member.get(f"/api{base}")).status_code == 200
        assert (await guest.get(f"/api{base}")).status_code == 403
        assert (await new_client(headers={}).get(f"/api{base}")).status_code == 401
        assert (await member.post(f"/api{base}", json={"name": "x"})).status_code in (403, 422)


async def test_an_automation_is_written_tried_switched_on_changed_and_deleted(person, database, home):
    owner = person("ann", "owner")
    assert "No automations yet" in (await owner.get("/automations")).text
    assert "a satellite reports an event" in (await owner.get("/automations/new")).text
    for kind in ("event", "presence", "telemetry", "time"):
        assert (await owner.get(f"/automations/new?kind={kind}&tool=send_message")).status_code == 200
    wrong = await owner.post(
        "/automations", data=RULE | {"type": "", "name": HOSTILE, "path.0": "event.x", "value.0": "7"}
    )
    assert wrong.status_code == 422
    assert HOSTILE not in wrong.text
    assert 'value="event.x"' in wrong.text
    tried = await owner.post("/automations", data=RULE | {"do": "test"})
    assert (tried.status_code, "it would have proposed 0 times" in tried.text) == (200, True)
    conditions = {"path.0": "event.payload.angle", "is.0": "at_least", "value.0": "7"}
    kept = await owner.post("/automations", data=RULE | conditions | {"device": "porch", "cooldown": "2"})
    assert kept.status_code == 303
    with database.transaction() as session:
        [made] = automations.listed(session, home)
    assert made.conditions == [{"path": "event.payload.angle", "is": "at_least", "value": 7}]
    assert (made.enabled, made.cooldown_s, made.trigger) == (False, 120, {"device": "porch", "type": "door"})
    path = f"/automations/{made.automation_id}"
    page = (await owner.get(path)).text
    assert "When porch reports door, if event.payload.angle at least 7: Say" in page
    assert (await owner.post(f"{path}/switch", data={"on": "true"})).status_code == 303
    form = (await owner.get(f"{path}/edit")).text
    assert 'value="{{event.payload.angle}}"' in form
    assert 'value="7"' in form
    changed = await owner.post(path, data=RULE | {"revision": "1", "name": "Other"})
    assert changed.status_code == 303
    stale = await owner.post(path, data=RULE | {"revision": "1", "name": "Third"})
    assert (stale.status_code, "somebody else edited it meanwhile" in stale.text) == (409, True)
    api = (await owner.get(f"/api{path}")).json()
    assert (api["name"], api["enabled"], api["revision"]) == ("Other", True, 2)
    told = await owner.post(
        "/api/automations/rehearse",
        json={"name": "x", "kind": "time", "trigger": {"at": "07:30"}, "tool": "send_message", "args": {"text": "x"}},
    )
    assert len(told.json()["coming"]) == 5
    telemetry = {
        "kind": "telemetry",
        "tool": "send_message",
        "name": "Hot",
        "stream": "warmth",
        "bound": "30",
        "rearm": "25",
    }
    assert (await owner.post("/automations", data=telemetry | {"arg.text": "hot"})).status_code == 303
    assert (
        await owner.post("/automations", data=telemetry | {"name": "Odd", "rearm": "31", "arg.text": "x"})
    ).status_code == 422
    assert (await owner.post(f"{path}/delete", data={})).status_code == 303
    assert (await owner.get(path)).status_code == 404


async def test_a_policy_is_rehearsed_before_it_is_switched_on(person, database, home):
    owner = person("ann", "owner")
    now = datetime.now(UTC)
    with database.transaction() as session:
        proposer = Proposer("device:porch", Actor("porch", "device"))
        proposal = Proposal("send_message", {"text": HOSTILE})
        action = proposing.propose(session, home, proposal, proposer=proposer, now=now).action
        ann = Decider("user:ann", Actor("ann@example.org", "person"), "owner")
        deciding.reject(session, home, action.action_id, by=ann, reason=HOSTILE, now=now)
    assert "No policies yet" in (await owner.get("/policies")).text
    assert (await owner.get("/policies/new")).status_code == 200
    assert 'value="messages:send" checked' in (await owner.get("/policies/new?tool=send_message")).text
    wrong = await owner.post("/policies", data=POLICY | {"from": "7", "to": "9:00", "zone": "Mars", "rate_count": "0"})
    assert (wrong.status_code, 'value="Say it"' in wrong.text) == (422, True)
    kept = await owner.post("/policies", data=POLICY | {"rate_count": "3", "rate_s": "3600", "proposers": "device"})
    assert kept.status_code == 303
    with database.transaction() as session:
        [made] = policies.listed(session, home)
    assert (made.enabled, made.rate_count, made.rate_s, made.proposers) == (False, 3, 3600, ["device"])
    path = f"/policies/{made.policy_id}"
    page = (await owner.get(path)).text
    assert "it would have approved 1 of 1 proposal" in page
    assert "People had rejected 1 of them" in page
    assert HOSTILE not in page
    assert (await owner.post(f"{path}/switch", data={"on": "true", "revision": "9"})).status_code == 409
    assert (await owner.post(f"{path}/switch", data={"on": "true", "revision": "1"})).status_code == 303
    assert (await owner.get(f"{path}/edit")).status_code == 200
    changed = await owner.post(path, data=POLICY | {"revision": "1", "risk_max": "medium"})
    assert changed.status_code == 303
    api = (await owner.get(f"/api{path}")).json()
    assert (api["enabled"], api["revision"], api["risk_max"]) == (False, 2, "medium")
    patched = await owner.patch(f"/api{path}", json={"enabled": True, "revision": 2})
    assert patched.json()["enabled"]
    draft = {"name": "x", "tool": "send_message", "scopes": ["messages:send"], "other_args": True}
    told = (await owner.post("/api/policies/rehearse", json=draft)).json()
    assert (told["approved"], len(told["rejected_by_people"])) == (1, 1)
    assert (await owner.post(f"{path}/delete", data={})).status_code == 303
    assert (await owner.get("/api/policies")).json() == {"items": []}
