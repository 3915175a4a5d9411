"""The remotes page: who may add one, who stands there, and that what is pasted is quoted."""

import re
import uuid

import pytest

from hub import device_views, devices, identity
from hub.settings import Settings
from hub.tables import Agent
from web.pages import snippets

TOKEN = "mv1.cabin." + "A" * 43


@pytest.fixture
def some(database, owner_token):
    """A device that is no remote, a remote of the earlier system, and one of another agent."""
    with database.transaction() as session:
        home = identity.find_agent(session).agent_id
        elsewhere = Agent(name="Elsewhere")
        session.add(elsewhere)
        session.flush()
        add = lambda agent, name, **facts: devices.register(session, agent, name, scopes=[], by="test", **facts)  # noqa: E731
        add(home, "Lamp")
        remote = {"is_remote": True, "address": "10.0.0.5", "connection_type": "network"}
        add(elsewhere.agent_id, "Secret cellar", metadata=remote)
        return add(home, "Old porch", metadata=remote).device_id


async def test_members_see_them_and_admins_add(new_client, make_user, enter, some) -> None:
    member = new_client(token=enter(make_user("max@example.org", "member")))
    assert "Old porch" in (await member.get("/remotes")).text
    assert "Add remote" not in (await member.get("/remotes")).text
    assert (await member.get("/remotes/new")).status_code == 403
    assert (await member.post("/remotes", data={"name": "Mine"})).status_code == 403


async def test_only_remotes_of_this_agent_stand_there_with_their_address(owner, some) -> None:
    page = (await owner.get("/remotes")).text
    assert "Old porch" in page
    assert "network: 10.0.0.5" in page
    assert "Lamp" not in page
    assert "Secret cellar" not in page
    lamp = re.search(r'data-device="([^"]+)" data-handle="lamp"', (await owner.get("/devices")).text)[1]
    rows = (await owner.get(f"/devices/rows?ids={some},{lamp}&remotes=1")).text
    assert "Old porch" in rows
    assert "Lamp" not in rows


async def test_a_new_one_is_a_device_with_its_token_shown_once(owner, database, owner_token) -> None:
    assert "No remotes yet" in (await owner.get("/remotes")).text
    page = (await owner.post("/remotes", data={"name": "Cabin"})).text
    token = re.search(r"mv1\.cabin\.[\w-]{43}", page)[0]
    for way in ("linux", "container", "micropython", "beat"):
        shown = page[page.index(f'id="way-{way}"') :]
        assert token in shown[: shown.index("</pre>")]
    with database.transaction() as session:
        view = device_views.overview(session, identity.find_agent(session).agent_id, remotes=True)[0]
        assert (view.handle, view.metadata["is_remote"], view.scopes) == ("cabin", True, list(devices.DEFAULT_SCOPES))
    assert token not in (await owner.get(f"/devices/{view.device_id}")).text


async def test_what_is_wrong_is_said_beside_the_field_and_what_was_typed_stays(owner, owner_token) -> None:
    await owner.post("/remotes", data={"name": "Cabin"})
    again = await owner.post("/remotes", data={"name": "Cabin <2>", "handle": "cabin"})
    assert again.status_code == 422
    assert "taken" in again.text
    assert "Cabin &lt;2&gt;" in again.text
    assert (await owner.post("/remotes", data={"name": ""})).status_code == 422
    nowhere = await owner.post("/remotes", data={"name": "Cabin", "space": str(uuid.uuid4())})
    assert nowhere.status_code in (404, 422)


def test_addresses_are_quoted_for_the_shell_and_loopback_is_the_hosts_own(database_url):
    plain = Settings(database_url=database_url, public_mqtt_host="hub.example.org", public_mqtt_port=1884)
    ways = {one.name: one.text for one in snippets.of_device(plain, "cabin", TOKEN, 7)}
    assert "mqtt://hub.example.org:1884" in ways["linux"]
    assert "--network host" not in ways["container"]
    assert "--root" not in ways["linux"]
    local = Settings(database_url=database_url, root="house/v2")
    ways = {one.name: one.text for one in snippets.of_device(local, "cabin", TOKEN, 7)}
    assert "--network host" in ways["container"]
    assert "--root house/v2" in ways["linux"]
    assert 'BASE = "house/v2/d/"' in ways["micropython"]
    assert "-t house/v2/d/cabin/heartbeat" in ways["beat"]
