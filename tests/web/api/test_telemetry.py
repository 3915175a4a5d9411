"""Telemetry over HTTP: refused first; then what devices send, people read, as series and as files."""

import csv
import io
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from hub import device_views
from hub.telemetry import export, rollups, samples
from hub.telemetry.samples import NewSamples


def stored(database):
    with database.transaction() as session:
        return session.execute(text("SELECT at, value FROM telemetry_samples ORDER BY at")).all()


@pytest.fixture
def fill(database):
    """Store samples of a place's device without asking anybody."""

    def fill(place, pairs, stream="temperature"):
        with database.transaction() as session:
            assert not samples.append(session, [NewSamples(place.device_id, place.agent_id, stream, pairs)])

    return fill


async def test_strangers_and_devices_without_the_scope_are_refused(bearer, make_place, database) -> None:
    place = make_place("Home", scopes=["events:write"])
    assert (await bearer().post("/v1/telemetry/t", content="1")).status_code == 401
    answer = await bearer(place.token).post("/v1/telemetry/t", content="1")
    assert (answer.status_code, "telemetry:write" in answer.json()["detail"]) == (403, True)
    assert stored(database) == []


async def test_people_send_no_samples_and_devices_read_none(bearer, script, home) -> None:
    assert (await script.post("/v1/telemetry/t", content="1")).status_code == 403
    path = f"/api/devices/{home.device_id}/telemetry"
    for each in (path, f"{path}/t", f"{path}/t.csv"):
        assert (await bearer(home.token).get(each)).status_code == 403


@pytest.mark.parametrize(("role", "status"), [("guest", 403), ("member", 200)])
async def test_members_read_and_guests_do_not(bearer, home, make_user, make_token, fill, role, status) -> None:
    fill(home, [(datetime.now(UTC), 1.0)])
    client = bearer(make_token(make_user("gus@example.org", role, agent_id=home.agent_id)))
    path = f"/api/devices/{home.device_id}/telemetry"
    for each in (path, f"{path}/temperature", f"{path}/temperature.csv"):
        assert (await client.get(each)).status_code == status
    assert (await client.delete(f"{path}/temperature")).status_code == 403


async def test_what_is_another_agents_is_not_found(script, home, elsewhere, fill, database) -> None:
    fill(elsewhere, [(datetime.now(UTC), 1.0)])
    path = f"/api/devices/{elsewhere.device_id}/telemetry"
    for each in (path, f"{path}/temperature", f"{path}/temperature.csv"):
        assert (await script.get(each)).status_code == 404
        assert (await script.get(each, params={"agent": str(elsewhere.agent_id)})).status_code == 404
    assert (await script.delete(f"{path}/temperature")).status_code == 404
    assert len(stored(database)) == 1


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ("", "body"),
        ("warm", "body"),
        ("true", "body"),
        ("NaN", "body"),
        ("1e999", "body"),
        ("[]", "body"),
        ('{"value":1}', "at"),
        ('{"at":"2026-01-01T00:00:00Z","value":true}', "value"),
        ('{"at":"2001-01-01T00:00:00Z","value":1}', "at"),
        ('[{"at":"2999-01-01T00:00:00Z","value":1}]', "[0].at"),
    ],
)
async def test_bad_samples_name_their_field_and_store_nothing(bearer, home, database, body, field) -> None:
    answer = await bearer(home.token).post("/v1/telemetry/temperature", content=body)
    assert (answer.status_code, answer.json()["field"]) == (422, field)
    assert stored(database) == []
    assert (await bearer(home.token).post("/v1/telemetry/a.b", content="1")).status_code == 422


async def test_samples_are_stored_once_and_are_a_sign_of_life(bearer, home, database) -> None:
    client = bearer(home.token)
    at = datetime.now(UTC) - timedelta(minutes=3)
    for _ in range(2):
        answer = await client.post("/v1/telemetry/temperature", json=[{"at": at.isoformat(), "value": 21.5}])
        assert (answer.status_code, answer.json()) == (200, {"stream": "temperature", "samples": 1})
    assert stored(database) == [(at, 21.5)]
    with database.transaction() as session:
        view = device_views.view(session, home.agent_id, home.device_id)
    assert (view.presence, view.why) == ("online", "heard over HTTP (telemetry)")


async def test_one_stream_too_many_is_refused(bearer, home, fill) -> None:
    for number in range(samples.STREAMS_MAX):
        fill(home, [(datetime.now(UTC), 1.0)], f"s{number}")
    answer = await bearer(home.token).post("/v1/telemetry/more", content="1")
    assert (answer.status_code, answer.json()["field"]) == (409, "stream")


async def test_streams_series_and_forgetting(script, home, fill) -> None:
    now = datetime.now(UTC)
    fill(home, [(now - timedelta(seconds=second), float(second)) for second in range(1, 61)])
    path = f"/api/devices/{home.device_id}/telemetry"
    [one] = (await script.get(path)).json()["items"]
    assert (one["name"], one["last_value"]) == ("temperature", 1.0)
    since = (now - timedelta(seconds=61)).isoformat()
    found = (await script.get(f"{path}/temperature", params={"since": since, "points": 10})).json()
    assert (found["source"], len(found["points"]) <= 10, sum(one["count"] for one in found["points"])) == (
        "raw",
        True,
        60,
    )
    assert (await script.get(f"{path}/humidity")).status_code == 404
    assert (await script.delete(f"{path}/temperature")).status_code == 204
    assert (await script.get(path)).json() == {"items": []}
    assert (await script.get(f"{path}/temperature.csv")).status_code == 404


@pytest.mark.parametrize(
    ("question", "field"),
    [
        ({"since": "2026-01-02T00:00:00Z", "until": "2026-01-01T00:00:00Z"}, "since"),
        ({"since": "1990-01-02T00:00:00Z"}, "since"),
        ({"until": "0001-01-01T00:00:00Z"}, "until"),
        ({"since": "2026-01-02T00:00:00"}, "since"),
        ({"points": 1}, "points"),
        ({"points": 1001}, "points"),
    ],
)
async def test_what_cannot_be_asked_is_named(script, home, fill, question, field) -> None:
    fill(home, [(datetime.now(UTC), 1.0)])
    answer = await script.get(f"/api/devices/{home.device_id}/telemetry/temperature", params=question)
    assert (answer.status_code, answer.json()["field"]) == (422, field)


async def test_a_file_holds_all_of_it_in_pages(script, home, fill, monkeypatch) -> None:
    monkeypatch.setattr(export, "PAGE", 7)
    now = datetime.now(UTC)
    wanted = [(now - timedelta(seconds=second), second / 2) for second in range(50, 0, -1)]
    fill(home, wanted)
    answer = await script.get(f"/api/devices/{home.device_id}/telemetry/temperature.csv")
    assert answer.headers["content-type"].startswith("text/csv")
    assert answer.headers["content-disposition"] == f'attachment; filename="{home.handle}-temperature-raw.csv"'
    rows = list(csv.DictReader(io.StringIO(answer.text, newline="")))
    assert [(datetime.fromisoformat(row["at"]), float(row["value"])) for row in rows] == wanted


async def test_a_file_of_hours(script, home, fill, database) -> None:
    fill(home, [(datetime.now(UTC) - timedelta(hours=3), 2.0)])
    with database.transaction() as session:
        rollups.downsample(session)
    path = f"/api/devices/{home.device_id}/telemetry/temperature.csv"
    answer = await script.get(path, params={"source": "hours"})
    [row] = csv.DictReader(io.StringIO(answer.text, newline=""))
    assert {name: row[name] for name in ("min", "max", "mean", "count", "last")} == {
        "min": "2.0",
        "max": "2.0",
        "mean": "2.0",
        "count": "1",
        "last": "2.0",
    }
    old = await script.get(path, params={"since": (datetime.now(UTC) - timedelta(days=80)).isoformat()})
    assert "temperature-minutes.csv" in old.headers["content-disposition"]
