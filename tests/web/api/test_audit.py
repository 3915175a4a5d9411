"""`/api/audit`: for those who may read it, filtered, and honest about the chain."""


async def test_it_takes_the_permission(bearer, home, make_user, make_token) -> None:
    guest = make_user("gil@example.org", "guest", agent_id=home.agent_id)
    for path in ("/api/audit", "/api/audit/verify"):
        assert (await bearer(make_token(guest)).get(path)).status_code == 403
        assert (await bearer(home.token).get(path)).status_code == 403


async def test_what_a_script_does_bears_the_name_of_its_token(script, home) -> None:
    made = await script.post("/api/devices", json={"name": "Shed"})
    assert made.status_code == 201
    page = (await script.get("/api/audit", params={"action": "device.added", "limit": 1})).json()
    (entry,) = page["items"]
    assert (entry["actor"], entry["actor_kind"]) == ("ben@example.org (token script)", "person")
    older = (await script.get("/api/audit", params={"action": "device.", "before": page["next"]})).json()
    assert [one["subject"] for one in older["items"]] == [home.handle]
    assert (await script.get("/api/audit/verify")).json()["whole"] is True


async def test_a_filter_that_is_none_is_named(script) -> None:
    for query in ({"kind": "ghost"}, {"before": "x"}, {"since": "2026-01-01"}, {"acter": "x"}):
        answer = await script.get("/api/audit", params=query)
        assert (answer.status_code, answer.json()["field"]) == (422, next(iter(query))), query
