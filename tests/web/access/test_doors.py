"""The closed doors first: guests see nothing, members change nothing, other agents' things are not there."""

import uuid
from collections.abc import Callable
from typing import Any

import httpx
from sqlalchemy import text

from hub import audit
from hub.access import roles
from hub.database import Database

NewClient = Callable[..., httpx.AsyncClient]
Foreign = Any  # tests/web/access/conftest.py
JSON = {"Accept": "application/json"}
PAGES = (
    "/access",
    "/access/topics",
    "/access/roles",
    "/access/try",
    "/access/denials",
    "/access/sessions",
    "/access/sessions/rows",
    "/access/history",
    "/integrations",
)


def changes(role: object, device: object, integration: object) -> list[str]:
    """Every address that changes something."""
    return [
        "/access/roles",
        "/access/roles/check",
        "/access/roles/preview",
        f"/access/roles/{role}",
        f"/access/roles/{role}/delete",
        f"/access/devices/{device}",
        f"/access/devices/{device}/preview",
        "/integrations",
        f"/integrations/{integration}/name",
        f"/integrations/{integration}/roles",
        f"/integrations/{integration}/roles/preview",
        f"/integrations/{integration}/rotate",
        f"/integrations/{integration}/revoke",
    ]


def with_bodies(role: object, device: object, integration: object) -> list[tuple[str, dict[str, object]]]:
    named: list[tuple[str, dict[str, object]]] = [(path, {}) for path in changes(role, device, integration)]
    named.append(("/access/roles/undo", {"entry": 1}))
    named.append(("/access/sessions/end", {"username": "porch"}))
    named.append(("/access/denials/grant", {"principal": "porch", "action": "publish", "topic": "marvain/v1/x/y"}))
    return named


async def test_nobody_looks_without_signing_in(client: httpx.AsyncClient) -> None:
    for path in PAGES:
        assert (await client.get(path, headers=JSON)).status_code == 401


async def test_guests_see_nothing_of_access(guest: httpx.AsyncClient, make_role: Callable[..., uuid.UUID]) -> None:
    role = make_role()
    for path in (*PAGES, f"/access/roles/{role}"):
        assert (await guest.get(path)).status_code == 403, path
    devices = await guest.get("/devices")
    assert "/access" not in devices.text
    assert "/integrations" not in devices.text


async def test_members_look_without_forms_and_change_nothing(
    member: httpx.AsyncClient,
    database: Database,
    home: uuid.UUID,
    porch: uuid.UUID,
    make_role: Callable[..., uuid.UUID],
) -> None:
    role = make_role("Helpers", ("publish", "x/{agent}/#"), devices=(porch,))
    looked = (*PAGES[:6], "/access/history", "/integrations", f"/access/roles/{role}", f"/access/devices/{porch}")
    for path in looked:
        page = await member.get(path)
        assert page.status_code == 200, path
        content = page.text.split("<main", 1)[1].split("</main>", 1)[0]
        assert 'method="post"' not in content, path
        assert "can change it" in content, path
    for path in ("/access/roles/new", f"/access/roles/{role}/delete", "/integrations/new"):
        assert (await member.get(path)).status_code == 403, path
    with database.transaction() as session:
        before = len(audit.entries(session, home))
    for path, body in with_bodies(role, porch, uuid.uuid4()):
        assert (await member.post(path, data=body)).status_code == 403, path
    with database.transaction() as session:
        assert len(audit.entries(session, home)) == before
        assert roles.find(session, home, role).name == "Helpers"


async def test_another_site_changes_nothing(
    new_client: NewClient, owner_token: str, porch: uuid.UUID, make_role: Callable[..., uuid.UUID]
) -> None:
    evil = new_client(token=owner_token, headers={"Origin": "http://evil.test", "Accept": "text/html"})
    for path, body in with_bodies(make_role(), porch, uuid.uuid4()):
        assert (await evil.post(path, data=body)).status_code == 403, path


async def test_another_agents_things_are_not_there(
    owner: httpx.AsyncClient, foreign: Foreign, database: Database, home: uuid.UUID
) -> None:
    gone = [
        f"/access/roles/{foreign.role_id}",
        f"/access/roles/{foreign.role_id}/delete",
        f"/access/devices/{foreign.device_id}",
        f"/integrations/{foreign.integration_id}",
        f"/integrations/{foreign.integration_id}/rotate",
        f"/integrations/{foreign.integration_id}/revoke",
        "/access/sessions/end?username=secret-cellar",
        "/access/try?username=secret-cellar&action=connect",
    ]
    for path in gone:
        assert (await owner.get(path)).status_code == 404, path
    own = {"/access/roles", "/access/roles/check", "/access/roles/preview", "/integrations"}
    for path in changes(foreign.role_id, foreign.device_id, foreign.integration_id):
        if path not in own:
            assert (await owner.post(path, data={"name": "Mine now"})).status_code == 404, path
    refused = await owner.post("/access/roles/undo", data={"entry": foreign.entry_id})
    assert refused.status_code in {404, 409}
    assert (await owner.post("/access/sessions/end", data={"username": "secret-cellar"})).status_code == 404
    for path in PAGES:
        assert "Secret" not in (await owner.get(path)).text, path
    with database.transaction() as session:
        names = session.execute(text("SELECT name FROM roles")).scalars().all()
        assert names == ["Secret role"]


async def test_another_agents_device_or_integration_bears_no_role(owner: httpx.AsyncClient, foreign: Foreign) -> None:
    for bearer, stranger in (("devices", foreign.device_id), ("integrations", foreign.integration_id)):
        fields = {"name": "Reach", "grant_action": "publish", "grant_filter": "x/{agent}/#", bearer: str(stranger)}
        problems = (await owner.post("/access/roles/check", data=fields)).json()["problems"]
        assert [problem["field"].split(".")[0] for problem in problems] == [bearer]
        assert (await owner.post("/access/roles", data=fields | {"do": "save"})).status_code == 422
    assert "Reach" not in (await owner.get("/access/roles")).text
