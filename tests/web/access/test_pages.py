"""Topics, trying, denials, sessions and history: the verdicts of the decision, shown only to whom they belong."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
from sqlalchemy import text

from hub import audit
from hub.access import denials, live_sessions, projection
from hub.access.denials import Refusable, Refusal
from hub.access.live_sessions import SessionReport
from hub.database import Database
from web.pages.change_words import difference

Foreign = Any  # tests/web/access/conftest.py
MakeRole = Callable[..., UUID]
XSS = "<script>alert(1)</script>"
STATUS = "marvain/v1/hub/status"


@pytest.fixture
def refuse(database: Database) -> Callable[..., None]:
    """Has something refused, as the broker tells it."""

    def tell(principal: str, action: Refusable, topic: str, *, count: int = 1, ago_s: int = 0) -> None:
        at = datetime.now(UTC) - timedelta(seconds=ago_s)
        with database.transaction() as session:
            denials.record(session, [Refusal(principal, action, topic, f"because {topic}", at, count)])

    return tell


def connect(database: Database, *usernames: str) -> None:
    with database.transaction() as session:
        live_sessions.replace_all(
            session,
            [
                SessionReport(one, True, "192.0.2.9", "mqtt", datetime.now(UTC), True, 30, [(f"{one}/#", 1)], queued=3)
                for one in usernames
            ],
            datetime.now(UTC),
        )


async def test_by_topic_everybody_is_on_one_side_with_the_reason(
    owner: httpx.AsyncClient, porch: UUID, make_role: MakeRole
) -> None:
    question = f"/access/topics?action=subscribe&topic={STATUS}"
    before = (await owner.get(question)).text.partition("<h2>May not</h2>")
    assert "Porch" in before[2]
    make_role("Watchers", ("subscribe", "hub/status"), devices=(porch,))
    after = (await owner.get(question)).text.partition("<h2>May not</h2>")
    assert "Porch" in after[0]
    assert "the role Watchers" in after[0]
    wrong = await owner.get("/access/topics?action=publish&topic=a/%2B")
    assert wrong.status_code == 200
    assert "Wildcards are for subscribing" in wrong.text


async def test_trying_gives_the_verdict_with_its_reason(member: httpx.AsyncClient, porch: UUID) -> None:
    for question, verdict, reason in (
        ({"action": "publish", "topic": "marvain/v1/d/porch/event/open"}, "Allowed", "the scope events:write"),
        ({"action": "publish", "topic": STATUS}, "Refused", "a device uses only its own topics"),
        ({"action": "connect", "will": "marvain/v1/d/porch/state"}, "Refused", "its Will is not allowed"),
        ({"action": "receive", "topic": "marvain/v1/d/porch/denied"}, "Allowed", "every device"),
    ):
        page = await member.get("/access/try", params=question | {"username": "porch"})
        assert f"<strong>{verdict}</strong>" in page.text
        assert reason in page.text


async def test_denials_are_the_agents_own_and_no_strangers(
    owner: httpx.AsyncClient, porch: UUID, foreign: Foreign, refuse: Callable[..., None]
) -> None:
    refuse("porch", "publish", f"a/{XSS}", count=41)
    refuse("secret-cellar", "publish", "their/secret")
    refuse("nobody-knows", "connect", "stranger")
    page = (await owner.get("/access/denials")).text
    assert page.count('<tr class="denial"') == 1
    assert "41" in page
    assert XSS not in page
    assert "secret" not in page
    assert "stranger" not in page
    assert '<tr class="denial"' not in (await owner.get("/access/denials?principal=secret-cellar")).text


async def test_exactly_what_was_refused_is_granted_and_undone(
    owner: httpx.AsyncClient, porch: UUID, foreign: Foreign, home: UUID
) -> None:
    asked = {"principal": "porch", "action": "subscribe", "topic": STATUS}
    question = await owner.get("/access/denials/grant", params=asked)
    assert "1</span></span> <span>new permission" in question.text
    assert "No roles yet" in (await owner.get("/access/roles")).text  # asking changes nothing
    granted = await owner.post("/access/denials/grant", data=asked)
    assert granted.status_code == 303
    tried = {"username": "porch", "action": "subscribe", "topic": STATUS}
    assert "<strong>Allowed</strong>" in (await owner.get("/access/try", params=tried)).text
    entry = granted.headers["location"].partition("saved=")[2]
    assert (await owner.post("/access/roles/undo", data={"entry": entry})).status_code == 303
    assert "<strong>Refused</strong>" in (await owner.get("/access/try", params=tried)).text


async def test_what_cannot_be_granted_says_why(owner: httpx.AsyncClient, porch: UUID, foreign: Foreign) -> None:
    for action, topic in (
        ("publish", STATUS),
        ("publish", "marvain/v1/d/secret-cellar/state"),
        ("subscribe", "marvain/v1/d/secret-cellar/state"),
        ("subscribe", "marvain/v1/#"),
        ("subscribe", "zigbee2mqtt/#"),
        ("publish", XSS),
    ):
        asked = {"principal": "porch", "action": action, "topic": topic}
        question = await owner.get("/access/denials/grant", params=asked)
        assert question.status_code == 200
        assert "This cannot be granted" in question.text
        assert "Grant it" not in question.text
        assert XSS not in question.text
        assert (await owner.post("/access/denials/grant", data=asked)).status_code == 422
        strange = asked | {"principal": "secret-cellar"}
        assert (await owner.get("/access/denials/grant", params=strange)).status_code == 404
        assert (await owner.post("/access/denials/grant", data=strange)).status_code == 404


async def test_what_the_broker_does_not_tell_is_not_shown_as_zero(
    owner: httpx.AsyncClient, database: Database, porch: UUID
) -> None:
    connect(database, "porch")
    pages = ("/access/sessions", f"/devices/{porch}")
    for kind, is_told in (("embedded", True), ("mosquitto", False)):
        with database.transaction() as session:
            projection.report(session, kind, {}, datetime.now(UTC))
        for page in pages:
            shown = (await owner.get(page)).text
            assert ("3 queued" in shown, "not told by this broker" in shown) == (is_told, not is_told)


async def test_sessions_are_the_agents_own_and_can_be_ended(
    owner: httpx.AsyncClient, member: httpx.AsyncClient, porch: UUID, foreign: Foreign, database: Database, home: UUID
) -> None:
    empty = await owner.get("/access/sessions")
    assert "Nobody is connected" in empty.text
    connect(database, "porch", "secret-cellar", "hub_service")
    for path in ("/access/sessions", "/access/sessions/rows"):
        page = (await owner.get(path)).text
        assert re.findall(r'data-row="([\w-]+)"', page) == ["porch", "hub_service"]
        assert "3 queued" in page
        assert page.count("Disconnect<") == 1  # not the hub
        assert "Disconnect" not in (await member.get(path)).text
    question = await owner.get("/access/sessions/end?username=porch")
    assert "it may come back at once" in question.text
    assert "revoke the device" in question.text
    assert (await owner.get("/access/sessions/end?username=hub_service")).status_code == 404
    answer = await owner.post(
        "/access/sessions/end", data={"username": "porch", "reason": XSS}, headers={"Accept": "application/json"}
    )
    assert answer.status_code == 200
    with database.transaction() as session:
        newest = audit.entries(session, home, limit=1)[0]
        assert (newest.action, newest.subject, newest.after) == ("session.kicked", "porch", {"reason": XSS})
    history = (await owner.get("/access/history")).text
    assert "Session kicked:" in history
    assert XSS not in history


async def test_history_is_paged_newest_first(owner: httpx.AsyncClient, database: Database, home: UUID) -> None:
    with database.transaction() as session:
        for n in range(60):
            audit.record(session, home, by="Ann", action="role.edited", subject=f"Role {n:03}", after={"about": str(n)})
    first = (await owner.get("/access/history")).text
    assert first.index("Role 059") < first.index("Role 010")
    assert "Role 009" not in first
    older = re.search(r'href="(/access/history\?before=\d+)"', first)
    assert older is not None
    second = (await owner.get(older[1])).text
    assert "Role 009" in second
    assert "Role 010" not in second


def test_a_difference_names_what_is_gone_and_what_has_come() -> None:
    before = {"name": "A", "about": "", "grants": ["publish a", "publish b"], "all_devices": False, "same": [1]}
    after = {"name": "B", "about": "new", "grants": ["publish b", "publish c"], "all_devices": True, "same": [1]}
    assert [(line.name, line.gone, line.come) for line in difference(before, after)] == [
        ("name", ["A"], ["B"]),
        ("about", [], ["new"]),
        ("grants", ["publish a"], ["publish c"]),
        ("all devices", [], ["yes"]),
    ]
    assert difference({}, {"all_devices": False, "reason": None}) == []
    assert difference({}, {"grants": [{"action": "publish", "filter": "x/#"}]})[0].come == ["publish x/#"]


async def test_members_who_are_demoted_see_nothing_more(
    member: httpx.AsyncClient, database: Database, porch: UUID
) -> None:
    assert (await member.get("/access")).status_code == 200
    with database.transaction() as session:
        session.execute(text("UPDATE agent_memberships SET role = 'guest' WHERE role = 'member'"))
    assert (await member.get("/access")).status_code == 403
