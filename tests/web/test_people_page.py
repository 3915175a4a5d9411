"""The people of an agent: closed doors first; roles that nobody can talk their way out of."""

import re

import httpx
import pytest
from sqlalchemy import text

from hub import identity
from hub.tables import Agent, AgentMembership


@pytest.fixture
def home(database, owner_token):
    with database.transaction() as session:
        return identity.ensure_first_agent(session).agent_id


@pytest.fixture
def people(make_user, home):
    return {role: make_user(f"{role}@example.org", role, agent_id=home) for role in ("admin", "member", "guest")}


@pytest.fixture
def browser(new_client, enter):
    return lambda user: new_client(token=enter(user))


def role_of(database, user) -> str | None:
    with database.transaction() as session:
        return session.execute(
            text("SELECT role FROM agent_memberships WHERE user_id = :id AND revoked_at IS NULL"), {"id": user.user_id}
        ).scalar()


async def test_guests_do_not_see_people(browser, people) -> None:
    assert (await browser(people["guest"]).get("/people")).status_code == 403


async def test_members_see_and_change_nothing(browser, people, database) -> None:
    member = browser(people["member"])
    page = (await member.get("/people")).text
    assert "admin@example.org" in page
    assert "Invite somebody" not in page
    admin = people["admin"].user_id
    for path, data in (
        ("/people", {"email": "new@example.org"}),
        (f"/people/{admin}/role", {"role": "guest"}),
        (f"/people/{admin}/block", {}),
        (f"/people/{admin}/remove", {}),
        (f"/people/{admin}/invite", {}),
        (f"/people/{admin}/owner", {"typed": "admin@example.org"}),
    ):
        assert (await member.post(path, data=data)).status_code == 403, path
    assert role_of(database, people["admin"]) == "admin"


async def test_an_admin_can_neither_touch_the_owner_nor_become_it(browser, people, database, make_user, home) -> None:
    admin = browser(people["admin"])
    with database.transaction() as session:
        owner = session.execute(text("SELECT user_id FROM agent_memberships WHERE role = 'owner'")).scalar_one()
    for path, data in (("role", {"role": "guest"}), ("block", {}), ("remove", {})):
        answer = await admin.post(f"/people/{owner}/{path}", data=data)
        assert answer.status_code == 409, path
    mine = people["admin"].user_id
    assert (await admin.post(f"/people/{mine}/owner", data={"typed": "admin@example.org"})).status_code == 403
    asked = await admin.post(f"/people/{mine}/role", data={"role": "owner"})
    assert asked.status_code == 422
    assert role_of(database, people["admin"]) == "admin"


async def test_ownership_is_handed_over_with_the_address_typed(owner, browser, people, database) -> None:
    heir = people["member"].user_id
    wrong = await owner.post(f"/people/{heir}/owner", data={"typed": "somebody@example.org"})
    assert (wrong.status_code, "to hand ownership over" in wrong.text) == (422, True)
    assert (await owner.post(f"/people/{heir}/owner", data={"typed": "Member@example.org"})).status_code == 303
    assert role_of(database, people["member"]) == "owner"
    assert (await owner.post(f"/people/{heir}/owner", data={"typed": "member@example.org"})).status_code == 403


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({"email": "nonsense", "role": "member"}, "not an e-mail address"),
        ({"email": "new@example.org", "role": "owner"}, "is one of guest, member, admin"),
        ({"email": "member@example.org", "role": "admin"}, "is member already"),
    ],
)
async def test_a_bad_invitation_names_what_is_wrong_and_keeps_what_was_typed(
    owner, people, database, data, says
) -> None:
    answer = await owner.post("/people", data=data)
    assert answer.status_code == 422
    assert says in answer.text
    assert f'value="{data["email"]}"' in answer.text
    assert role_of(database, people["member"]) == "member"


async def test_an_invitation_lets_somebody_in_once(owner, client, database) -> None:
    shown = await owner.post("/people", data={"email": "new@example.org", "display_name": "New", "role": "guest"})
    (path,) = set(re.findall(r"http://hub\.test(/invite/[\w-]+)", shown.text))
    assert "invited" in (await owner.get("/people")).text
    words = {"password": "four quiet satellites", "password_again": "four quiet satellites"}
    assert (await client.post(path, data=words)).status_code == 303
    assert (await client.post(path, data=words)).status_code == 404
    with database.transaction() as session:
        assert identity.memberships_of(session, identity.find_user(session, "new@example.org").user_id)[0][1] == "guest"


async def test_no_link_lets_an_admin_into_an_account_that_is_in_use(owner, people, database) -> None:
    answer = await owner.post(f"/people/{people['member'].user_id}/invite")
    assert answer.status_code == 409
    with database.transaction() as session:
        assert session.execute(text("SELECT count(*) FROM one_time_links")).scalar_one() == 0


async def test_the_second_of_two_who_change_a_role_is_told(owner, people, database) -> None:
    path = f"/people/{people['member'].user_id}/role"
    assert (await owner.post(path, data={"role": "guest", "was": "member"})).status_code == 303
    late = await owner.post(path, data={"role": "admin", "was": "member"})
    assert (late.status_code, "the role is guest now" in late.text) == (409, True)
    assert role_of(database, people["member"]) == "guest"


async def test_a_blocked_one_sees_nothing_and_can_be_let_in_again(owner, browser, people, database) -> None:
    member = browser(people["member"])
    assert (await owner.post(f"/people/{people['member'].user_id}/block")).status_code == 303
    for path in ("/devices", "/events", "/people", "/spaces"):
        assert (await member.get(path)).status_code == 404, path
    assert "blocked" in (await owner.get("/people")).text
    await owner.post(f"/people/{people['member'].user_id}/role", data={"role": "guest", "was": "blocked"})
    assert (await member.get("/devices")).status_code == 200


async def test_everybody_may_leave_but_the_last_who_can_change_anything(owner, browser, people, database) -> None:
    guest = browser(people["guest"])
    assert (await guest.post(f"/people/{people['guest'].user_id}/remove")).status_code == 403
    member = browser(people["member"])
    assert (await member.post(f"/people/{people['member'].user_id}/remove")).status_code == 303
    assert role_of(database, people["member"]) is None


async def test_a_name_is_never_markup(owner, make_user, home, database) -> None:
    with database.transaction() as session:
        user = identity.create_user(session, "x@example.org", "<img src=x onerror=alert(1)>", "three quiet satellites")
        session.add(AgentMembership(agent_id=home, user_id=user.user_id, role="member"))
        user_id = user.user_id
    for path in ("/people", f"/people/{user_id}"):
        page = (await owner.get(path)).text
        assert "<img src=x" not in page
        assert "&lt;img" in page


async def test_tokens_are_made_shown_once_and_revoked(owner, new_client, database) -> None:
    empty = await owner.post("/account/tokens", data={"name": "backup"})
    assert (empty.status_code, "name at least one" in empty.text, 'value="backup"' in empty.text) == (422, True, True)
    shown = await owner.post("/account/tokens", data={"name": "backup", "scopes": ["devices:read"], "days": 7})
    token = re.search(r"mvp\.[\w-]{43}", shown.text)[0]
    script = new_client(headers={"Authorization": f"Bearer {token}"})
    assert (await script.get("/api/devices")).status_code == 200
    assert (await script.post("/api/devices", json={"name": "x"})).status_code == 403
    account = (await owner.get("/account")).text
    assert "backup" in account
    assert token not in account
    (path,) = re.findall(r'action="(/account/tokens/[0-9a-f-]+/revoke)"', account)
    assert (await owner.post(path)).status_code == 303
    assert (await script.get("/api/devices")).status_code == 401


async def test_all_other_browsers_are_signed_out(owner, new_client, make_user, enter, database) -> None:
    with database.transaction() as session:
        me = identity.find_user(session, "ann@example.org")
    other = new_client(token=enter(me))
    assert (await other.get("/account")).status_code == 200
    assert (await owner.post("/account/sessions/end-others")).status_code == 303
    assert (await other.get("/account")).status_code == 303
    assert (await owner.get("/account")).status_code == 200


async def test_members_over_http(owner: httpx.AsyncClient, browser, people) -> None:
    json = {"Accept": "application/json"}
    listed = (await owner.get("/api/members", headers=json)).json()["items"]
    assert [one["role"] for one in listed] == ["owner", "admin", "member", "guest"]
    made = await owner.post("/api/members", json={"email": "new@example.org", "role": "guest"})
    assert made.status_code == 201
    assert "/invite/" in made.json()["link"]
    path = f"/api/members/{made.json()['user_id']}"
    assert (await owner.patch(path, json={"role": "owner"})).status_code == 422
    assert (await owner.patch(path, json={"role": "member"})).json()["role"] == "member"
    assert (await owner.delete(path)).status_code == 204
    assert (await browser(people["member"]).post("/api/members", json={"email": "y@example.org"})).status_code == 403


async def test_being_named_makes_nobody_with_an_account_a_member(owner, browser, make_user, database) -> None:
    stranger = make_user("eve@example.org")
    shown = await owner.post("/people", data={"email": "eve@example.org", "role": "admin"})
    (path,) = set(re.findall(r"http://hub\.test(/join/[\w-]+)", shown.text))
    assert role_of(database, stranger) is None, "whoever made this account has not shown the link"
    other = browser(make_user("mal@example.org"))
    assert "This invitation is for eve@example.org" in (await other.get(path)).text
    assert (await other.post(path)).status_code == 403
    eve = browser(stranger)
    assert "Join Home" in (await eve.get(path)).text
    assert (await eve.post(path)).status_code == 303
    assert role_of(database, stranger) == "admin"
    assert (await eve.post(path)).status_code == 404


async def test_an_account_that_waits_for_another_agents_invitation_is_out_of_reach(
    owner, make_user, enter, new_client, database
) -> None:
    with database.transaction() as session:
        elsewhere = Agent(name="Elsewhere")
        session.add(elsewhere)
        session.flush()
        agent_id = elsewhere.agent_id
    theirs = new_client(token=enter(make_user("otto@example.org", "owner", agent_id=agent_id)))
    assert "/invite/" in (await theirs.post("/people", data={"email": "new@example.org", "role": "admin"})).text
    answer = await owner.post("/people", data={"email": "new@example.org", "role": "guest"})
    assert (answer.status_code, "another agent" in answer.text) == (422, True)
    assert "/invite/" not in answer.text
