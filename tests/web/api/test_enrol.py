"""`/v1/enrol` as a device uses it: safe ways alone, the same answer to every code that does not work, one token."""

from datetime import UTC, datetime
from uuid import uuid4

import httpx
import pytest

from hub import claims, enrolment_decisions
from hub.claims import ClaimDraft
from hub.enrolment_decisions import Approval
from web.app import create_app

SAID = {"name": "Weather mast", "hardware": "ESP32-C3", "firmware": "mast 1.4.0"}


@pytest.fixture
def make_code(database, home):
    """Makes claim codes of the first agent; the code itself."""

    def make(**facts) -> str:
        with database.transaction() as session:
            now = datetime.now(UTC)
            return claims.create(session, home.agent_id, ClaimDraft(**facts), by="ann", user_id=None, now=now).code

    return make


@pytest.fixture
async def device(app):
    """Makes devices: clients over TLS, or as told."""
    made = []

    def make(base_url: str = "https://hub.test", address: str = "192.0.2.50", of=None, **more) -> httpx.AsyncClient:
        transport = httpx.ASGITransport(app=of or app, client=(address, 50_000))
        made.append(httpx.AsyncClient(transport=transport, base_url=base_url, **more))
        return made[-1]

    yield make
    for client in made:
        await client.aclose()


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


@pytest.mark.parametrize(
    ("base_url", "address", "headers"),
    [
        ("http://hub.test", "192.0.2.50", {}),
        # Whoever is no declared proxy may say what it likes, and a proxy on this machine that is not declared is seen.
        ("http://hub.test", "192.0.2.50", {"X-Forwarded-Proto": "https"}),
        ("http://hub.test", "127.0.0.1", {"X-Forwarded-For": "192.0.2.50"}),
        ("http://hub.test", "127.0.0.1", {"Forwarded": "for=192.0.2.50"}),
    ],
)
async def test_over_plain_http_from_elsewhere_there_is_no_enrolment(device, make_code, base_url, address, headers):
    code = make_code()
    client = device(base_url, address, headers=headers)
    for answer in (
        await client.post("/v1/enrol", json={"code": code}),
        await client.post(f"/v1/enrol/{uuid4()}", headers=bearer("x")),
    ):
        assert answer.status_code == 403
        assert "plain HTTP" in answer.json()["detail"]
    assert (await device().post("/v1/enrol", json={"code": code})).status_code == 202


async def test_plain_http_will_do_on_this_machine_and_where_its_owner_says_so(device, make_code, settings):
    local = device("http://127.0.0.1:8000", "127.0.0.1")
    assert (await local.post("/v1/enrol", json={"code": make_code()})).status_code == 202
    trusting = create_app(settings.model_copy(update={"enrol_over_http": True}))
    client = device("http://hub.test", of=trusting)
    assert (await client.post("/v1/enrol", json={"code": make_code()})).status_code == 202
    trusting.state.database.close()


async def test_every_code_that_does_not_work_gets_the_same_answer(device, make_code, database, home):
    client = device()
    used, withdrawn = make_code(), make_code()
    assert (await client.post("/v1/enrol", json={"code": used})).status_code == 202
    with database.transaction() as session:
        now = datetime.now(UTC)
        one = claims.open_ones(session, home.agent_id, now)[0]
        claims.withdraw(session, home.agent_id, one.claim_id, by="ann", now=now)
    answers = [
        await client.post("/v1/enrol", json={"code": code} | SAID)
        for code in (used, withdrawn, "0000-0000-0000-0000", "x", "é" * 40)
    ]
    assert {answer.status_code for answer in answers} == {404}
    assert len({answer.content for answer in answers}) == 1
    assert len({tuple(answer.headers.keys()) for answer in answers}) == 1


async def test_poll_secrets_open_their_own_enrolment_alone(device, make_code):
    client = device()
    first, second = [(await client.post("/v1/enrol", json={"code": make_code()})).json() for _ in range(2)]
    assert (await client.post(f"/v1/enrol/{first['enrolment_id']}")).status_code == 401
    unknown = await client.post(f"/v1/enrol/{uuid4()}", headers=bearer(first["secret"]))
    other = await client.post(f"/v1/enrol/{first['enrolment_id']}", headers=bearer(second["secret"]))
    assert unknown.status_code == other.status_code == 404
    assert unknown.content == other.content


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        ("{", {}, 422),
        ("[]", {}, 422),
        ("{}", {}, 422),
        ('{"code": 7}', {}, 422),
        ('{"code": "x", "name": "' + "x" * 81 + '"}', {}, 422),
        ('{"code": "x", "name": "a\\u0000b"}', {}, 422),
        ('{"code": "x", "public_key": "???"}', {}, 422),
        ('{"code": "x"}', {"Idempotency-Key": "short"}, 422),
        ("code=x", {"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ('{"code": "x"}', {"Content-Type": "text/plain"}, 415),
        ('{"code": "' + "x" * 9000 + '"}', {}, 413),
    ],
)
async def test_what_is_no_claim_is_refused_with_the_rule(device, body, headers, status):
    answer = await device().post("/v1/enrol", content=body, headers={"Content-Type": "application/json"} | headers)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"


async def test_a_flood_of_guesses_is_told_to_wait(device, make_code):
    client = device(address="192.0.2.66")
    statuses = [(await client.post("/v1/enrol", json={"code": f"GUESS{n}"})).status_code for n in range(12)]
    assert statuses[0] == 404
    assert statuses[-1] == 429
    waiting = await client.post("/v1/enrol", json={"code": make_code()})
    assert waiting.status_code == 429
    assert int(waiting.headers["retry-after"]) >= 1
    # Whoever asks from elsewhere is not held up.
    assert (await device().post("/v1/enrol", json={"code": make_code()})).status_code == 202


async def test_from_the_code_to_the_token(device, make_code, database, home):
    client = device("https://hub.example.org")
    asked = await client.post("/v1/enrol", json={"code": make_code(name="Mast")} | SAID)
    assert (asked.status_code, asked.headers["retry-after"]) == (202, "5")
    assert asked.headers["cache-control"] == "no-store"
    assert "set-cookie" not in asked.headers
    facts = asked.json()
    assert facts["state"] == "pending"
    assert len(facts["phrase"].split()) == 3
    poll = f"/v1/enrol/{facts['enrolment_id']}"
    waiting = await client.post(poll, headers=bearer(facts["secret"]))
    assert waiting.status_code == 202
    assert "token" not in waiting.json()
    assert "secret" not in waiting.json()
    with database.transaction() as session:
        enrolment_decisions.approve(
            session, home.agent_id, facts["enrolment_id"], Approval(), by="ann", now=datetime.now(UTC)
        )
    fetched = await client.post(poll, headers=bearer(facts["secret"]))
    assert fetched.status_code == 200
    got = fetched.json()
    assert got["token"].startswith("mv1.mast.")
    assert got["mqtt"] == {"host": "hub.example.org", "port": 1883, "tls": False, "root": "marvain/v1"}
    me = await client.get("/v1/me", headers=bearer(got["token"]))
    assert me.status_code == 200
    beat = await client.post("/v1/devices/heartbeat", json={}, headers=bearer(got["token"]))
    assert beat.status_code < 300, beat.text
    over = await client.post(poll, headers=bearer(facts["secret"]))
    assert (over.status_code, over.json()["state"]) == (410, "collected")
    assert got["token"] not in over.text


async def test_without_anybodys_word_the_first_answer_holds_the_token(device, make_code):
    answer = await device().post("/v1/enrol", json={"code": make_code(needs_approval=False)} | SAID)
    assert answer.status_code == 201
    assert answer.json()["token"].startswith("mv1.weather-mast.")


async def test_a_rejected_device_is_told(device, make_code, database, home):
    client = device()
    facts = (await client.post("/v1/enrol", json={"code": make_code()})).json()
    with database.transaction() as session:
        enrolment_decisions.reject(
            session, home.agent_id, facts["enrolment_id"], by="ann", now=datetime.now(UTC), reason="not ours"
        )
    told = await client.post(f"/v1/enrol/{facts['enrolment_id']}", headers=bearer(facts["secret"]))
    assert told.status_code == 403
    assert (told.json()["state"], told.json()["detail"]) == ("rejected", "it was rejected: not ours")


async def test_a_page_of_another_site_cannot_claim_for_a_browser(device, make_code):
    client = device(headers={"Origin": "https://evil.test", "Sec-Fetch-Site": "cross-site"})
    assert (await client.post("/v1/enrol", json={"code": make_code()})).status_code == 403
