"""The pages of claim codes: whose they are, one sight of a code, and nothing a device says of itself is markup."""

import re
import uuid
from collections.abc import Callable
from datetime import UTC, datetime

import httpx
import pytest

from hub import audit, claims, device_views, devices, enrolment, enrolment_records, identity
from hub.claims import ClaimDraft
from hub.database import Database
from hub.enrolment import Standing, Statement
from hub.tables import Agent, User

NewClient = Callable[..., httpx.AsyncClient]
MakeUser = Callable[..., User]
Enter = Callable[[User], str]
XSS = '"><script>alert(1)</script>'
CODE = r"[0-9A-Z]{4}(?:-[0-9A-Z]{4}){3}"


@pytest.fixture
def home(database: Database, owner_token: str) -> uuid.UUID:
    with database.transaction() as session:
        return identity.find_agent(session).agent_id


@pytest.fixture
def make_code(database: Database, home: uuid.UUID) -> Callable[..., tuple[uuid.UUID, str]]:
    def make(agent_id: uuid.UUID | None = None, **facts) -> tuple[uuid.UUID, str]:
        with database.transaction() as session:
            draft, now = ClaimDraft(**facts), datetime.now(UTC)
            made = claims.create(session, agent_id or home, draft, by="ann@example.org", user_id=None, now=now)
            return made.claim.claim_id, made.code

    return make


@pytest.fixture
def ask(database: Database, make_code) -> Callable[..., Standing]:
    """A device comes with a code."""

    def ask(code: str = "", said: Statement | None = None) -> Standing:
        with database.transaction() as session:
            given = code or make_code()[1]
            what = said or Statement("Weather mast", "ESP32-C3", "mast 1.4.0")
            found = enrolment.ask(session, given, what, address="192.0.2.50", now=datetime.now(UTC))
            assert isinstance(found, Standing)
            return found

    return ask


@pytest.fixture
def foreign(database: Database, make_code, ask) -> tuple[uuid.UUID, uuid.UUID, uuid.UUID]:
    """Another agent's open code, its device that asks to join, and its device."""
    with database.transaction() as session:
        agent = Agent(name="Elsewhere")
        session.add(agent)
        session.flush()
        agent_id = agent.agent_id
        device_id = devices.add(session, agent_id, "Secret cellar", scopes=[], by="bob").device.device_id
    open_one, _ = make_code(agent_id)
    asked = ask(make_code(agent_id)[1], Statement("Secret mast"))
    return open_one, asked.enrolment_id, device_id


def client_as(role: str, new_client: NewClient, make_user: MakeUser, enter: Enter) -> httpx.AsyncClient:
    return new_client(token=enter(make_user(f"{role}@example.org", role)))


async def test_what_is_another_agents_is_not_there(owner: httpx.AsyncClient, foreign, database: Database) -> None:
    claim, asked, device = foreign
    for path in (f"/devices/claims/{claim}", f"/devices/claims/{claim}/state", f"/devices/enrolments/{asked}"):
        assert (await owner.get(path)).status_code == 404
    assert (await owner.get(f"/devices/claim?device={device}")).status_code == 404
    assert (await owner.post("/devices/claim", data={"device": str(device)})).status_code == 404
    for path in (f"claims/{claim}/withdraw", f"enrolments/{asked}/approve", f"enrolments/{asked}/reject"):
        assert (await owner.post(f"/devices/{path}", data={"name": "Mine"})).status_code == 404
    for path in ("/devices", "/devices/joining"):
        assert "Secret" not in (await owner.get(path)).text
    with database.transaction() as session:
        agent = identity.find_agent(session, "Elsewhere")
        assert len(enrolment_records.waiting(session, agent.agent_id, datetime.now(UTC))) == 1
        assert len(claims.open_ones(session, agent.agent_id, datetime.now(UTC))) == 1


async def test_members_see_who_asks_and_decide_nothing_and_guests_see_nobody(
    new_client: NewClient, make_user: MakeUser, enter: Enter, make_code, ask, home: uuid.UUID
) -> None:
    claim, _ = make_code(name="Open one")
    asked = ask()
    member, guest = (client_as(role, new_client, make_user, enter) for role in ("member", "guest"))
    page = (await member.get("/devices")).text
    assert "A device asks to join" in page
    assert asked.phrase in page
    assert "Compare and decide" not in page
    assert "Open one" not in page
    assert asked.phrase not in (await guest.get("/devices")).text
    assert (await guest.get("/devices/joining")).status_code == 403
    for person in (member, guest):
        for path in ("claim", f"claims/{claim}", f"claims/{claim}/state", f"enrolments/{asked.enrolment_id}"):
            assert (await person.get(f"/devices/{path}")).status_code == 403
        for path in (
            "claim",
            f"claims/{claim}/withdraw",
            f"enrolments/{asked.enrolment_id}/approve",
            f"enrolments/{asked.enrolment_id}/reject",
        ):
            assert (await person.post(f"/devices/{path}", data={"name": "Mine"})).status_code == 403


async def test_another_site_can_neither_make_codes_nor_approve(new_client: NewClient, owner_token: str, ask) -> None:
    asked = ask()
    evil = new_client(token=owner_token, headers={"Origin": "http://evil.test", "Accept": "text/html"})
    for path in ("claim", f"enrolments/{asked.enrolment_id}/approve", f"enrolments/{asked.enrolment_id}/reject"):
        assert (await evil.post(f"/devices/{path}", data={"name": "Theirs"})).status_code == 403


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"name": "x" * 81}, "at most 80"),
        ({"name": "kept", "handle": "Not a handle"}, "1 to 63 of a-z"),
        ({"name": "kept", "scopes": ["everything"]}, "there is no scope"),
        ({"name": "kept", "space": str(uuid.uuid4())}, "there is no space"),
        ({"name": "kept", "minutes": "10081"}, "1 to 10080 minutes"),
    ],
)
async def test_a_form_with_a_fault_says_which_and_keeps_the_rest(
    owner: httpx.AsyncClient, ask, fields: dict[str, object], complaint: str
) -> None:
    asked = ask()
    paths = ["/devices/claim"]
    if "minutes" not in fields:
        paths.append(f"/devices/enrolments/{asked.enrolment_id}/approve")
    for path in paths:
        answer = await owner.post(path, data=fields)
        assert answer.status_code == 422
        assert complaint in answer.text
        assert f'value="{fields["name"]}"' in answer.text if "kept" in fields.values() else True


async def test_a_code_is_shown_once_with_its_picture_and_commands(owner: httpx.AsyncClient, database: Database) -> None:
    answer = await owner.post("/devices/claim", data={"name": "Mast", "scopes": ["events:write"], "minutes": "60"})
    assert answer.status_code == 200
    code = re.search(rf'id="claim-code">({CODE})<', answer.text)[1]
    assert "data:image/svg+xml" in answer.text
    assert f"http://hub.test/enrol#code={code}" in answer.text
    assert f"marvain-satellite enrol --hub http://hub.test --code {code}" in answer.text
    # Over plain HTTP from elsewhere no device would be let in, and the page says so before somebody tries.
    assert "Devices are refused here" in answer.text
    with database.transaction() as session:
        agent = identity.find_agent(session)
        claim = claims.open_ones(session, agent.agent_id, datetime.now(UTC))[0]
        assert (claim.name, claim.scopes, claim.needs_approval) == ("Mast", ["events:write"], True)
    for path in ("/devices", f"/devices/claims/{claim.claim_id}", f"/devices/claims/{claim.claim_id}/state"):
        page = await owner.get(path)
        assert page.status_code == 200
        assert code not in page.text
    assert "waiting for a device" in page.text
    assert "One claim code is open" in (await owner.get("/devices")).text
    withdrawn = await owner.post(f"/devices/claims/{claim.claim_id}/withdraw")
    assert withdrawn.status_code == 303
    assert "withdrawn" in (await owner.get(f"/devices/claims/{claim.claim_id}")).text
    assert (await owner.post(f"/devices/claims/{claim.claim_id}/withdraw")).status_code == 409


async def test_over_tls_the_page_has_nothing_to_warn_of(new_client: NewClient, owner_token: str) -> None:
    client = new_client(base_url="https://hub.test")
    client.cookies.set("__Host-marvain_session", owner_token)
    answer = await client.post("/devices/claim", data={"name": "Mast"})
    assert "refused here" not in answer.text
    assert "https://hub.test/enrol#code=" in answer.text


async def test_approving_makes_the_device_as_the_form_says(
    owner: httpx.AsyncClient, ask, make_code, database: Database, home: uuid.UUID
) -> None:
    claim, code = make_code(name="Mast", scopes=("events:write",))
    asked = ask(code)
    form = (await owner.get(f"/devices/enrolments/{asked.enrolment_id}")).text
    assert asked.phrase in form
    assert 'value="Mast"' in form
    assert 'value="mast"' in form
    assert "Compare and decide" in (await owner.get(f"/devices/claims/{claim}/state")).text
    fields = {"name": "Tall mast", "handle": "tall-mast", "scopes": ["events:write", "presence:write"]}
    answer = await owner.post(f"/devices/enrolments/{asked.enrolment_id}/approve", data=fields)
    assert answer.status_code == 303
    with database.transaction() as session:
        view = device_views.overview(session, home)[0]
        assert (view.handle, view.name, view.needs_enrolment) == ("tall-mast", "Tall mast", True)
        assert view.scopes == ["events:write", "presence:write"]
        actors = {(one.action, one.actor) for one in audit.entries(session, home)}
    assert ("enrolment.approved", "ann@example.org") in actors
    assert answer.headers["location"] == f"/devices/{view.device_id}"
    for action in ("approve", "reject"):
        again = await owner.post(f"/devices/enrolments/{asked.enrolment_id}/{action}", data=fields)
        assert again.status_code == 409
        assert "approved already by ann@example.org" in again.text
    assert "This is decided" in (await owner.get(f"/devices/enrolments/{asked.enrolment_id}")).text
    assert "its token waits for it" in (await owner.get(f"/devices/claims/{claim}/state")).text


async def test_a_device_without_a_usable_name_needs_a_handle_from_a_person(owner: httpx.AsyncClient, ask) -> None:
    asked = ask(said=Statement("日本"))
    path = f"/devices/enrolments/{asked.enrolment_id}"
    assert (await owner.get(path)).status_code == 200
    refused = await owner.post(f"{path}/approve", data={"name": "日本"})
    assert refused.status_code == 422
    assert "or give a handle" in refused.text
    assert (await owner.post(f"{path}/approve", data={"name": ""})).status_code == 422
    assert (await owner.post(f"{path}/approve", data={"name": "日本", "handle": "nihon"})).status_code == 303


async def test_rejecting_says_why(owner: httpx.AsyncClient, ask, database: Database, home: uuid.UUID) -> None:
    asked = ask()
    path = f"/devices/enrolments/{asked.enrolment_id}"
    assert (await owner.post(f"{path}/reject", data={"reason": "x" * 201})).status_code == 422
    assert (await owner.post(f"{path}/reject", data={"reason": "not ours"})).status_code == 303
    with database.transaction() as session:
        view = enrolment_records.find(session, home, asked.enrolment_id)
    assert (view.state, view.reason, view.decided_by) == ("rejected", "not ours", "ann@example.org")


async def test_a_code_for_a_device_that_is_there(
    owner: httpx.AsyncClient, database: Database, home: uuid.UUID, ask
) -> None:
    with database.transaction() as session:
        porch = devices.add(session, home, "Porch", scopes=[], by="a test").device.device_id
    assert "A claim code for Porch" in (await owner.get(f"/devices/claim?device={porch}")).text
    answer = await owner.post("/devices/claim", data={"device": str(porch)})
    asked = ask(re.search(CODE, answer.text)[0])
    look = (await owner.get(f"/devices/enrolments/{asked.enrolment_id}")).text
    assert "takes the place of <strong>Porch</strong>" in look
    done = await owner.post(f"/devices/enrolments/{asked.enrolment_id}/approve", data={})
    assert done.headers["location"] == f"/devices/{porch}"


async def test_what_a_device_says_of_itself_is_never_markup(owner: httpx.AsyncClient, ask, make_code) -> None:
    claim, code = make_code(handle="hostile")
    asked = ask(code, Statement(XSS, XSS, XSS))
    for path in (
        "/devices",
        "/devices/joining",
        f"/devices/enrolments/{asked.enrolment_id}",
        f"/devices/claims/{claim}",
    ):
        page = await owner.get(path)
        assert page.status_code == 200
        assert "<script>alert" not in page.text
        assert "alert(1)" in page.text


async def test_the_page_behind_the_picture_is_for_everybody_and_knows_no_code(client: httpx.AsyncClient) -> None:
    page = await client.get("/enrol")
    assert page.status_code == 200
    assert "http://hub.test" in page.text
