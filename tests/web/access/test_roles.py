"""Roles on their pages: faults at their fields, nothing saved unseen, two at once, undo, and nothing is markup."""

import re
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
from sqlalchemy import text

from hub import audit
from hub.access import roles
from hub.database import Database

Save = Callable[..., Awaitable[httpx.Response]]
MakeRole = Callable[..., uuid.UUID]
XSS = '"><script>alert(1)</script>'
HELPERS = {"name": "Helpers", "grant_action": "publish", "grant_filter": "x/{agent}/help"}


async def test_faults_stand_at_their_fields_with_the_rows_as_they_are_shown(owner: httpx.AsyncClient) -> None:
    typed = {
        "name": " ",
        "grant_action": ["publish", "publish", "subscribe", "publish"],
        "grant_filter": ["x/{agent}/#", "", "ui/#", "hub/status"],
    }
    problems = (await owner.post("/access/roles/check", data=typed)).json()["problems"]
    assert [problem["field"] for problem in problems] == ["name", "grants.2.filter", "grants.3.filter"]
    page = await owner.post("/access/roles", data=typed | {"do": "save"})
    assert page.status_code == 422
    assert "would reach other agents" in page.text
    assert "data-blocked" in page.text
    for value in ("ui/#", "hub/status", "x/{agent}/#"):
        assert f'value="{value}"' in page.text
    assert "No roles yet" in (await owner.get("/access/roles")).text


async def test_ids_that_are_none_are_refused(owner: httpx.AsyncClient) -> None:
    for path in ("/access/roles", "/access/roles/check", "/access/roles/preview"):
        for field in ("devices", "integrations"):
            assert (await owner.post(path, data=HELPERS | {field: "1;DROP TABLE roles"})).status_code == 422


async def test_what_was_not_previewed_is_not_saved(owner: httpx.AsyncClient, save: Save) -> None:
    for forged in ("", "0" * 32):
        unseen = await owner.post("/access/roles", data=HELPERS | {"do": "save", "previewed": forged})
        assert unseen.status_code == 200
        assert "What this changes" in unseen.text
    assert "No roles yet" in (await owner.get("/access/roles")).text
    saved = await save(owner, "/access/roles", HELPERS)
    assert saved.status_code == 303
    page = await owner.get(saved.headers["location"])
    assert "Saved." in page.text
    assert "Undo" in page.text


async def test_buttons_add_and_remove_rows_without_scripts(owner: httpx.AsyncClient) -> None:
    typed = {"name": "N", "grant_action": ["publish", "subscribe"], "grant_filter": ["x/{agent}/a", "x/{agent}/b"]}
    more = await owner.post("/access/roles", data=typed | {"do": "add"})
    assert more.text.count("data-grant>") == 3 + 1  # the template for scripts is one more
    less = await owner.post("/access/roles", data=typed | {"do": "remove-0"})
    assert 'value="x/{agent}/a"' not in less.text
    assert 'value="x/{agent}/b"' in less.text


async def test_the_preview_says_who_gains_and_who_loses(
    owner: httpx.AsyncClient, porch: uuid.UUID, make_role: MakeRole, database: Database
) -> None:
    role = make_role("Helpers", ("publish", "x/{agent}/help"), devices=(porch,))
    with database.transaction() as session:
        session.execute(
            text(
                "INSERT INTO broker_sessions (username, connected, subscriptions, reported_at)"
                " VALUES ('porch', true, '[]', now())"
            )
        )
        session.execute(
            text(
                "INSERT INTO traffic (hour, principal, topic, count, last_at) SELECT date_trunc('hour', now()),"
                " 'porch', 'marvain/v1/x/' || agent_id || '/help', 7, now() FROM devices"
            )
        )
    typed = {"name": "Helpers", "grant_action": "subscribe", "grant_filter": "hub/status", "devices": str(porch)}
    shown = await owner.post("/access/roles/preview", data=typed | {"role_id": str(role), "revision": 1})
    assert shown.status_code == 200
    words = " ".join(re.sub(r"<[^>]+>", " ", shown.text).split())
    assert "1 new permission" in words
    assert "1 permission lost" in words
    assert "1 open session concerned" in words
    assert "porch : 7 messages to marvain/v1/x/" in words
    asked = await owner.get(f"/access/roles/{role}/delete")
    assert "1</span></span> <span>permission lost" in asked.text


async def test_two_people_at_once_lose_nothing_that_was_typed(
    owner: httpx.AsyncClient, make_role: MakeRole, save: Save, database: Database, home: uuid.UUID
) -> None:
    role = make_role("Helpers", ("publish", "x/{agent}/help"))
    path = f"/access/roles/{role}"
    mine = HELPERS | {"about": "my words", "revision": 1}
    theirs = HELPERS | {"about": "their words", "revision": 1}
    assert (await save(owner, path, theirs)).status_code == 303
    refused = await save(owner, path, mine)
    assert refused.status_code == 409
    assert "Somebody else changed this role meanwhile" in refused.text
    assert 'value="my words"' in refused.text
    assert 'name="revision" value="2"' in refused.text
    with database.transaction() as session:
        assert roles.find(session, home, role).about == "their words"
    assert (await save(owner, path, mine | {"revision": 2})).status_code == 303
    with database.transaction() as session:
        assert roles.find(session, home, role).about == "my words"


async def test_undo_brings_back_what_was_and_says_when_it_cannot(
    owner: httpx.AsyncClient, make_role: MakeRole, save: Save, database: Database, home: uuid.UUID
) -> None:
    role = make_role("Helpers", ("publish", "x/{agent}/help"))
    changed = await save(owner, f"/access/roles/{role}", HELPERS | {"about": "new", "revision": 1})
    entry = changed.headers["location"].partition("saved=")[2]
    undone = await owner.post("/access/roles/undo", data={"entry": entry})
    assert undone.status_code == 303
    with database.transaction() as session:
        assert roles.find(session, home, role).about == ""
    again = await owner.post("/access/roles/undo", data={"entry": entry})
    assert again.status_code == 409
    assert "changed since" in again.text

    deleted = await owner.post(f"/access/roles/{role}/delete")
    entry = deleted.headers["location"].partition("deleted=")[2]
    assert (await owner.get(f"/access/roles/{role}")).status_code == 404
    assert "The role is deleted." in (await owner.get(deleted.headers["location"])).text
    assert (await owner.post("/access/roles/undo", data={"entry": entry})).status_code == 303
    assert (await owner.get(f"/access/roles/{role}")).status_code == 200


async def test_an_address_offers_no_undo_but_of_what_was_just_saved(
    owner: httpx.AsyncClient, make_role: MakeRole, save: Save, porch: uuid.UUID, database: Database, home: uuid.UUID
) -> None:
    role, other = make_role("Helpers"), make_role("Others")
    with database.transaction() as session:
        entries = {entry.subject_id: entry.entry_id for entry in audit.entries(session, home)}
    assert "Undo" in (await owner.get(f"/access/roles/{role}?saved={entries[role]}")).text
    for path in (
        f"/access/roles/{role}?saved={entries[other]}",
        f"/access/roles/{role}?saved={entries[porch]}",
        f"/access/roles/{role}?saved={2**62}",
        f"/access/roles?deleted={entries[role]}",
        f"/access/devices/{porch}?saved={entries[porch]}",
        f"/access/devices/{porch}?was=*",
        f"/integrations?was={role}",
    ):
        assert "Undo" not in (await owner.get(path)).text, path
    assert (await save(owner, f"/access/roles/{role}", HELPERS | {"revision": 1})).status_code == 303
    assert "Undo" not in (await owner.get(f"/access/roles/{role}?saved={entries[role]}")).text


async def test_scopes_are_previewed_saved_and_undone(
    owner: httpx.AsyncClient, porch: uuid.UUID, save: Save, database: Database
) -> None:
    def scopes() -> Any:
        with database.transaction() as session:
            return session.execute(text("SELECT scopes FROM devices")).scalar_one()

    path = f"/access/devices/{porch}"
    unknown = await owner.post(path, data={"scopes": "everything", "was": "events:write", "do": "save"})
    assert unknown.status_code == 422
    assert "there is no scope" in unknown.text
    stale = await owner.post(path, data={"scopes": "presence:write", "was": "presence:write", "do": "save"})
    assert stale.status_code == 409
    assert "Somebody else changed these scopes" in stale.text
    assert scopes() == ["events:write"]
    saved = await save(owner, path, {"scopes": "presence:write", "was": "events:write"})
    assert saved.status_code == 303
    assert scopes() == ["presence:write"]
    page = (await owner.get(saved.headers["location"])).text
    undo = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', page.partition('class="undo"')[2]))
    assert (
        await owner.post(path, data={name: undo[name] for name in ("scopes", "was", "previewed", "do")})
    ).is_redirect
    assert scopes() == ["events:write"]


async def test_names_and_filters_are_never_markup(
    owner: httpx.AsyncClient, member: httpx.AsyncClient, save: Save, porch: uuid.UUID
) -> None:
    hostile = {
        "name": XSS,
        "about": XSS,
        "grant_action": "publish",
        "grant_filter": f"x/{{agent}}/{XSS}",
        "devices": str(porch),
    }
    saved = await save(owner, "/access/roles", hostile)
    assert saved.status_code == 303
    role = saved.headers["location"].partition("?")[0]
    checked = await owner.post("/access/roles/check", data=HELPERS | {"grant_filter": XSS})
    assert checked.headers["content-type"] == "application/json"
    refused = await owner.post("/access/roles", data=HELPERS | {"grant_filter": XSS, "name": XSS + "2"})
    assert refused.status_code == 422
    pages = [refused]
    for person in (owner, member):
        for path in ("/access", "/access/roles", role, "/access/history", f"/access/try?username=porch&topic={XSS}"):
            pages += [await person.get(path)]
    pages += [await owner.get(f"{role}/delete"), await owner.get(f"/access/topics?topic={XSS}")]
    for page in pages:
        assert "<script>alert" not in page.text, page.url
        assert "alert(1)" in page.text, page.url
