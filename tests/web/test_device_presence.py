"""The history of presence on a satellite's page, and the word for one that flaps."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from hub import devices, identity, presence_records
from hub.presence import Evidence, Heard, hear
from hub.presence_records import Known
from hub.uptime import Uptime
from web.pages.device_presence import duration, in_words

NOW = datetime.now(UTC)


@pytest.fixture
def porch(database, owner_token):
    """A device that was there since two hours ago, and lost its connection every ten seconds for the last minute."""
    with database.transaction() as session:
        agent = identity.find_agent(session)
        device = devices.add(session, agent.agent_id, "Porch", scopes=["presence:write"], by="test").device
        session.flush()
        before = Evidence()
        said = [Heard("state", 1, NOW - timedelta(hours=2))]
        for n in range(6):
            lost_at = NOW - timedelta(seconds=60 - n * 10)
            said.append(Heard("state", n + 1, lost_at, state="lost"))
            said.append(Heard("state", n + 2, lost_at + timedelta(seconds=5)))
        for heard in said:
            after = hear(before, heard)
            known = Known(device.device_id, agent.agent_id, device.handle, before)
            presence_records.save(session, {device.device_id: (known, after)})
            before = after
        session.execute(
            text("INSERT INTO presence_watches (since, until) VALUES (:since, :until)"),
            {"since": NOW - timedelta(days=8), "until": NOW},
        )
        return device.device_id


async def test_the_page_draws_it_and_says_it(owner, porch) -> None:
    page = (await owner.get(f"/devices/{porch}")).text
    assert page.count('class="presence-bar"') == 2
    assert page.count('class="presence-offline" x=') == 3, "one in each bar, at their very end, and one in the key"
    assert "% of the 2 h that are known" in page
    assert "by Will: the connection broke" in page
    assert "nothing was heard of it yet" in page


async def test_who_flaps_is_said_so_in_words_on_the_list_and_on_the_page(owner, porch) -> None:
    for path in ("/devices", f"/devices/{porch}"):
        page = (await owner.get(path)).text
        word = page[page.index('data-field="flapping"') :].split(">", 1)[0]
        assert "hidden" not in word
        assert "<span>flapping</span>" in page


async def test_who_does_not_is_not(owner, database, porch) -> None:
    with database.transaction() as session:
        session.execute(text("UPDATE device_presence SET flapping = false"))
    page = (await owner.get("/devices")).text
    assert "hidden" in page[page.index('data-field="flapping"') :].split(">", 1)[0]


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (Uptime(0, 0, 86_400), "nothing is known"),
        (Uptime(86_400, 0, 0), "100 % of the time"),
        (Uptime(86_399, 1, 0), "99.9 % of the time"),
        (Uptime(3600, 3600, 79_200), "50 % of the 2 h that are known"),
    ],
)
def test_a_share_says_of_what(found, words):
    assert in_words(found) == words


def test_lengths_of_time():
    said = [duration(seconds) for seconds in (0, 59, 60, 3599, 3600, 19_200, 172_800, 360_000)]
    assert said == ["0 s", "59 s", "1 min", "59 min", "1 h", "5 h 20 min", "2 d", "4 d 4 h"]
