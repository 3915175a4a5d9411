"""Who gets in, and as whom: strangers first."""

from datetime import UTC, datetime

import httpx
import pytest

from hub import devices
from hub.access import personal_tokens
from hub.tables import AgentMembership, Device, User


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer ",
        "Basic YW5uOmFubg==",
        "Bearer nonsense",
        "Bearer mvp.",
        "Bearer mvp." + "x" * 43,
        "Bearer mv1.home-porch." + "x" * 43,
        "Bearer mv1.nobody." + "x" * 43,
        "Bearer mv1.." + "x" * 43,
        "Bearer " + "x" * 4000,
    ],
)
async def test_a_stranger_is_told_to_show_a_token(bearer, home, header) -> None:
    client = bearer()
    answer = await client.get("/v1/me", headers={"Authorization": header} if header else {})
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == "Bearer"
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["status"] == 401


async def test_problems_are_json_whatever_is_asked_for(bearer) -> None:
    answer = await bearer().get("/v1/me", headers={"Accept": "text/html"})
    assert answer.headers["content-type"] == "application/problem+json"
    missing = await bearer().get("/api/nothing", headers={"Accept": "text/html"})
    assert (missing.status_code, missing.headers["content-type"]) == (404, "application/problem+json")


async def test_a_device_is_itself(bearer, home) -> None:
    answer = (await bearer(home.token).get("/v1/me")).json()
    assert (answer["kind"], answer["handle"], answer["agent"]) == ("device", home.handle, "Home")
    assert "events:write" in answer["may"]


async def test_a_revoked_device_is_told_so_and_refused(bearer, home, database) -> None:
    with database.transaction() as session:
        devices.revoke(session, session.get_one(Device, home.device_id), by="ann", reason="lost")
    answer = await bearer(home.token).get("/v1/me")
    assert answer.status_code == 401
    assert "lost" in answer.json()["detail"]


async def test_a_device_of_a_disabled_agent_is_refused(bearer, home, database) -> None:
    with database.transaction() as session:
        session.execute(personal_tokens.text("UPDATE agents SET disabled = true"))
    assert (await bearer(home.token).get("/v1/me")).status_code == 401


async def test_a_person_has_what_the_role_gives(bearer, home, make_user, make_token) -> None:
    guest = make_user("gil@example.org", "guest", agent_id=home.agent_id)
    answer = (await bearer(make_token(guest)).get("/v1/me")).json()
    may = answer["agents"][0]["may"]
    assert "devices:read" in may
    assert not {"devices:write", "audit:read", "memories:read"} & set(may)


async def test_a_token_narrows_the_role(bearer, admin, make_token) -> None:
    client = bearer(make_token(admin, "events:*"))
    refused = await client.get("/api/devices")
    assert refused.status_code == 403
    assert "devices:read" in refused.json()["detail"]
    assert (await client.get("/v1/events")).status_code == 200


async def test_a_token_never_widens_the_role(bearer, home, make_user, make_token) -> None:
    member = make_user("mia@example.org", "member", agent_id=home.agent_id)
    answer = await bearer(make_token(member, "devices:write", "*")).post("/api/devices", json={"name": "Mine"})
    assert answer.status_code == 403
    assert "role admin" in answer.json()["detail"]


@pytest.mark.parametrize("change", ["blocked", "removed", "disabled", "revoked", "expired"])
async def test_a_token_ends_with_what_it_stands_on(bearer, home, admin, make_token, database, change) -> None:
    client = bearer(make_token(admin))
    assert (await client.get("/api/devices")).status_code == 200
    with database.transaction() as session:
        membership = session.get_one(AgentMembership, (home.agent_id, admin.user_id))
        if change == "blocked":
            membership.role = "blocked"
        elif change == "removed":
            session.delete(membership)
        elif change == "disabled":
            session.get_one(User, admin.user_id).disabled = True
        else:
            (token,) = personal_tokens.of_user(session, admin.user_id)
            if change == "revoked":
                personal_tokens.revoke(session, admin.user_id, token.token_id, datetime.now(UTC))
            else:
                token.created_at = datetime(2020, 1, 1, tzinfo=UTC)
                token.expires_at = datetime(2020, 1, 2, tzinfo=UTC)
                session.add(token)
    answer = await client.get("/api/devices")
    assert answer.status_code == (404 if change in {"blocked", "removed"} else 401)


async def test_whoever_belongs_to_several_agents_says_which(
    bearer, home, elsewhere, admin, make_user, make_token
) -> None:
    make_user("ben@example.org", "guest", agent_id=elsewhere.agent_id)
    client = bearer(make_token(admin))
    unclear = await client.get("/api/devices")
    assert (unclear.status_code, unclear.json()["field"]) == (422, "agent")
    clear = await client.get("/api/devices", params={"agent": str(elsewhere.agent_id)})
    assert [one["handle"] for one in clear.json()["items"]] == [elsewhere.handle]
    low = await client.post("/api/devices", params={"agent": str(elsewhere.agent_id)}, json={"name": "Mine"})
    assert low.status_code == 403


async def test_a_device_cannot_use_what_is_for_people(bearer, home) -> None:
    for method, path in (("GET", "/api/devices"), ("GET", "/api/tokens"), ("POST", "/api/devices")):
        answer = await bearer(home.token).request(method, path, json={"name": "Mine"} if method == "POST" else None)
        assert answer.status_code == 403, path


async def test_too_many_requests_have_to_wait(app, bearer, home, elsewhere) -> None:
    for _ in range(app.state.settings.http_requests_per_minute):
        app.state.pace.take(f"device:{home.device_id}")
    answer = await bearer(home.token).get("/v1/me")
    assert answer.status_code == 429
    assert 1 <= int(answer.headers["retry-after"]) <= 60
    assert (await bearer(elsewhere.token).get("/v1/me")).status_code == 200


async def test_guessing_is_braked_for_the_guesser_alone(app, bearer, home) -> None:
    guesser = bearer("mv1.home-porch." + "x" * 43, address="198.51.100.1")
    answers = [
        (await guesser.get("/v1/me")).status_code for _ in range(app.state.settings.http_failures_per_minute + 1)
    ]
    assert answers[-1] == 429
    assert set(answers[:-1]) == {401}
    assert (await bearer(home.token, address="192.0.2.44").get("/v1/me")).status_code == 200


async def test_a_guesser_locks_nobody_out_who_was_let_in_from_the_same_home(app, bearer, home, elsewhere) -> None:
    assert (await bearer(home.token, address="198.51.100.1").get("/v1/me")).status_code == 200
    guesser = bearer("mv1.home-porch." + "x" * 43, address="198.51.100.1")
    for _ in range(app.state.settings.http_failures_per_minute):
        await guesser.get("/v1/me")
    assert (await bearer(home.token, address="198.51.100.1").get("/v1/me")).status_code == 200
    assert (await bearer(elsewhere.token, address="198.51.100.1").get("/v1/me")).status_code == 429


async def test_devices_of_an_agent_that_is_off_brake_themselves_alone(app, bearer, home, elsewhere, database) -> None:
    with database.transaction() as session:
        session.execute(
            personal_tokens.text("UPDATE agents SET disabled = true WHERE agent_id = :a"), {"a": home.agent_id}
        )
    shut_out = bearer(home.token, address="198.51.100.1")
    asked = [(await shut_out.get("/v1/me")).status_code for _ in range(app.state.settings.http_failures_per_minute + 5)]
    assert set(asked) == {401}
    assert (await bearer(elsewhere.token, address="198.51.100.1").get("/v1/me")).status_code == 200


async def test_the_page_of_a_signed_in_browser_needs_no_token(owner: httpx.AsyncClient) -> None:
    answer = await owner.get("/v1/me", headers={"Accept": "application/json"})
    assert (answer.json()["kind"], answer.json()["token"]) == ("person", None)


async def test_another_site_cannot_use_the_browser(owner: httpx.AsyncClient) -> None:
    answer = await owner.post("/api/devices", json={"name": "Mine"}, headers={"Origin": "http://evil.test"})
    assert answer.status_code == 403
