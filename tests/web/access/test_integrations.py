"""Integrations: one sight of the token, settings that work, roles, rotation, an end for good, and nothing is markup."""

import re
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
from sqlalchemy import text

from hub import integrations
from hub.access import credentials, roles
from hub.database import Database

Foreign = Any  # tests/web/access/conftest.py
MakeRole = Callable[..., uuid.UUID]
Save = Callable[..., Awaitable[httpx.Response]]
XSS = '"><script>alert(1)</script>'


async def add(owner: httpx.AsyncClient, name: str = "Home Assistant", **fields: object) -> tuple[str, str]:
    """Adds an integration on its page: its id and token."""
    page = await owner.post("/integrations", data={"name": name} | fields)
    assert page.status_code == 200, page.text
    token = re.search(r'id="token">([^<]+)<', page.text)
    where = re.search(r'href="/integrations/([0-9a-f-]{36})"', page.text)
    assert token is not None
    assert where is not None
    return where[1], token[1]


async def test_a_form_with_a_fault_says_which_and_makes_nothing(owner: httpx.AsyncClient, database: Database) -> None:
    for fields, complaint in (
        ({"name": ""}, "is required"),
        ({"name": "x" * 81}, "at most 80"),
        ({"name": "日本"}, "at least one letter"),
        ({"name": "A", "handle": "Not a handle"}, "1 to 63 of a-z"),
        ({"name": "A", "roles": "x"}, "are roles of this agent"),
    ):
        page = await owner.post("/integrations", data=fields | {"presets": "watch"})
        assert page.status_code == 422
        assert complaint in page.text
    with database.transaction() as session:
        assert session.execute(text("SELECT count(*) FROM integrations")).scalar_one() == 0
        assert session.execute(text("SELECT count(*) FROM roles")).scalar_one() == 0


async def test_another_agents_role_is_not_borne(
    owner: httpx.AsyncClient, foreign: Foreign, database: Database, home: uuid.UUID
) -> None:
    stolen = await owner.post("/integrations", data={"name": "Thief", "roles": str(foreign.role_id)})
    assert stolen.status_code == 404
    mine, _ = await add(owner)
    for path in (f"/integrations/{mine}/roles", f"/integrations/{mine}/roles/preview"):
        taken = await owner.post(path, data={"roles": str(foreign.role_id), "was": "", "do": "save"})
        assert taken.status_code == 404
    with database.transaction() as session:
        assert [one.roles for one in integrations.list_integrations(session, home)] == [[]]


async def test_adding_shows_the_token_once_with_settings_that_use_it(
    owner: httpx.AsyncClient, database: Database, home: uuid.UUID
) -> None:
    assert "No integrations yet" in (await owner.get("/integrations")).text
    page = await owner.post("/integrations", data={"name": "Home Assistant", "presets": ["watch", "space"]})
    assert page.headers["cache-control"] == "no-store"
    values = dict(re.findall(r'<code id="([\w-]+)">([^<]+)</code>', page.text))
    assert values["client-id"] == values["username"] == "ext_home-assistant"
    assert values["port"] == "1883"
    with database.transaction() as session:
        stored = session.execute(
            text("SELECT hash FROM credentials WHERE username = 'ext_home-assistant'")
        ).scalar_one()
        made = {role.name: [one.name for one in role.integrations] for role in roles.list_roles(session, home)}
    assert credentials.verify_secret(values["token"], stored)
    assert made == {"Own space": ["Home Assistant"], "Watches everything": ["Home Assistant"]}
    another, _ = await add(owner, "Second", presets="watch")  # the same role again, not a second one
    for path in ("/integrations", f"/integrations/{another}", "/access", "/access/history"):
        assert values["token"] not in (await owner.get(path)).text
    with database.transaction() as session:
        assert len(roles.list_roles(session, home)) == 2


async def test_roles_are_previewed_given_undone_and_not_overwritten(
    owner: httpx.AsyncClient, make_role: MakeRole, save: Save, database: Database, home: uuid.UUID
) -> None:
    helpers, same = (make_role(name, ("publish", "x/{agent}/help")) for name in ("Helpers", "The same"))
    mine, _ = await add(owner)
    path = f"/integrations/{mine}/roles"
    given = await save(owner, path, {"roles": str(helpers), "was": ""})
    assert given.status_code == 200
    swapped = await owner.post(f"{path}/preview", data={"roles": str(same)})
    assert "Nobody may do more or less than now." in swapped.text  # the other role gives what this one gave
    lost = await owner.post(f"{path}/preview", data={})
    assert "1</span></span> <span>permission lost" in lost.text
    stale = await owner.post(path, data={"was": "", "do": "save"})
    assert stale.status_code == 409
    with database.transaction() as session:
        assert [name for _, name in integrations.list_integrations(session, home)[0].roles] == ["Helpers"]
    page = given.text.partition('class="undo"')[2]
    undo = re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', page.partition("</form>")[0])
    assert "Saved." in (await owner.post(path, data=dict(undo))).text
    with database.transaction() as session:
        assert integrations.list_integrations(session, home)[0].roles == []


async def test_rotating_and_revoking(owner: httpx.AsyncClient, database: Database, home: uuid.UUID) -> None:
    mine, first = await add(owner)
    assert "Rotate the token" in (await owner.get(f"/integrations/{mine}/rotate")).text
    again = await owner.post(f"/integrations/{mine}/rotate")
    found = re.search(r'id="token">([^<]+)<', again.text)
    assert found is not None
    assert found[1] != first
    assert "no way back" in (await owner.get(f"/integrations/{mine}/revoke")).text
    wordy = await owner.post(f"/integrations/{mine}/revoke", data={"reason": "x" * 201})
    assert wordy.status_code == 422
    assert (await owner.post(f"/integrations/{mine}/revoke", data={"reason": "sold"})).status_code == 303
    for action in ("rotate", "revoke"):
        assert (await owner.post(f"/integrations/{mine}/{action}")).status_code == 409
    page = (await owner.get(f"/integrations/{mine}")).text
    assert "Reason: sold" in page
    assert 'method="post"' not in page.split("<main", 1)[1].split("</main>", 1)[0]
    with database.transaction() as session:
        assert integrations.list_integrations(session, home)[0].revoked_reason == "sold"


async def test_names_are_never_markup(owner: httpx.AsyncClient, member: httpx.AsyncClient, make_role: MakeRole) -> None:
    make_role(XSS)
    mine, _ = await add(owner, XSS, handle="hostile")
    assert (await owner.post(f"/integrations/{mine}/name", data={"name": XSS + "2"})).status_code == 303
    await owner.post(f"/integrations/{mine}/revoke", data={"reason": XSS})
    for person in (owner, member):
        for path in ("/integrations", f"/integrations/{mine}", "/access/roles", "/access/history"):
            page = await person.get(path)
            assert "<script>alert" not in page.text
            assert "alert(1)" in page.text
