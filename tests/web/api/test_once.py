"""A request that is sent twice: done once, answered the same, and never mistaken for another."""

import asyncio

from sqlalchemy import text


async def test_the_same_request_twice_is_one_device(script, database) -> None:
    headers = {"Idempotency-Key": "k1"}
    first = await script.post("/api/devices", json={"name": "Shed"}, headers=headers)
    again = await script.post("/api/devices", json={"name": "Shed"}, headers=headers)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.headers["idempotency-replayed"] == "true"
    assert first.json()["device"] == again.json()["device"]
    with database.transaction() as session:
        assert session.execute(text("SELECT count(*) FROM devices WHERE name = 'Shed'")).scalar() == 1


async def test_a_secret_is_not_kept_for_the_second_answer(script, database) -> None:
    headers = {"Idempotency-Key": "k1"}
    first = (await script.post("/api/devices", json={"name": "Shed"}, headers=headers)).json()
    again = (await script.post("/api/devices", json={"name": "Shed"}, headers=headers)).json()
    assert first["token"].startswith("mv1.shed.")
    assert again["token"] is None
    with database.transaction() as session:
        kept = session.execute(text("SELECT body::text FROM idempotency_keys")).scalar()
    assert first["token"] not in kept


async def test_another_request_under_the_same_key_is_a_conflict(script) -> None:
    headers = {"Idempotency-Key": "k1"}
    await script.post("/api/devices", json={"name": "Shed"}, headers=headers)
    other = await script.post("/api/devices", json={"name": "Barn"}, headers=headers)
    assert (other.status_code, other.json()["field"]) == (409, "Idempotency-Key")
    elsewhere = await script.post("/v1/events", json={"type": "x"}, headers=headers)
    assert elsewhere.status_code == 409


async def test_what_failed_may_be_tried_again(script) -> None:
    headers = {"Idempotency-Key": "k1"}
    failed = await script.post("/api/devices", json={"name": "Shed", "space": "nowhere"}, headers=headers)
    assert failed.status_code == 404
    assert (await script.post("/api/devices", json={"name": "Shed"}, headers=headers)).status_code == 201


async def test_keys_of_others_do_not_matter(script, bearer, home) -> None:
    headers = {"Idempotency-Key": "k1"}
    assert (await script.post("/v1/events", json={"type": "x"}, headers=headers)).status_code == 201
    other = await bearer(home.token).post("/v1/events", json={"type": "y"}, headers=headers)
    assert other.status_code == 201


async def test_both_at_once_are_one(script, database) -> None:
    headers = {"Idempotency-Key": "k1"}
    calls = [script.post("/v1/events", json={"type": "x"}, headers=headers) for _ in range(5)]
    answers = await asyncio.gather(*calls)
    assert len({one.json()["event_id"] for one in answers}) == 1
    with database.transaction() as session:
        assert session.execute(text("SELECT count(*) FROM events")).scalar() == 1


async def test_a_key_is_visible_ascii(script) -> None:
    for key in ("", "a b", "x" * 201):
        answer = await script.post("/v1/events", json={"type": "x"}, headers={"Idempotency-Key": key})
        assert (answer.status_code, answer.json()["field"]) == (422, "Idempotency-Key"), key
