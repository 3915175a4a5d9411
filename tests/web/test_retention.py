"""How long things are kept, on an agent's page and over HTTP: admins alone, and two editors are told of each other."""

import pytest

from hub import identity

DAYS = {
    "events_days": "30",
    "telemetry_days": "90",
    "commands_days": "60",
    "actions_days": "120",
    "denials_days": "7",
    "dead_letters_days": "5",
    "presence_days": "20",
}


@pytest.fixture
def agent_id(database, owner_token):
    with database.transaction() as session:
        return identity.find_agent(session).agent_id


@pytest.mark.parametrize("role", ["guest", "member"])
async def test_members_and_guests_do_not_change_it(new_client, make_user, enter, agent_id, role) -> None:
    client = new_client(token=enter(make_user("mia@example.org", role)))
    assert "How long things are kept" not in (await client.get(f"/agents/{agent_id}")).text
    assert (await client.post(f"/agents/{agent_id}/retention", data=DAYS | {"revision": "0"})).status_code == 403
    assert (await client.get(f"/api/agents/{agent_id}/retention")).status_code == 403
    assert (await client.patch(f"/api/agents/{agent_id}/retention", json={"events_days": 1})).status_code == 403


async def test_it_is_set_on_the_page(owner, agent_id) -> None:
    assert 'value="365"' in (await owner.get(f"/agents/{agent_id}")).text
    saved = await owner.post(f"/agents/{agent_id}/retention", data=DAYS | {"revision": "0"})
    assert saved.status_code == 303
    page = (await owner.get(f"/agents/{agent_id}")).text
    assert 'value="365"' not in page
    assert 'value="30"' in page
    assert "Agent retention changed" in (await owner.get("/audit")).text


@pytest.mark.parametrize("wrong", ["0", "-1", "many", "", "99999", "²"])
async def test_what_is_no_number_of_days_comes_back_with_its_fault(owner, agent_id, wrong) -> None:
    answer = await owner.post(f"/agents/{agent_id}/retention", data=DAYS | {"denials_days": wrong, "revision": "0"})
    assert answer.status_code == 422
    assert 'id="field-denials_days-error"' in answer.text
    assert 'value="60"' in answer.text


async def test_the_second_of_two_editors_is_told(owner, agent_id) -> None:
    await owner.post(f"/agents/{agent_id}/retention", data=DAYS | {"revision": "0"})
    late = await owner.post(f"/agents/{agent_id}/retention", data=DAYS | {"events_days": "3", "revision": "0"})
    assert late.status_code == 409
    assert "Nothing of yours was saved" in late.text
    assert "events 30" in late.text


async def test_over_http(owner, agent_id) -> None:
    address = f"/api/agents/{agent_id}/retention"
    assert (await owner.get(address)).json()["revision"] == 0
    assert (await owner.patch(address, json={"telemetry_days": 6})).status_code == 422
    changed = (await owner.patch(address, json={"telemetry_days": 8, "revision": 0})).json()
    assert (changed["telemetry_days"], changed["events_days"], changed["revision"]) == (8, 365, 1)
    assert (await owner.patch(address, json={"telemetry_days": 9, "revision": 0})).status_code == 409
