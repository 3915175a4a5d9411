"""The dead letters page and its HTTP twin: admins alone, nothing in them is markup, and what came of a try is told."""

import base64
import json
from datetime import UTC, datetime

import pytest

from hub import dead_letters, devices, identity

XSS = "<script>alert(1)</script>"
EVENT = {"id": "e1", "epoch": 1, "payload": {"note": XSS}}


@pytest.fixture
def number(database, owner_token):
    with database.transaction() as session:
        agent_id = identity.find_agent(session).agent_id
        devices.add(session, agent_id, "Porch", scopes=["*"], by="a test")
    with database.transaction() as session:
        for topic, payload in (
            ("marvain/v1/d/porch/event/bell", json.dumps(EVENT).encode()),
            (f"marvain/v1/d/porch/{XSS}", b"\x00\xff\x07"),
        ):
            dead_letters.park(
                session, topic, payload, f"Fault: {XSS}", datetime.now(UTC), direction="in", handle="porch"
            )
    with database.transaction() as session:
        view = dead_letters.View(agent_id)
        return dead_letters.page(session, view).items[1].dead_letter_id


@pytest.mark.parametrize("role", ["guest", "member"])
async def test_members_and_guests_are_kept_out(new_client, make_user, enter, number, role) -> None:
    client = new_client(token=enter(make_user("mia@example.org", role)))
    assert "/dead-letters" not in (await client.get("/devices")).text
    for path in ("/dead-letters", f"/dead-letters/{number}", "/api/dead-letters", f"/api/dead-letters/{number}"):
        assert (await client.get(path)).status_code == 403
    for path in (f"/dead-letters/{number}/retry", f"/dead-letters/{number}/discard", "/dead-letters/discard"):
        assert (await client.post(path)).status_code == 403
    assert (await client.delete(f"/api/dead-letters/{number}")).status_code == 403


async def test_an_empty_list_teaches(owner) -> None:
    assert "Nothing was left over" in (await owner.get("/dead-letters")).text


async def test_the_list_and_one_of_it_are_harmless(owner, number) -> None:
    page = (await owner.get("/dead-letters")).text
    assert "marvain/v1/d/porch/event/bell" in page
    one = (await owner.get(f"/dead-letters/{number}")).text
    assert "Porch" in one
    binary = (await owner.get(f"/dead-letters/{number + 1}")).text
    assert "00 ff 07" in binary
    assert "Try again" not in binary  # a topic that is none of ours
    for text in (page, one, binary):
        assert XSS not in text
        assert "&lt;script&gt;" in text
    assert "Nothing matches" in (await owner.get("/dead-letters?words=moon")).text
    assert (await owner.get("/dead-letters?direction=up")).status_code == 422


async def test_it_is_tried_again_and_stored(owner, number) -> None:
    answer = await owner.post(f"/dead-letters/{number}/retry")
    assert (answer.status_code, answer.headers["location"]) == (303, "/dead-letters")
    assert "bell" in (await owner.get("/events")).text
    assert (await owner.get(f"/dead-letters/{number}")).status_code == 404
    assert "Dead letter retried" in (await owner.get("/audit")).text


async def test_one_is_discarded(owner, number) -> None:
    assert "is gone then" in (await owner.get(f"/dead-letters/{number}")).text
    assert (await owner.post(f"/dead-letters/{number}/discard")).status_code == 303
    assert (await owner.get(f"/dead-letters/{number}")).status_code == 404
    assert "Dead letter discarded" in (await owner.get("/audit")).text


async def test_discarding_all_asks_for_their_number(owner, number) -> None:
    wrong = await owner.post("/dead-letters/discard", data={"typed": "3", "up_to": number + 1, "words": "fault"})
    assert wrong.status_code == 422
    assert "there are 2 that match now" in wrong.text
    assert 'value="3"' in wrong.text
    assert (await owner.post("/dead-letters/discard", data={"typed": "two"})).status_code == 422
    right = await owner.post("/dead-letters/discard", data={"typed": "2", "up_to": number + 1, "words": "fault"})
    assert right.status_code == 303
    assert "Nothing was left over" in (await owner.get("/dead-letters")).text


async def test_the_same_over_http(owner, number) -> None:
    listed = (await owner.get("/api/dead-letters?words=bell")).json()
    assert (listed["total"], listed["items"][0]["dead_letter_id"]) == (1, number)
    whole = (await owner.get(f"/api/dead-letters/{number}")).json()
    assert json.loads(base64.b64decode(whole["payload_base64"])) == EVENT
    assert (await owner.post(f"/api/dead-letters/{number}/retry")).json() == {"ok": True, "error": None}
    assert (await owner.post(f"/api/dead-letters/{number + 1}/retry")).status_code == 409
    assert (await owner.delete(f"/api/dead-letters?up_to={number + 1}&count=7")).status_code == 422
    assert (await owner.delete(f"/api/dead-letters/{number + 1}")).status_code == 204
    assert (await owner.get("/api/dead-letters")).json()["total"] == 0
