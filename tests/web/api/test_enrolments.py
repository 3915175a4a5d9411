"""`/api/claims` and `/api/enrolments`: another agent's are not there, roles count, and a code is seen once."""

from datetime import UTC, datetime

import pytest

from hub import claims, enrolment
from hub.claims import ClaimDraft
from hub.enrolment import Statement


@pytest.fixture
def come(database, home):
    """A device comes with a code of an agent; (claim_id of an open code, what it was answered)."""

    def come(place=home):
        now = datetime.now(UTC)
        with database.transaction() as session:
            codes = [
                claims.create(session, place.agent_id, ClaimDraft(), by="ann", user_id=None, now=now) for _ in range(2)
            ]
            asked = enrolment.ask(session, codes[1].code, Statement("Mast", "ESP32"), address="192.0.2.50", now=now)
            return codes[0].claim.claim_id, asked

    return come


async def test_another_agents_are_not_there(script, come, elsewhere) -> None:
    claim, asked = come(elsewhere)
    for method, path in (
        ("GET", f"/api/claims/{claim}"),
        ("DELETE", f"/api/claims/{claim}"),
        ("GET", f"/api/enrolments/{asked.enrolment_id}"),
        ("POST", f"/api/enrolments/{asked.enrolment_id}/approve"),
        ("POST", f"/api/enrolments/{asked.enrolment_id}/reject"),
    ):
        assert (await script.request(method, path)).status_code == 404, path
    made = await script.post("/api/claims", json={"device_id": str(elsewhere.device_id)})
    assert made.status_code == 404
    for path in ("/api/claims", "/api/enrolments"):
        assert (await script.get(path)).json() == {"items": []}


async def test_members_read_devices_and_guests_nothing(bearer, make_user, make_token, home, come) -> None:
    claim, asked = come()
    member, guest = (
        bearer(make_token(make_user(f"{role}@example.org", role, agent_id=home.agent_id)))
        for role in ("member", "guest")
    )
    assert [one["phrase"] for one in (await member.get("/api/enrolments")).json()["items"]] == [asked.phrase]
    assert (await guest.get("/api/enrolments")).status_code == 403
    for one in (member, guest, bearer(home.token)):
        assert (await one.get("/api/claims")).status_code == 403
        assert (await one.post("/api/claims", json={})).status_code == 403
        assert (await one.delete(f"/api/claims/{claim}")).status_code == 403
        assert (await one.post(f"/api/enrolments/{asked.enrolment_id}/approve")).status_code == 403


async def test_a_code_is_seen_once_even_when_it_is_asked_for_twice(script) -> None:
    new = {"name": "Mast", "space": "Home hall", "minutes": 60}
    first = await script.post("/api/claims", json=new, headers={"Idempotency-Key": "one"})
    assert first.status_code == 201
    made = first.json()
    assert made["url"].endswith(f"/enrol#code={made['code']}")
    assert (made["claim"]["state"], made["claim"]["space"]) == ("open", "Home hall")
    again = (await script.post("/api/claims", json=new, headers={"Idempotency-Key": "one"})).json()
    assert again == made | {"code": None, "url": None}
    listed = (await script.get("/api/claims")).text
    assert made["code"] not in listed
    path = f"/api/claims/{made['claim']['claim_id']}"
    assert (await script.delete(path)).status_code == 204
    assert (await script.delete(path)).status_code == 409
    assert (await script.get(path)).json()["state"] == "withdrawn"


@pytest.mark.parametrize(
    ("new", "field"),
    [
        ({"minutes": 0}, "minutes"),
        ({"minutes": 10_081}, "minutes"),
        ({"handle": "No"}, "handle"),
        ({"scopes": ["everything"]}, "scopes"),
        ({"admin": True}, "admin"),
    ],
)
async def test_a_code_that_breaks_a_rule_is_not_made(script, new, field) -> None:
    answer = await script.post("/api/claims", json=new)
    assert (answer.status_code, answer.json()["field"]) == (422, field)


async def test_approving_and_rejecting(script, come) -> None:
    _, asked = come()
    path = f"/api/enrolments/{asked.enrolment_id}"
    refused = await script.post(f"{path}/approve", json={"scopes": ["everything"]})
    assert refused.status_code == 422
    approved = await script.post(f"{path}/approve", json={"name": "Tall mast", "scopes": ["events:write"]})
    assert approved.status_code == 200, approved.text
    device = approved.json()
    assert (device["handle"], device["scopes"], device["needs_enrolment"]) == ("tall-mast", ["events:write"], True)
    assert (await script.post(f"{path}/approve")).status_code == 409
    assert (await script.post(f"{path}/reject")).status_code == 409
    _, other = come()
    told = await script.post(f"/api/enrolments/{other.enrolment_id}/reject", json={"reason": "not ours"})
    assert (told.json()["state"], told.json()["reason"]) == ("rejected", "not ours")
    pending = (await script.get("/api/enrolments?state=pending")).json()
    assert pending == {"items": []}
    assert len((await script.get("/api/enrolments")).json()["items"]) == 2
