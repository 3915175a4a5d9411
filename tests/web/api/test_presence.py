"""Presence over time over HTTP: who may ask, what is refused, and what the answer counts."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from hub import presence_history, presence_records
from hub.presence import Evidence, Heard, hear
from hub.presence_records import Known


@pytest.fixture
def now():
    """Of this test: the module may have been read a quarter of an hour ago."""
    return datetime.now(UTC)


@pytest.fixture
def lived(database, home, now):
    """The home's device was there for six of the last ten hours; before that nobody had heard of it."""
    with database.transaction() as session:
        known = Known(home.device_id, home.agent_id, home.handle, Evidence())
        on = hear(known.evidence, Heard("state", 1, now - timedelta(hours=10)))
        off = hear(on, Heard("state", 1, now - timedelta(hours=4), state="lost"))
        presence_records.save(session, {home.device_id: (known, on)})
        presence_records.save(session, {home.device_id: (Known(*_ids(home), on), off)})
        session.execute(
            text("INSERT INTO presence_watches (since, until) VALUES (:since, :until)"),
            # A hub that goes on watching while the test asks.
            {"since": now - timedelta(days=2), "until": now + timedelta(hours=1)},
        )
    return f"/api/devices/{home.device_id}/presence"


def _ids(place):
    return place.device_id, place.agent_id, place.handle


async def test_strangers_and_devices_are_refused(bearer, home, lived) -> None:
    assert (await bearer().get(lived)).status_code == 401
    assert (await bearer(home.token).get(lived)).status_code == 403


async def test_another_agents_device_is_not_found(script, elsewhere) -> None:
    assert (await script.get(f"/api/devices/{elsewhere.device_id}/presence")).status_code == 404


async def test_guests_see_it_and_a_token_without_the_scope_does_not(bearer, lived, home, make_user, make_token) -> None:
    gus = make_user("gus@example.org", "guest", agent_id=home.agent_id)
    assert (await bearer(make_token(gus)).get(lived)).status_code == 200
    assert (await bearer(make_token(gus, "events:read")).get(lived)).status_code == 403


async def test_what_is_known_is_counted_and_what_is_not_is_said(script, lived, now) -> None:
    answer = (await script.get(lived)).json()
    assert (answer["presence"], answer["flapping"]) == ("offline", False)
    assert [span["presence"] for span in answer["spans"]] == ["unknown", "online", "offline"]
    assert answer["spans"][2]["why"] == "by Will: the connection broke"
    assert answer["uptime"]["ratio"] == pytest.approx(0.6, abs=0.001)
    assert answer["uptime"]["unknown_s"] == pytest.approx(14 * 3600, abs=60)
    since = (now - timedelta(hours=6)).isoformat()
    part = (await script.get(lived, params={"since": since})).json()
    assert part["uptime"]["ratio"] == pytest.approx(2 / 6, abs=0.001)


async def test_a_span_that_cannot_be_is_refused_and_a_long_one_bounded(script, lived, now) -> None:
    later = (now + timedelta(hours=1)).isoformat()
    refused = await script.get(lived, params={"since": later})
    assert (refused.status_code, "`until`" in refused.json()["detail"]) == (422, True)
    old = {"since": "2001-01-01T00:00:00Z", "until": "2001-01-02T00:00:00Z"}
    assert (await script.get(lived, params=old)).status_code == 422
    long = (await script.get(lived, params={"since": "2001-01-01T00:00:00Z"})).json()
    begins = datetime.fromisoformat(long["spans"][0]["since"])
    assert begins > now - presence_history.KEPT - timedelta(minutes=1)
