"""Live credentials: only for members, only for a while, few per sign-in; and what a page missed, in order."""

import uuid
from collections.abc import Callable
from datetime import UTC, datetime

import httpx
import pytest

from hub import feed, identity
from hub.access import credentials, principals
from hub.access.changes import CHANNEL, read
from hub.access.decide import subscribe
from hub.database import Database
from hub.tables import Agent, User
from web.live import PAGES_PER_SESSION

NewClient = Callable[..., httpx.AsyncClient]
MakeUser = Callable[..., User]
Enter = Callable[[User], str]


@pytest.fixture
def home(database: Database, owner_token: str) -> uuid.UUID:
    with database.transaction() as session:
        return identity.find_agent(session).agent_id


@pytest.fixture
def elsewhere(database: Database, home: uuid.UUID) -> uuid.UUID:
    """An agent that the owner of `home` has nothing to do with."""
    with database.transaction() as session:
        agent = Agent(name="Elsewhere")
        session.add(agent)
        session.flush()
        return agent.agent_id


def tell(database: Database, agent_id: uuid.UUID, count: int) -> None:
    for n in range(count):
        with database.transaction() as session:
            feed.tell(session, agent_id, "events", "events.new", {"event_id": str(n)})


async def test_nobody_signed_in_gets_no_credential(new_client: NewClient, home: uuid.UUID) -> None:
    client = new_client(headers={"Origin": "http://hub.test"})
    for answer in (
        await client.post("/live/credential", json={"agent_id": str(home)}),
        await client.post("/live/renew", json={"username": "ui_0"}),
        await client.get(f"/live/since?agent={home}&rev=0"),
    ):
        assert answer.status_code == 401


async def test_another_agent_is_not_there(owner: httpx.AsyncClient, elsewhere: uuid.UUID) -> None:
    assert (await owner.post("/live/credential", json={"agent_id": str(elsewhere)})).status_code == 404
    assert (await owner.get(f"/live/since?agent={elsewhere}&rev=0")).status_code == 404


async def test_somebody_blocked_is_nobody(
    new_client: NewClient, make_user: MakeUser, enter: Enter, home: uuid.UUID
) -> None:
    blocked = new_client(token=enter(make_user("bob@example.org", "blocked")))
    assert (await blocked.post("/live/credential", json={"agent_id": str(home)})).status_code == 404


async def test_another_site_cannot_ask(new_client: NewClient, owner_token: str, home: uuid.UUID) -> None:
    for headers in ({"Origin": "http://evil.test"}, {"Sec-Fetch-Site": "cross-site"}, {}):
        client = new_client(token=owner_token, headers=headers)
        assert (await client.post("/live/credential", json={"agent_id": str(home)})).status_code == 403


@pytest.mark.parametrize("body", [{}, {"agent_id": "nonsense"}, {"agent_id": None}, [1]])
async def test_what_is_no_agent_is_refused(owner: httpx.AsyncClient, body: object) -> None:
    assert (await owner.post("/live/credential", json=body)).status_code == 422


async def test_a_guest_may_listen_to_the_agent_and_to_nothing_else(
    new_client: NewClient, make_user: MakeUser, enter: Enter, database: Database, elsewhere: uuid.UUID, home: uuid.UUID
) -> None:
    tell(database, home, 3)
    guest = new_client(token=enter(make_user("gus@example.org", "guest")))
    answer = (await guest.post("/live/credential", json={"agent_id": str(home)})).json()
    assert answer["url"] == "/mqtt"
    assert answer["username"] == answer["client_id"]
    assert answer["rev"] == 3
    feeds = ("presence", "devices", "events", "commands")  # no samples and no refusals, which guests may not read
    assert answer["topics"] == [*(f"marvain/v1/ui/{home}/{feed}" for feed in feeds), "marvain/v1/hub/status"]
    life = datetime.fromisoformat(answer["expires_at"]) - datetime.fromisoformat(answer["now"])
    assert life == credentials.BROWSER_LIFETIME
    with database.transaction() as session:
        known = credentials.authenticate(session, answer["username"], answer["password"], datetime.now(UTC))
        assert isinstance(known, credentials.Authenticated)
        principal = principals.load(session, answer["username"], "marvain/v1")
        assert principal is not None
    assert all(subscribe(principal, topic).allowed for topic in answer["topics"])
    assert not subscribe(principal, f"marvain/v1/ui/{elsewhere}/+").allowed
    assert not subscribe(principal, "marvain/v1/ui/+/+").allowed
    assert not subscribe(principal, f"marvain/v1/ui/{home}/denials").allowed


async def test_a_guest_who_missed_something_is_told_no_refusals(
    new_client: NewClient, make_user: MakeUser, enter: Enter, database: Database, home: uuid.UUID
) -> None:
    with database.transaction() as session:
        feed.tell(session, home, "denials", "denials.new", {"n": 1})
        feed.tell(session, home, "events", "events.new", {"event_id": "e"})
    asked = {"agent": str(home), "rev": 0}
    told = {}
    for role in ("guest", "member"):
        browser = new_client(token=enter(make_user(f"{role}@example.org", role)))
        gap = (await browser.get("/live/since", params=asked)).json()
        told[role] = (gap["rev"], sorted(one["type"] for one in gap["messages"]))
    assert told == {"guest": (2, ["events.new"]), "member": (2, ["denials.new", "events.new"])}


async def test_only_the_own_credential_is_renewed(
    new_client: NewClient, owner: httpx.AsyncClient, make_user: MakeUser, enter: Enter, home: uuid.UUID
) -> None:
    issued = (await owner.post("/live/credential", json={"agent_id": str(home)})).json()
    other = new_client(token=enter(make_user("bob@example.org", "member")))
    for client, username in ((other, issued["username"]), (owner, "ui_" + "0" * 32), (owner, "hub_service")):
        assert (await client.post("/live/renew", json={"username": username})).status_code == 404
    renewed = (await owner.post("/live/renew", json={"username": issued["username"]})).json()
    assert renewed["expires_at"] > issued["expires_at"]


async def test_beyond_many_pages_the_first_one_ends(
    owner: httpx.AsyncClient, home: uuid.UUID, database: Database
) -> None:
    listener = database.listen(CHANNEL)
    try:
        first = (await owner.post("/live/credential", json={"agent_id": str(home)})).json()
        for _ in range(PAGES_PER_SESSION):
            last = await owner.post("/live/credential", json={"agent_id": str(home)})
            assert last.status_code == 200
        told = [read(one.payload) for one in listener.wait(5)]
    finally:
        listener.close()
    assert [(one.username, one.kind) for one in told if one] == [(first["username"], "ended")]
    assert (await owner.post("/live/renew", json={"username": first["username"]})).status_code == 404


async def test_what_was_missed_comes_in_order(owner: httpx.AsyncClient, home: uuid.UUID, database: Database) -> None:
    tell(database, home, 4)
    answer = (await owner.get(f"/live/since?agent={home}&rev=1")).json()
    assert [message["rev"] for message in answer["messages"]] == [2, 3, 4]
    assert answer["rev"] == 4
    assert answer["reset"] is False
    assert answer["now"]
    assert (await owner.get(f"/live/since?agent={home}&rev=9")).json()["reset"] is True


@pytest.mark.parametrize("rev", ["-1", "x", "", "1e3", "9" * 30])
async def test_a_revision_is_a_number(owner: httpx.AsyncClient, home: uuid.UUID, rev: str) -> None:
    assert (await owner.get(f"/live/since?agent={home}&rev={rev}")).status_code == 422


async def test_a_member_listens_to_all_feeds(
    new_client: NewClient, make_user: MakeUser, enter: Enter, home: uuid.UUID
) -> None:
    member = new_client(token=enter(make_user("max@example.org", "member")))
    answer = (await member.post("/live/credential", json={"agent_id": str(home)})).json()
    assert answer["topics"] == [f"marvain/v1/ui/{home}/+", "marvain/v1/hub/status"]
