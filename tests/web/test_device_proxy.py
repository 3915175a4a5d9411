"""Who checks a remote, as people set it on its page: refused first."""

import uuid

import pytest

from hub import devices, identity
from hub.tables import Agent


@pytest.fixture
def pair(database, owner_token):
    """A satellite and a remote of the home, and somebody else's satellite."""
    with database.transaction() as session:
        home = identity.find_agent(session).agent_id
        elsewhere = Agent(name="Elsewhere")
        session.add(elsewhere)
        session.flush()
        porch = devices.add(session, home, "Porch", scopes=["presence:write"], by="test").device
        theirs = devices.add(session, elsewhere.agent_id, "Theirs", scopes=[], by="test").device
        remote = devices.register(session, home, "Printer", scopes=[], by="test", metadata={"is_remote": True})
        return porch.device_id, remote.device_id, theirs.device_id


def form(chosen: uuid.UUID, **facts):
    return {"proxy": str(chosen), "kind": "network", "address": "10.0.0.9:9100", "every_s": "30"} | facts


async def test_members_change_nothing(new_client, make_user, enter, pair) -> None:
    porch, printer, _ = pair
    member = new_client(token=enter(make_user("max@example.org", "member")))
    assert (await member.post(f"/devices/{printer}/proxy", data=form(porch))).status_code == 403
    assert (await member.post(f"/devices/{printer}/proxy/end")).status_code == 403
    assert "Checks" not in (await member.get(f"/devices/{printer}")).text


async def test_another_agents_satellite_is_not_there(owner, pair) -> None:
    _, printer, theirs = pair
    assert (await owner.post(f"/devices/{printer}/proxy", data=form(theirs))).status_code == 404
    page = await owner.post("/remotes", data={"name": "Meter"} | form(theirs))
    assert page.status_code == 404
    assert "Meter" not in (await owner.get("/remotes")).text, "nothing of it was made"


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"proxy": ""}, "choose the satellite that is near it"),
        ({"proxy": "-" * 36}, "choose the satellite that is near it"),
        ({"address": "10.0.0.9"}, "is host:port"),
        ({"kind": "serial"}, "is the path of a port"),
        ({"every_s": "soon"}, "is 5 to 3600 seconds"),
        ({"every_s": "nan"}, "is 5 to 3600 seconds"),
        ({"every_s": "1"}, "is 5 to 3600 seconds"),
    ],
)
async def test_what_is_wrong_is_said_beside_its_field_and_what_was_typed_stays(owner, pair, facts, said) -> None:
    porch, printer, _ = pair
    page = await owner.post(f"/devices/{printer}/proxy", data=form(porch, **facts))
    assert page.status_code == 422
    assert said in page.text
    assert f'value="{facts.get("address", "10.0.0.9:9100")}"' in page.text


async def test_both_pages_say_it_and_it_can_be_ended(owner, pair, database) -> None:
    porch, printer, _ = pair
    assert (await owner.post(f"/devices/{printer}/proxy", data=form(porch))).status_code == 303
    page = (await owner.get(f"/devices/{printer}")).text
    assert "10.0.0.9:9100" in page
    assert "waiting for the first report of porch" in page
    assert "It has no token yet" not in page, "it needs none"
    assert "It checks for others" in (await owner.get(f"/devices/{porch}")).text
    refused = await owner.post(f"/devices/{porch}/proxy", data=form(printer))
    assert refused.status_code == 422
    assert (await owner.post(f"/devices/{printer}/proxy/end")).status_code == 303
    assert "no satellite checks it any more" in (await owner.get(f"/devices/{printer}")).text


async def test_a_new_remote_that_is_checked_gets_no_token(owner, pair) -> None:
    porch, _, _ = pair
    answer = await owner.post("/remotes", data={"name": "Meter"} | form(porch, kind="serial", address="/dev/ttyUSB0"))
    assert answer.status_code == 303
    page = (await owner.get(answer.headers["location"])).text
    assert "/dev/ttyUSB0" in page
    assert "mv1." not in answer.text + page
    assert (await owner.post("/remotes", data={"name": "Two"} | form(porch, address="nowhere"))).status_code == 422
