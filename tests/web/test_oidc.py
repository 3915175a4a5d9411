"""Sign-in by OpenID Connect against a real provider: whatever is not exactly right stays outside."""

import os
import re
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import expect, sync_playwright
from sqlalchemy import text

from hub import identity, members, sign_in
from hub.database import Database
from hub.errors import Invalid
from hub.settings import Settings
from hub.tables import AgentMembership, User
from tests.web.oidc_provider import CLIENT_ID, SECRET, TestProvider, running
from web.app import create_app

NewClient = Callable[..., httpx.AsyncClient]
MakeUser = Callable[..., User]


@pytest.fixture
def provider() -> Iterator[TestProvider]:
    with running() as provider:
        yield provider


@pytest.fixture
def settings(database_url: str, provider: TestProvider, tmp_path: Path) -> Settings:
    secret = tmp_path / "client_secret"
    secret.write_text(SECRET + "\n")
    return Settings(
        database_url=database_url,
        oidc_issuer=provider.issuer,
        oidc_client_id=CLIENT_ID,
        oidc_client_secret_file=secret,
        oidc_label="Sign in with <Home>",
    )


async def ask_provider(client: httpx.AsyncClient) -> str:
    """Begin, consent; the address to which the provider sends the browser back."""
    begun = await client.get("/sign-in/oidc?next=/events")
    assert begun.status_code == 303
    async with httpx.AsyncClient() as elsewhere:
        return (await elsewhere.get(begun.headers["location"])).headers["location"]


async def go(client: httpx.AsyncClient) -> httpx.Response:
    return await client.get(await ask_provider(client))


async def is_in(client: httpx.AsyncClient) -> bool:
    return (await client.get("/account")).status_code == 200


def count(database: Database, table: str) -> int:
    with database.transaction() as session:
        return session.execute(text(f"SELECT count(*) FROM {table}")).scalar_one()


@pytest.mark.parametrize(
    "claims",
    [
        {"nonce": "another"},
        {"nonce": None},
        {"aud": "another-client"},
        {"aud": [CLIENT_ID, "another-client"]},
        {"aud": [CLIENT_ID, "another-client"], "azp": "another-client"},
        {"azp": "another-client"},
        {"iss": "https://elsewhere.example"},
        {"exp": int(time.time()) - 120},
        {"exp": None},
        {"iat": int(time.time()) + 3600},
        {"sub": ""},
        {"sub": None},
        {"sub": "a\0b"},
    ],
)
async def test_a_token_that_says_something_else_is_refused(
    client: httpx.AsyncClient, provider: TestProvider, make_user: MakeUser, database: Database, claims: dict[str, Any]
) -> None:
    make_user(role="owner")
    provider.claims = claims
    answer = await go(client)
    assert answer.status_code == 403
    assert "not valid" in answer.text
    assert not await is_in(client)
    assert (count(database, "user_identities"), count(database, "user_sessions")) == (0, 0)


@pytest.mark.parametrize("forge", ["none", "hs256", "stranger"])
async def test_a_signature_that_is_not_the_providers_is_refused(
    client: httpx.AsyncClient, provider: TestProvider, make_user: MakeUser, forge: str
) -> None:
    make_user(role="owner")
    provider.forge = forge
    assert (await go(client)).status_code == 403
    assert not await is_in(client)


@pytest.mark.parametrize("verified", [False, "true", None])
async def test_an_address_that_is_not_verified_links_nothing(
    client: httpx.AsyncClient, provider: TestProvider, make_user: MakeUser, database: Database, verified: object
) -> None:
    make_user(role="owner")
    provider.claims = {"email_verified": verified}
    answer = await go(client)
    assert (answer.status_code, "verified" in answer.text) == (403, True)
    assert count(database, "user_identities") == 0


async def test_strangers_are_told_to_be_invited(client: httpx.AsyncClient, database: Database) -> None:
    with database.transaction() as session:
        session.add(User(email="ann@example.org"))  # of an earlier system: never invited
    answer = await go(client)
    assert (answer.status_code, "Ask an admin" in answer.text) == (403, True)
    assert not await is_in(client)


async def test_the_way_back_counts_once_and_in_its_own_browser(
    client: httpx.AsyncClient, new_client: NewClient, make_user: MakeUser
) -> None:
    make_user(role="owner")
    back = await ask_provider(client)
    assert (await new_client().get(back)).status_code == 400
    held = dict(client.cookies)
    assert (await client.get("/sign-in/oidc/callback?code=x")).status_code == 400
    client.cookies.update(held)
    assert (await client.get("/sign-in/oidc/callback?code=x&state=wrong")).status_code == 400
    client.cookies.update(held)
    assert (await client.get(back)).headers["location"] == "/events"
    again = new_client()
    again.cookies.update(held)
    assert (await again.get(back)).status_code == 400
    assert not await is_in(again)


async def test_the_right_token_brings_in_and_counts_by_its_subject(
    client: httpx.AsyncClient, new_client: NewClient, provider: TestProvider, make_user: MakeUser, database: Database
) -> None:
    make_user(role="owner")
    assert (await go(client)).status_code == 303
    assert await is_in(client)
    provider.claims = {"email": "renamed@example.org", "email_verified": False}
    later = new_client()
    assert (await go(later)).status_code == 303
    assert "ann@example.org" in (await later.get("/account")).text
    # The provider gave the address to somebody else.
    provider.claims = {"sub": "another"}
    heir = new_client()
    assert (await go(heir)).status_code == 403
    assert not await is_in(heir)
    with database.transaction() as session:
        written = session.execute(text("SELECT action FROM audit_entries WHERE action LIKE 'user.%' ORDER BY entry_id"))
        assert written.scalars().all()[1:] == ["user.identity_linked", "user.signed_in", "user.signed_in"]
        session.execute(text("UPDATE users SET disabled = true"))
    provider.claims = {}
    assert "disabled" in (await go(new_client())).text
    assert not await is_in(client)


async def test_who_was_invited_needs_no_password_and_counts_as_able(
    client: httpx.AsyncClient, database: Database
) -> None:
    with database.transaction() as session:
        user = identity.create_user(session, "ann@example.org")
        agent_id = identity.ensure_first_agent(session).agent_id
        session.add(AgentMembership(agent_id=agent_id, user_id=user.user_id, role="admin"))
        link = sign_in.invite_link(session, user, datetime.now(UTC))
    assert (await go(client)).status_code == 303
    assert await is_in(client)
    with database.transaction() as session:
        assert sign_in.peek_link(session, link, datetime.now(UTC)) is None
        assert not identity.has_owner(session)
        members.set_role(session, agent_id, user.user_id, "owner", by_user_id=None)
        assert identity.has_owner(session)
        assert sign_in.setup_link(session, datetime.now(UTC)) is None


async def test_a_provider_with_another_name_or_none_at_all_is_away_and_passwords_work(
    client: httpx.AsyncClient, provider: TestProvider, make_user: MakeUser
) -> None:
    make_user(role="owner")
    provider.told_issuer = "https://elsewhere.example"
    assert (await client.get("/sign-in/oidc")).status_code == 503
    answer = await client.post("/sign-in", data={"email": "ann@example.org", "password": "three quiet satellites"})
    assert answer.status_code == 303
    assert await is_in(client)


async def test_keys_that_changed_are_fetched_again(
    client: httpx.AsyncClient, provider: TestProvider, make_user: MakeUser, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_user(role="owner")
    await client.get("/sign-in/oidc")
    monkeypatch.setattr("web.oidc_provider._KEYS_AGAIN_S", 0.0)
    provider.key = type(provider.key).generate_key(2048, {"kid": "first"})
    assert (await go(client)).status_code == 303


async def test_the_button_and_the_cookie(client: httpx.AsyncClient, new_client: NewClient) -> None:
    assert "Sign in with &lt;Home&gt;" in (await client.get("/sign-in")).text
    begun = await client.get("/sign-in/oidc")
    cookie = begun.headers["set-cookie"]
    assert all(part in cookie for part in ("HttpOnly", "SameSite=lax", "Max-Age=600"))
    secure = await new_client(base_url="https://hub.test").get("/sign-in/oidc")
    assert "__Host-marvain_oidc" in secure.headers["set-cookie"]
    assert "redirect_uri=https%3A%2F%2Fhub.test%2Fsign-in%2Foidc%2Fcallback" in secure.headers["location"]


async def test_an_answer_without_end_is_not_read(client: httpx.AsyncClient, provider: TestProvider) -> None:
    provider.padding = "x" * 300_000
    assert (await client.get("/sign-in/oidc")).status_code == 503
    provider.padding = "x" * 30_000
    assert (await client.get("/sign-in/oidc")).status_code == 303


async def test_an_identity_is_unlinked_by_who_has_a_password(
    client: httpx.AsyncClient, provider: TestProvider, make_user: MakeUser, database: Database
) -> None:
    ann = make_user(role="owner")
    await go(client)
    page = (await client.get("/account")).text
    assert provider.issuer in page
    assert "ann-at-provider" in page
    with database.transaction() as session:
        session.execute(text("UPDATE users SET password_hash = NULL"))
    assert "your only way in" in (await client.get("/account")).text
    form = {"issuer": provider.issuer}
    assert (await client.post("/account/identity/unlink", data=form)).status_code == 409
    assert (await client.post("/account/identity/unlink", data={"issuer": "x"})).status_code == 404
    with database.transaction() as session:
        session.execute(text("UPDATE users SET password_hash = 'x' WHERE user_id = :ann"), {"ann": ann.user_id})
    assert (await client.post("/account/identity/unlink", data=form)).status_code == 303
    assert count(database, "user_identities") == 0
    assert count(database, "audit_entries WHERE action = 'user.identity_unlinked'") == 1
    assert (await client.post("/account/identity/unlink", data=form)).status_code == 404


@pytest.mark.browser
def test_a_person_signs_in_by_the_button(served: str, make_user: MakeUser) -> None:
    make_user(role="owner")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 390, "height": 800})
        page.goto(f"{served}/sign-in")
        page.get_by_role("link", name="Sign in with <Home>").click()
        expect(page).to_have_url(re.compile("/devices"))
        page.goto(f"{served}/account")
        expect(page.get_by_role("heading", name="Other ways to sign in")).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        if folder := os.environ.get("MARVAIN_TEST_PICTURES"):
            page.screenshot(path=Path(folder) / "account-390.png", full_page=True)
        page.get_by_role("button", name="Unlink").click()
        expect(page.get_by_text("no longer brings anybody in")).to_be_visible()
        browser.close()


async def test_without_an_issuer_there_is_no_button_and_no_door(database_url: str) -> None:
    app = create_app(Settings(database_url=database_url))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://hub.test") as client:
        assert "/sign-in/oidc" not in (await client.get("/sign-in")).text
        assert (await client.get("/sign-in/oidc")).status_code == 404
        assert (await client.get("/sign-in/oidc/callback?state=a&code=b")).status_code == 404
    app.state.database.close()


@pytest.mark.parametrize("issuer", ["http://provider.example", "provider.example", "ftp://127.0.0.1"])
def test_an_issuer_without_tls_stops_the_start(database_url: str, issuer: str) -> None:
    with pytest.raises(Invalid):
        create_app(Settings(database_url=database_url, oidc_issuer=issuer, oidc_client_id=CLIENT_ID))


async def test_a_provider_that_is_gone_is_said(database_url: str) -> None:
    with running() as provider:
        issuer = provider.issuer
    app = create_app(Settings(database_url=database_url, oidc_issuer=issuer, oidc_client_id=CLIENT_ID))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://hub.test") as client:
        answer = await client.get("/sign-in/oidc")
    assert (answer.status_code, "cannot be reached" in answer.text) == (503, True)
    app.state.database.close()
