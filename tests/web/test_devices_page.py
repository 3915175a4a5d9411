"""The devices pages: whose they are, who may change them, one sight of a token, and nothing a device says is markup."""

import re
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from sqlalchemy import text

from hub import commands, device_views, devices, identity, quarantines
from hub.access import credentials
from hub.database import Database
from hub.quarantines import Spell
from hub.tables import Agent, User

NewClient = Callable[..., httpx.AsyncClient]
MakeUser = Callable[..., User]
Enter = Callable[[User], str]
XSS = '"><script>alert(1)</script>'
JSON = {"Accept": "application/json"}
UNSAFE = ("ping", "rotate", "revoke", "let-go")


@pytest.fixture
def home(database: Database, owner_token: str) -> uuid.UUID:
    with database.transaction() as session:
        return identity.find_agent(session).agent_id


@pytest.fixture
def porch(database: Database, home: uuid.UUID) -> uuid.UUID:
    with database.transaction() as session:
        new = devices.add(session, home, "Porch", scopes=list(devices.DEFAULT_SCOPES), by="a test")
        return new.device.device_id


@pytest.fixture
def foreign(database: Database, home: uuid.UUID) -> uuid.UUID:
    """A device of an agent that the owner of `home` has nothing to do with."""
    with database.transaction() as session:
        agent = Agent(name="Elsewhere")
        session.add(agent)
        session.flush()
        return devices.add(session, agent.agent_id, "Secret cellar", scopes=[], by="a test").device.device_id


@pytest.fixture
def member(new_client: NewClient, make_user: MakeUser, enter: Enter) -> httpx.AsyncClient:
    return new_client(token=enter(make_user("max@example.org", "member")))


async def test_another_agents_device_is_not_there(owner: httpx.AsyncClient, foreign: uuid.UUID) -> None:
    for path in (f"/devices/{foreign}", f"/devices/{foreign}/row", f"/devices/{uuid.uuid4()}"):
        assert (await owner.get(path)).status_code == 404
    for action in UNSAFE:
        assert (await owner.post(f"/devices/{foreign}/{action}", headers=JSON)).status_code == 404
    assert "Secret cellar" not in (await owner.get("/devices")).text
    rows = await owner.get(f"/devices/rows?ids={foreign}")
    assert rows.status_code == 200
    assert "Secret cellar" not in rows.text


async def test_members_look_and_admins_change(
    member: httpx.AsyncClient, porch: uuid.UUID, database: Database, home: uuid.UUID
) -> None:
    page = await member.get("/devices")
    assert "Porch" in page.text
    assert "data-action" not in page.text
    assert "Add satellite" not in page.text
    assert (await member.get("/devices/new")).status_code == 403
    assert (await member.get("/devices/handle?name=x")).status_code == 403
    assert (await member.post("/devices", data={"name": "Mine"})).status_code == 403
    for action in UNSAFE:
        assert (await member.post(f"/devices/{porch}/{action}", headers=JSON)).status_code == 403
    with database.transaction() as session:
        assert [view.revoked_at for view in device_views.overview(session, home)] == [None]


async def test_another_site_cannot_change(new_client: NewClient, owner_token: str, porch: uuid.UUID) -> None:
    evil = new_client(token=owner_token, headers={"Origin": "http://evil.test", "Accept": "text/html"})
    for action in UNSAFE:
        assert (await evil.post(f"/devices/{porch}/{action}")).status_code == 403
    assert (await evil.post("/devices", data={"name": "Theirs"})).status_code == 403


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"name": ""}, "is required"),
        ({"name": "x" * 81}, "at most 80"),
        ({"name": "日本"}, "at least one letter"),
        ({"name": "A", "handle": "Not a handle"}, "1 to 63 of a-z"),
        ({"name": "A", "handle": "porch"}, "is taken"),
        ({"name": "A", "scopes": ["everything"]}, "there is no scope"),
        ({"name": "A", "space": str(uuid.uuid4())}, "there is no space"),
    ],
)
async def test_a_form_with_a_fault_says_which_and_keeps_the_rest(
    owner: httpx.AsyncClient, porch: uuid.UUID, fields: dict[str, object], complaint: str
) -> None:
    answer = await owner.post("/devices", data=fields)
    assert answer.status_code == 422
    assert complaint in answer.text
    assert "mv1." not in answer.text


async def test_adding_shows_the_token_once_with_commands_that_use_it(
    owner: httpx.AsyncClient, database: Database, home: uuid.UUID
) -> None:
    form = await owner.get("/devices/new")
    assert re.search(r'value="events:write" checked', form.text)
    assert not re.search(r'value="memories:read" checked', form.text)
    assert (await owner.get("/devices/handle?name=Front Door")).json() == {"handle": "front-door", "problem": ""}
    answer = await owner.post("/devices", data={"name": "Front Door", "scopes": ["events:write", "presence:write"]})
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    found = re.search(r'id="token">(mv1\.front-door\.[A-Za-z0-9_-]{43})<', answer.text)
    assert found is not None
    token = found[1]
    assert f"marvain-satellite run --hub mqtt://127.0.0.1:1883 --token {token}" in answer.text
    for topic in ("state", "hello", "heartbeat", "event/door_open", "reply/COMMAND_ID", "cmd/+/+"):
        assert f"marvain/v1/d/front-door/{topic}" in answer.text
    with database.transaction() as session:
        view = device_views.overview(session, home)[0]
        assert view.scopes == ["events:write", "presence:write"]
        stored = session.execute(text("SELECT hash FROM credentials WHERE username = 'front-door'")).scalar_one()
    assert credentials.verify_secret(token, stored)
    for path in ("/devices", f"/devices/{view.device_id}", f"/devices/{view.device_id}/row"):
        assert token not in (await owner.get(path)).text
    taken = (await owner.get("/devices/handle?wanted=front-door")).json()
    assert taken == {"handle": "front-door", "problem": "is taken; front-door-2 is free"}


async def test_names_and_words_of_a_device_are_never_markup(
    owner: httpx.AsyncClient, database: Database, home: uuid.UUID
) -> None:
    with database.transaction() as session:
        new = devices.add(session, home, XSS, scopes=["*"], by=XSS, handle="hostile")
        session.execute(
            text(
                "UPDATE device_presence SET why = :xss, hello = jsonb_build_object('agent', CAST(:xss AS text),"
                " 'firmware', CAST(:xss AS text), 'verbs', jsonb_build_array(jsonb_build_object('name',"
                " CAST(:xss AS text), 'risk', CAST(:xss AS text))))"
            ),
            {"xss": XSS},
        )
        session.execute(
            text(
                "INSERT INTO denials (minute, principal, agent_id, device_id, action, topic, reason, last_at)"
                " SELECT now(), 'hostile', agent_id, device_id, 'publish', :xss, :xss, now() FROM devices"
            ),
            {"xss": XSS},
        )
        command = commands.request(session, new.device, "ping", by=XSS)
        session.execute(
            text("UPDATE commands SET status = 'failed', finished_at = now(), message = :xss, result = :json"),
            {"xss": XSS, "json": '{"<script>alert(1)</script>": "<script>alert(1)</script>"}'},
        )
        devices.revoke(session, new.device, by=XSS, reason=XSS)
    assert command.command_id
    for path in ("/devices", f"/devices/{new.device.device_id}", "/events"):
        page = await owner.get(path)
        assert page.status_code == 200
        assert "<script>alert" not in page.text
        assert "alert(1)" in page.text


async def test_ping_makes_a_row_and_a_revoked_device_takes_none(
    owner: httpx.AsyncClient, database: Database, porch: uuid.UUID
) -> None:
    answer = await owner.post(f"/devices/{porch}/ping", headers=JSON)
    assert answer.status_code == 200
    asked = answer.json()
    assert (asked["verb"], asked["status"], asked["device_id"]) == ("ping", "queued", str(porch))
    assert "ping …" in (await owner.get(f"/devices/{porch}/row")).text
    page = await owner.get(f"/devices/{porch}")
    assert "by ann@example.org" in page.text
    revoked = await owner.post(f"/devices/{porch}/revoke", headers=JSON, data={"reason": "sold"})
    assert revoked.json()["message"] == "Porch is revoked."
    for action in UNSAFE:
        assert (await owner.post(f"/devices/{porch}/{action}", headers=JSON)).status_code == 409
    row = (await owner.get(f"/devices/{porch}/row")).text
    assert "by ann@example.org: sold" in row
    assert "data-action" not in row


async def test_a_reason_that_is_too_long_revokes_nothing(
    owner: httpx.AsyncClient, database: Database, porch: uuid.UUID, home: uuid.UUID
) -> None:
    answer = await owner.post(f"/devices/{porch}/revoke", headers=JSON, data={"reason": "x" * 201})
    assert (answer.status_code, answer.json()["field"]) == (422, "reason")
    with database.transaction() as session:
        assert device_views.overview(session, home)[0].revoked_at is None


async def test_rotating_gives_another_token(owner: httpx.AsyncClient, porch: uuid.UUID, database: Database) -> None:
    tokens = []
    for _ in range(2):
        page = await owner.post(f"/devices/{porch}/rotate")
        found = re.search(r'id="token">(mv1\.porch\.[^<]+)<', page.text)
        assert found is not None
        tokens.append(found[1])
    assert tokens[0] != tokens[1]
    assert "has a new token" in page.text


@pytest.mark.parametrize("ids", ["x", ",".join(str(uuid.uuid4()) for _ in range(101)), "1;DROP TABLE devices"])
async def test_ids_are_a_bounded_list_of_uuids(owner: httpx.AsyncClient, ids: str) -> None:
    assert (await owner.get("/devices/rows", params={"ids": ids})).status_code == 422


async def test_rows_come_with_the_revision_that_they_show(owner: httpx.AsyncClient, porch: uuid.UUID) -> None:
    rows = (await owner.get(f"/devices/rows?ids={porch},{uuid.uuid4()}")).text
    assert rows.count("<tr") == 1
    assert f'data-device="{porch}"' in rows
    assert re.search(r'data-rev="[1-9][0-9]*"', rows)


async def test_an_empty_list_teaches(owner: httpx.AsyncClient) -> None:
    page = await owner.get("/devices")
    assert "No satellites yet" in page.text
    assert "/devices/new" in page.text


@pytest.fixture
def quarantined(database: Database, porch: uuid.UUID) -> uuid.UUID:
    """Porch, in quarantine."""
    now = datetime.now(UTC)
    with database.transaction() as session:
        spell = Spell("flood", "it sent <b>too</b> much", now + timedelta(minutes=1), 1234, f"d/porch/event/{XSS}")
        assert quarantines.note(session, {"porch": spell}, now) == ["porch"]
    return porch


async def test_quarantine_is_shown_with_its_reason_and_an_admin_ends_it(
    owner: httpx.AsyncClient, member: httpx.AsyncClient, quarantined: uuid.UUID
) -> None:
    for page in ((await owner.get("/devices")).text, (await owner.get(f"/devices/{quarantined}")).text):
        assert "quarantine" in page
        assert "it sent &lt;b&gt;too&lt;/b&gt; much" in page
        assert XSS not in page
    assert "1,234" in page
    seen = await member.get(f"/devices/{quarantined}")
    assert "In quarantine" in seen.text
    assert "Let it go now" not in seen.text
    assert (await member.post(f"/devices/{quarantined}/let-go")).status_code == 403
    assert (await owner.post(f"/devices/{quarantined}/let-go")).status_code == 303
    assert "In quarantine" not in (await owner.get(f"/devices/{quarantined}")).text
    assert (await owner.post(f"/devices/{quarantined}/let-go")).status_code == 409


async def test_quarantine_over_http(owner: httpx.AsyncClient, quarantined: uuid.UUID) -> None:
    told = (await owner.get(f"/api/devices/{quarantined}")).json()["quarantine"]
    assert (told["reason"], told["set_aside"]) == ("flood", 1234)
    ended = await owner.post(f"/api/devices/{quarantined}/let-go")
    assert (ended.status_code, ended.json()["quarantine"]) == (200, None)
    assert (await owner.post(f"/api/devices/{quarantined}/let-go")).status_code == 409
