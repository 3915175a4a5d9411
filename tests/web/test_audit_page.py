"""The audit page: who may not see it, what it finds, and that it says when the chain is broken."""

import hashlib
import json

import pytest
from sqlalchemy import text

from hub import audit, devices, identity
from hub.tables import Agent, AgentMembership


@pytest.fixture
def agent_id(database, owner_token):
    with database.transaction() as session:
        agent_id = identity.ensure_first_agent(session).agent_id
        added = devices.add(session, agent_id, "Front door", scopes=["events:write"], by="ann@example.org")
        devices.revoke(session, added.device, by="ben@example.org", reason="<b>lost</b>")
    return agent_id


@pytest.mark.parametrize("path", ["/audit", "/audit/export"])
async def test_guests_do_not_see_it(new_client, make_user, enter, agent_id, path) -> None:
    guest = new_client(token=enter(make_user("gil@example.org", "guest", agent_id=agent_id)))
    assert (await guest.get(path)).status_code == 403


async def test_members_see_it_and_cannot_verify_or_export(new_client, make_user, enter, agent_id) -> None:
    member = new_client(token=enter(make_user("mia@example.org", "member", agent_id=agent_id)))
    page = await member.get("/audit")
    assert page.status_code == 200
    assert "Verify now" not in page.text
    assert (await member.post("/audit/verify")).status_code == 403
    assert (await member.get("/audit/export")).status_code == 403


async def test_an_empty_one_teaches(owner, owner_token, database) -> None:
    """As an agent from an earlier system has it, which came with its rows."""
    with database.transaction() as session:
        session.add(agent := Agent(name="Cabin"))
        session.flush()
        user_id = session.execute(text("SELECT user_id FROM users WHERE email = 'ann@example.org'")).scalar_one()
        session.add(AgentMembership(agent_id=agent.agent_id, user_id=user_id, role="member"))
        session.flush()
    page = await owner.get(f"/audit?agent={agent.agent_id}")
    assert "Whoever changes something here is written down" in page.text


async def test_what_was_done_to_one_is_found_whatever_its_name(owner, agent_id, database) -> None:
    with database.transaction() as session:
        device = devices.by_handle(session, "front-door")
        devices.add(session, agent_id, "Back door", scopes=[], by="ann@example.org")
    page = (await owner.get(f"/audit?of={device.device_id}")).text
    assert "Of one alone" in page
    assert "back-door" not in page
    assert (await owner.get("/audit?of=nonsense")).status_code == 422


async def test_each_change_stands_there_harmlessly(owner, agent_id) -> None:
    page = (await owner.get("/audit")).text
    assert "Device revoked:" in page
    assert "&lt;b&gt;lost&lt;/b&gt;" in page
    assert "<b>lost" not in page


@pytest.mark.parametrize(
    ("query", "there", "not_there"),
    [
        ({"actor": "BEN"}, "Device revoked", "Device added:"),
        ({"action": "device.added"}, "Device added", "Device revoked:"),
        ({"action": "device."}, "Device added", "Nothing matches"),
        ({"subject": "front"}, "Device added", "Nothing matches"),
        ({"subject": "100%"}, "Nothing matches", "Device added:"),
        ({"kind": "device"}, "Nothing matches", "Device added:"),
        ({"since": "2000-01-01", "until": "2000-01-02"}, "Nothing matches", "Device added:"),
        ({"since": "2000-01-01"}, "Device added", "Nothing matches"),
    ],
)
async def test_filters_find(owner, agent_id, query, there, not_there) -> None:
    page = (await owner.get("/audit", params=query)).text
    assert there in page
    assert not_there not in page


async def test_a_day_that_is_none_is_said(owner, agent_id) -> None:
    page = await owner.get("/audit", params={"since": "yesterday"})
    assert "is a day such as" in page.text
    assert 'value="yesterday"' in page.text


async def test_older_ones_follow(owner, agent_id, database) -> None:
    with database.transaction() as session:
        for n in range(60):
            audit.record(session, agent_id, by="ann@example.org", action="role.edited", subject=f"role {n:02}")
    first = (await owner.get("/audit", params={"action": "role.edited"})).text
    assert "role 59" in first
    assert "role 09" not in first
    before = first.split("before=")[1].split("&")[0].split('"')[0]
    assert "role 09" in (await owner.get("/audit", params={"action": "role.edited", "before": before})).text


async def test_verifying_says_what_it_found(owner, agent_id, database) -> None:
    answer = await owner.post("/audit/verify")
    assert answer.status_code == 303
    assert "Whole" in (await owner.get("/audit")).text
    with database.engine.begin() as connection:
        connection.execute(text("ALTER TABLE audit_entries DISABLE TRIGGER USER"))
        connection.execute(text("UPDATE audit_entries SET actor = 'eve' WHERE seq = 1 AND agent_id IS NOT NULL"))
        connection.execute(text("ALTER TABLE audit_entries ENABLE TRIGGER USER"))
    await owner.post("/audit/verify")
    assert "Not whole" in (await owner.get("/audit")).text


async def test_the_export_can_be_checked_by_anybody(owner, agent_id) -> None:
    answer = await owner.get("/audit/export")
    assert answer.headers["content-disposition"].startswith('attachment; filename="audit-')
    lines = [json.loads(line) for line in answer.text.splitlines()]
    assert [line["seq"] for line in lines] == list(range(1, len(lines) + 1))
    previous = ""
    for line in lines:
        assert line["prev_hash"] == previous
        assert hashlib.sha256(line["line"].encode()).hexdigest() == line["hash"]
        previous = line["hash"]
