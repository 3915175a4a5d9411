"""The pages of actions: closed doors, decisions with what was seen, forms made from schemas, and hostile words."""

import re
from datetime import UTC, datetime

import pytest
from sqlalchemy import text

from hub import devices, identity
from hub.actions import proposing, records
from hub.actions.proposing import Proposal, Proposer
from hub.audit.actors import Actor

HOSTILE = "<script>alert(1)</script>"


@pytest.fixture
def home(database):
    with database.transaction() as session:
        return identity.ensure_first_agent(session).agent_id


@pytest.fixture
def person(make_user, enter, new_client, home):
    return lambda name, role: new_client(token=enter(make_user(f"{name}@example.org", role)))


@pytest.fixture
def propose(database, home):
    def propose(tool="send_message", args=None, **facts):
        with database.transaction() as session:
            proposal = Proposal(tool, args or {"text": "Dinner!"}, **facts)
            proposer = Proposer("device:porch", Actor("porch", "device"))
            made = proposing.propose(session, home, proposal, proposer=proposer, now=datetime.now(UTC))
            return made.action

    return propose


@pytest.fixture
def look(database, home):
    def look(action):
        with database.transaction() as session:
            return records.find(session, home, action.action_id)

    return look


async def test_closed_doors_first(person, propose, look, new_client, home, database):
    action = propose()
    paths = ["/actions", "/actions/new", "/actions/waiting", f"/actions/{action.action_id}", "/tools"]
    guest, member, stranger = person("gus", "guest"), person("bob", "member"), new_client()
    for path in paths:
        assert (await guest.get(path)).status_code == 403, path
        assert (await stranger.get(path)).status_code in (303, 401), path
        assert (await member.get(path)).status_code == 200, path
    assert "/actions" not in (await guest.get("/devices")).text
    yes = {"digest": action.digest}
    assert (await guest.post(f"/actions/{action.action_id}/approve", data=yes)).status_code == 403
    for path in ("/tools/rules", "/tools/hosts", "/tools/channels"):
        assert (await member.post(path, data={})).status_code == 403, path
    cross = person("eve", "member")
    foreign = await cross.post(
        f"/actions/{action.action_id}/approve", data=yes, headers={"Origin": "http://evil.example"}
    )
    assert foreign.status_code == 403
    assert (await member.post(f"/actions/{action.action_id}/destroy", data={})).status_code == 404
    assert look(action).status == "proposed"


async def test_what_was_seen_is_what_is_decided(person, propose, look):
    action, owner, member = propose(why="it is six"), person("ann", "owner"), person("bob", "member")
    page = (await member.get(f"/actions/{action.action_id}")).text
    assert "Say “Dinner!”" in page
    assert "it is six" in page
    assert f'name="digest" value="{action.digest}"' in page
    edited = await owner.post(f"/actions/{action.action_id}/edit", data={"revision": "1", "arg.text": "Supper!"})
    assert edited.status_code == 303
    stale = await member.post(f"/actions/{action.action_id}/approve", data={"digest": action.digest, "reason": "yes"})
    assert stale.status_code == 409
    assert "It was changed since you looked at it" in stale.text
    assert 'value="yes"' in stale.text
    wrong = await owner.post(f"/actions/{action.action_id}/edit", data={"revision": "2", "arg.text": ""})
    assert wrong.status_code == 422
    done = await member.post(f"/actions/{action.action_id}/approve", data={"digest": look(action).digest})
    assert done.status_code == 303
    assert look(action).status == "approved"
    late = await owner.post(f"/actions/{action.action_id}/reject", data={"reason": "no"})
    assert (late.status_code, "It is approved already by bob@example.org" in late.text) == (409, True)
    assert (await owner.post(f"/actions/{action.action_id}/cancel", data={})).status_code == 303


async def test_a_person_proposes_by_a_form_of_the_tool(person, database, home, look):
    member = person("bob", "member")
    assert "send_message" in (await member.get("/actions/new")).text
    form = (await member.get("/actions/new?tool=send_message")).text
    assert re.search(r'name="arg.text"[^>]*required', form)
    wrong = await member.post(
        "/actions", data={"tool": "send_message", "arg.text": "x", "arg.devices": "[", "why": "w"}
    )
    assert wrong.status_code == 422
    assert 'value="w"' in wrong.text
    assert (await member.post("/actions", data={"tool": "teleport"})).status_code == 422
    made = await member.post("/actions", data={"tool": "send_message", "arg.text": "Hi", "why": "because"})
    assert made.status_code == 303
    with database.transaction() as session:
        [action] = records.waiting(session, home)
    assert (action.args, action.why, action.proposed_by) == ({"text": "Hi"}, "because", "bob@example.org")
    assert made.headers["location"].startswith(f"/actions/{action.action_id}")


async def test_the_badge_counts_what_one_may_decide(person, propose, database, home):
    with database.transaction() as session:
        devices.add(session, home, "Porch", scopes=["*"], by="ann")
    propose()
    propose("device_command", {"device": "porch", "verb": "anything"})
    member, owner = person("bob", "member"), person("ann", "owner")
    assert (await member.get("/actions/waiting")).json()["count"] == 1
    found = (await owner.get("/actions/waiting")).json()
    assert (found["count"], found["newest"]["tool"], found["newest"]["risk"]) == (2, "device_command", "high")
    page = (await member.get("/actions")).text
    assert page.count('data-decide="approve"') == 1
    assert "Others decide on actions of high risk" in page


async def test_words_of_others_stay_words(person, propose, database, look):
    action = propose(args={"text": HOSTILE, "title": HOSTILE}, why=HOSTILE)
    with database.transaction() as session:
        session.execute(
            text(
                "UPDATE actions SET proposed_by = :evil, decided_by = :evil, error = :evil,"
                " result = to_jsonb(CAST(:evil AS text)),"
                " policy = to_jsonb(CAST(:evil AS text)), decision_reason = :evil, kind = :evil, status = 'rejected',"
                " completed_at = now()"
            ),
            {"evil": HOSTILE},
        )
        session.execute(text("UPDATE action_steps SET witness = :evil, note = :evil"), {"evil": HOSTILE})
    owner = person("ann", "owner")
    for path in ("/actions", f"/actions/{action.action_id}", "/tools"):
        page = (await owner.get(path)).text
        assert HOSTILE not in page
    assert "&lt;script&gt;" in page or path == "/tools"


async def test_admins_say_what_tools_may_reach(person, database, home):
    owner = person("ann", "owner")
    rules = {f"{risk}_role": "admin" for risk in ("low", "medium", "high")}
    rules |= {f"{risk}_approvals": "2" for risk in ("low", "medium", "high")} | {"hours": "4", "revision": "0"}
    assert (await owner.post("/tools/rules", data=rules)).status_code == 303
    stale = await owner.post("/tools/rules", data=rules | {"low_role": "owner"})
    assert (stale.status_code, "somebody changed these rules meanwhile" in stale.text) == (409, True)
    bad = await owner.post("/tools/rules", data=rules | {"revision": "1", "low_approvals": "99"})
    assert bad.status_code == 422
    assert (await owner.post("/tools/hosts", data={"host": "no host", "methods": "GET"})).status_code == 422
    assert (await owner.post("/tools/hosts", data={"host": "api.example.org", "methods": "GET"})).status_code == 303
    page = (await owner.get("/tools")).text
    assert "<code>api.example.org</code> GET" in page
    assert (await owner.post("/tools/hosts/forbid", data={"host": "api.example.org"})).status_code == 303
    new = {"name": "phones", "url": "https://ntfy.example.org/secret-topic", "token": "tk_secret"}
    refused = await owner.post("/tools/channels", data=new)
    assert refused.status_code == 422
    assert "MARVAIN_SECRETS_KEY_FILE" in refused.text
    assert "tk_secret" not in refused.text
    assert "secret-topic" not in refused.text
