"""Getting in and out: links once, guessing slowed, cookies tight, every text escaped, other agents unseen."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from sqlmodel import select

from hub import identity, sign_in
from hub.database import Database
from hub.tables import Agent, AgentMembership, SignInBrake, Space, User, UserSession
from web.security import AGENT_COOKIE, SESSION_COOKIE

NewClient = Callable[..., httpx.AsyncClient]
MakeUser = Callable[..., User]
Enter = Callable[[User], str]
PASSWORD = "three quiet satellites"
XSS = '"><script>alert(1)</script>'
SETUP = {"email": "Ann@Example.org", "display_name": "Ann", "password": PASSWORD, "password_again": PASSWORD}


def new_setup_link(database: Database, now: datetime | None = None) -> str:
    with database.transaction() as session:
        token = sign_in.setup_link(session, now or datetime.now(UTC))
    assert token is not None
    return token


@pytest.mark.parametrize("path", ["/devices", "/events", "/account", "/devices?agent=nonsense"])
async def test_without_a_session_one_is_sent_to_sign_in(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(path)
    assert answer.status_code == 303
    assert answer.headers["location"].startswith("/sign-in?next=/")


async def test_scripts_get_a_401_and_htmx_goes_to_sign_in(new_client: NewClient) -> None:
    plain = await new_client(headers={}).get("/devices")
    assert plain.status_code == 401
    assert plain.json()["title"] == "Unauthorized"
    part = await new_client(headers={"HX-Request": "true", "HX-Current-URL": "http://hub.test/events?a=1"}).get(
        "/devices"
    )
    assert part.status_code == 401
    assert part.headers["hx-redirect"] == "/sign-in?next=/events%3Fa%3D1"


async def test_set_up_once_and_one_is_in(client: httpx.AsyncClient, new_client: NewClient, database: Database) -> None:
    path = f"/setup/{new_setup_link(database)}"
    for _ in range(2):
        assert "Make this hub yours" in (await client.get(path)).text
    answer = await client.post(path, data=SETUP)
    assert (answer.status_code, answer.headers["location"]) == (303, "/devices")
    page = await client.get("/account")
    assert page.status_code == 200
    assert "ann@example.org" in page.text
    for second in (await client.get(path), await new_client().post(path, data={**SETUP, "email": "eve@example.org"})):
        assert second.status_code == 404
    with database.transaction() as session:
        assert [user.email for user in session.exec(select(User))] == ["ann@example.org"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"email": "nonsense"}, "not an e-mail address"),
        ({"password": "short", "password_again": "short"}, "at least 10"),
        ({"password_again": "something else"}, "not the same"),
        ({"display_name": "a\0b"}, "Control characters"),
        ({"email": XSS}, "not an e-mail address"),
        ({"password": "1234567890", "password_again": "1234567890"}, "first passwords"),
    ],
)
async def test_what_is_wrong_is_said_at_its_field_and_the_link_stays(
    client: httpx.AsyncClient, database: Database, change: dict[str, str], message: str
) -> None:
    path = f"/setup/{new_setup_link(database)}"
    answer = await client.post(path, data={**SETUP, **change})
    assert answer.status_code == 422
    assert message in answer.text
    assert 'aria-invalid="true"' in answer.text
    assert PASSWORD not in answer.text
    assert "<script>alert" not in answer.text
    assert (await client.post(path, data=SETUP)).status_code == 303


async def test_old_links_and_nonsense_are_not_found(client: httpx.AsyncClient, database: Database) -> None:
    old = new_setup_link(database, datetime.now(UTC) - timedelta(hours=25))
    for token in (old, "nonsense", "x" * 5000, "%00", "..%2f"):
        assert (await client.get(f"/setup/{token}")).status_code == 404
        assert (await client.post(f"/setup/{token}", data=SETUP)).status_code == 404


async def test_while_there_is_no_owner_sign_in_says_where_the_link_is(
    client: httpx.AsyncClient, database: Database, make_user: MakeUser
) -> None:
    token = new_setup_link(database)
    page = await client.get("/sign-in")
    assert "has no owner yet" in page.text
    assert token not in page.text
    make_user(role="owner")
    assert "has no owner yet" not in (await client.get("/sign-in")).text


async def test_wrong_passwords_look_alike_and_are_slowed(
    client: httpx.AsyncClient, make_user: MakeUser, database: Database
) -> None:
    make_user(role="owner")

    async def attempt(email: str, password: str) -> httpx.Response:
        return await client.post("/sign-in", data={"email": email, "password": password})

    known = await attempt("ann@example.org", "wrong password")
    unknown = await attempt("bob@example.org", "wrong password")
    assert known.status_code == unknown.status_code == 401
    assert known.text.replace("ann@", "bob@") == unknown.text
    for _ in range(3):
        await attempt("ann@example.org", "wrong password")
    last = await attempt("ann@example.org", "wrong password")
    held = await attempt("ann@example.org", PASSWORD)
    assert (last.status_code, held.status_code) == (429, 429)
    assert held.headers["retry-after"] == "1"
    with database.transaction() as session:
        assert session.get_one(SignInBrake, "account:ann@example.org").failures == 5


async def test_what_was_typed_comes_back_escaped(client: httpx.AsyncClient) -> None:
    answer = await client.post("/sign-in", data={"email": XSS, "password": "x", "next": XSS})
    assert "<script>alert" not in answer.text
    assert "&lt;script&gt;alert" in answer.text


async def test_signing_in_leads_where_one_wanted_to_go_and_nowhere_else(
    new_client: NewClient, make_user: MakeUser
) -> None:
    make_user(role="owner")
    for asked, led in (("/events", "/events"), ("//evil.test", "/devices"), ("https://evil.test/", "/devices")):
        answer = await new_client().post(
            "/sign-in", data={"email": "ann@example.org", "password": PASSWORD, "next": asked}
        )
        assert (answer.status_code, answer.headers["location"]) == (303, led)


async def test_cookies_are_tight(new_client: NewClient, make_user: MakeUser) -> None:
    make_user(role="owner")
    form = {"email": "ann@example.org", "password": PASSWORD}
    plain = (await new_client().post("/sign-in", data=form)).headers["set-cookie"]
    assert plain.startswith(f"{SESSION_COOKIE}=")
    assert {"HttpOnly", "Path=/", "SameSite=lax"} <= set(plain.split("; "))
    secure = (await new_client(base_url="https://hub.test").post("/sign-in", data=form)).headers["set-cookie"]
    assert secure.startswith(f"__Host-{SESSION_COOKIE}=")
    assert {"HttpOnly", "Path=/", "SameSite=lax", "Secure"} <= set(secure.split("; "))
    assert "Domain" not in secure


async def test_over_tls_a_plain_cookie_counts_for_nothing(new_client: NewClient, owner_token: str) -> None:
    client = new_client(token=owner_token, base_url="https://hub.test")
    assert (await client.get("/account")).status_code == 303


async def test_signing_out_takes_a_post_and_ends_the_session(
    owner: httpx.AsyncClient, new_client: NewClient, owner_token: str
) -> None:
    assert (await owner.get("/sign-out")).status_code == 405
    answer = await owner.post("/sign-out")
    assert answer.headers["location"] == "/sign-in"
    thief = new_client(token=owner_token)
    assert (await thief.get("/account")).status_code == 303


async def test_signing_in_anew_ends_the_session_before(owner: httpx.AsyncClient, database: Database) -> None:
    await owner.post("/sign-in", data={"email": "ann@example.org", "password": PASSWORD})
    with database.transaction() as session:
        assert len(session.exec(select(UserSession)).all()) == 1


async def test_the_cookie_lives_on_with_the_session(
    owner: httpx.AsyncClient, owner_token: str, database: Database
) -> None:
    assert "set-cookie" not in (await owner.get("/account")).headers
    with database.transaction() as session:
        row = session.exec(select(UserSession)).one()
        row.last_seen_at = datetime.now(UTC) - timedelta(minutes=5)
    renewed = (await owner.get("/account")).headers["set-cookie"]
    assert renewed.startswith(f"{SESSION_COOKIE}={owner_token};")
    assert "Max-Age=2592000" in renewed


async def test_an_invited_user_chooses_a_password(client: httpx.AsyncClient, database: Database) -> None:
    with database.transaction() as session:
        user = identity.create_user(session, "bob@example.org")
        session.add(
            AgentMembership(agent_id=identity.ensure_first_agent(session).agent_id, user_id=user.user_id, role="guest")
        )
        token = sign_in.invite_link(session, user, datetime.now(UTC))
    assert (await client.get(f"/setup/{token}")).status_code == 404
    assert "bob@example.org" in (await client.get(f"/invite/{token}")).text
    answer = await client.post(f"/invite/{token}", data={"password": PASSWORD, "password_again": PASSWORD})
    assert answer.headers["location"] == "/devices"
    assert (await client.get("/devices")).status_code == 200
    assert (await client.get(f"/invite/{token}")).status_code == 404


async def test_the_account_page_tells_what_happened_with_it_and_not_with_others(
    owner: httpx.AsyncClient, make_user: MakeUser, enter: Enter
) -> None:
    enter(make_user("bob@example.org", "member"))
    page = (await owner.get("/account")).text
    assert "User signed in:" in page
    assert "User created:" in page
    assert "bob@example.org" not in page


async def test_the_account_page_changes_name_and_password(owner: httpx.AsyncClient, database: Database) -> None:
    assert (await owner.post("/account/name", data={"display_name": XSS})).status_code == 303
    page = (await owner.get("/account")).text
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert" in page
    assert (await owner.post("/account/name", data={"display_name": "x" * 101})).status_code == 422

    new = "another four quiet words"
    form = {"current_password": "wrong", "new_password": new, "new_password_again": new}
    assert "not your current password" in (await owner.post("/account/password", data=form)).text
    assert (await owner.post("/account/password", data={**form, "current_password": PASSWORD})).status_code == 303
    with database.transaction() as session:
        now = datetime.now(UTC)
        assert isinstance(sign_in.sign_in(session, "ann@example.org", new, "", "", now), sign_in.SignedIn)


async def test_one_ends_ones_own_sessions_and_no_others(
    owner: httpx.AsyncClient, make_user: MakeUser, enter: Enter, new_client: NewClient, database: Database
) -> None:
    bob_token = enter(make_user("bob@example.org", "member"))
    with database.transaction() as session:
        bobs = session.exec(select(UserSession.session_id).join(User).where(User.email == "bob@example.org")).one()
    assert (await owner.post(f"/account/sessions/{bobs}/end")).status_code == 404
    bob = new_client(token=bob_token)
    assert (await bob.get("/account")).status_code == 200
    assert (await bob.post(f"/account/sessions/{bobs}/end")).headers["location"] == "/sign-in"
    assert (await bob.get("/account")).status_code == 303


@pytest.fixture
def garden(database: Database) -> Agent:
    """A second agent."""
    with database.transaction() as session:
        identity.ensure_first_agent(session)
        agent = Agent(name="Garden", created_at=datetime.now(UTC) + timedelta(seconds=1))
        session.add(agent)
        session.flush()
        session.add(Space(agent_id=agent.agent_id, name="Shed"))
    return agent


class TestAgents:
    async def test_anothers_agent_is_not_found(self, owner: httpx.AsyncClient, garden: Agent) -> None:
        for agent in (str(garden.agent_id), "nonsense", "%00", str(garden.agent_id).upper()):
            answer = await owner.get(f"/devices?agent={agent}")
            assert answer.status_code == 404
            assert "Garden" not in answer.text

    async def test_blocked_is_like_no_member(
        self, owner: httpx.AsyncClient, garden: Agent, make_user: MakeUser
    ) -> None:
        make_user(role="blocked", agent_id=garden.agent_id)
        page = await owner.get("/devices")
        assert "Garden" not in page.text
        assert (await owner.get(f"/devices?agent={garden.agent_id}")).status_code == 404

    async def test_with_several_one_chooses_and_it_is_remembered(
        self, owner: httpx.AsyncClient, garden: Agent, make_user: MakeUser
    ) -> None:
        assert "agent-menu" not in (await owner.get("/devices")).text
        make_user(role="guest", agent_id=garden.agent_id)
        page = await owner.get("/devices")
        assert "agent-menu" in page.text
        assert re.search(r"<strong>Home</strong>", page.text)
        chosen = await owner.get(f"/devices?agent={garden.agent_id}")
        assert re.search(r"<strong>Garden</strong>", chosen.text)
        assert owner.cookies[AGENT_COOKIE] == str(garden.agent_id)
        assert re.search(r"<strong>Garden</strong>", (await owner.get("/events")).text)

    async def test_a_remembered_agent_that_is_lost_is_forgotten(self, owner: httpx.AsyncClient, garden: Agent) -> None:
        owner.cookies[AGENT_COOKIE] = str(garden.agent_id)
        assert re.search(r"<strong>Home</strong>", (await owner.get("/devices")).text)

    async def test_who_belongs_nowhere_is_told_so(
        self, new_client: NewClient, make_user: MakeUser, enter: Enter
    ) -> None:
        client = new_client(token=enter(make_user("bob@example.org")))
        answer = await client.get("/devices")
        assert answer.status_code == 404
        assert "not a member of any agent" in answer.text
        assert (await client.get("/account")).status_code == 200

    async def test_a_guest_adds_nothing(self, new_client: NewClient, make_user: MakeUser, enter: Enter) -> None:
        client = new_client(token=enter(make_user("bob@example.org", "guest")))
        assert (await client.get("/devices")).status_code == 200
        assert (await client.get("/devices/new")).status_code == 403
