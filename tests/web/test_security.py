"""The guard: other sites, missing origins, big bodies and faults get nowhere; every answer bears the headers."""

import gzip
from collections.abc import Callable

import httpx
import pytest
from fastapi import FastAPI
from sqlalchemy import text
from starlette.datastructures import Headers
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from hub.database import Database
from hub.errors import Conflict, Forbidden, Invalid, NotFound, Throttled
from hub.settings import Settings
from web.app import create_app
from web.dependencies import Db
from web.security import CONTENT_SECURITY_POLICY, MAX_BODY, refusal
from web.templating import local_path

NewClient = Callable[..., httpx.AsyncClient]
HEADERS = {
    "content-security-policy": CONTENT_SECURITY_POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}


@pytest.mark.parametrize(
    ("headers", "why"),
    [
        ({"sec-fetch-site": "cross-site", "origin": "http://hub.test:8000"}, "another site"),
        ({"sec-fetch-site": "same-site"}, "another site"),
        ({"origin": "http://evil.test:8000"}, "Origin"),
        ({"origin": "http://hub.test"}, "Origin"),
        ({"origin": "http://hub.test:8000.evil.test"}, "Origin"),
        ({"origin": "null"}, "Origin"),
        ({"origin": ""}, "Origin"),
        ({"origin": "http://["}, "Origin"),
        ({"sec-fetch-site": "same-origin", "origin": "http://evil.test"}, "Origin"),
        ({}, "does not say"),
    ],
)
def test_what_another_site_can_send_is_refused(headers: dict[str, str], why: str) -> None:
    assert why in (refusal(Headers({"host": "hub.test:8000", **headers}), has_session=True) or "fine")


@pytest.mark.parametrize(
    ("headers", "has_session"),
    [
        ({"sec-fetch-site": "same-origin", "origin": "http://hub.test:8000"}, True),
        ({"sec-fetch-site": "none"}, True),
        ({"origin": "http://HUB.test:8000"}, True),
        ({"origin": "https://hub.test:8000"}, True),
        ({}, False),
    ],
)
def test_what_our_own_pages_and_plain_programs_send_is_fine(headers: dict[str, str], has_session: bool) -> None:  # noqa: FBT001
    assert refusal(Headers({"host": "hub.test:8000", **headers}), has_session=has_session) is None


async def test_a_cross_site_post_changes_nothing(owner: httpx.AsyncClient) -> None:
    answer = await owner.post("/sign-out", headers={"Origin": "http://evil.test"})
    assert answer.status_code == 403
    assert "refused because" in answer.text
    assert (await owner.get("/account")).status_code == 200


async def test_a_cookie_without_any_origin_is_refused(new_client: NewClient, owner_token: str) -> None:
    answer = await new_client(token=owner_token, headers={}).post("/sign-out")
    assert answer.status_code == 403


def test_a_page_of_another_site_gets_no_websocket(served: str) -> None:
    address = served.replace("http://", "ws://") + "/mqtt"
    with pytest.raises(InvalidStatus) as refused, connect(address, origin="http://evil.test", subprotocols=["mqtt"]):
        pass
    assert refused.value.response.status_code == 403


@pytest.mark.parametrize("path", ["/sign-in", "/healthz", "/nowhere", "/devices", "/setup/nonsense"])
async def test_every_answer_bears_the_headers(client: httpx.AsyncClient, path: str) -> None:
    answer = await client.get(path)
    assert HEADERS.items() <= dict(answer.headers).items()
    assert answer.headers["cache-control"] == "no-store"
    assert "strict-transport-security" not in answer.headers
    assert "'unsafe" not in CONTENT_SECURITY_POLICY


async def test_over_tls_the_browser_is_kept_there(new_client: NewClient) -> None:
    answer = await new_client(base_url="https://hub.test").get("/sign-in")
    assert answer.headers["strict-transport-security"].startswith("max-age=")


async def test_bodies_are_limited_told_or_not(client: httpx.AsyncClient) -> None:
    big = b"email=" + b"x" * MAX_BODY

    async def untold() -> object:
        for start in range(0, len(big), 65_536):
            yield big[start : start + 65_536]

    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    assert (await client.post("/sign-in", content=big, headers=kind)).status_code == 413
    assert (await client.post("/sign-in", content=untold(), headers=kind)).status_code == 413
    lie = {**kind, "Content-Length": "many"}
    assert (await client.post("/sign-in", content=b"", headers=lie)).status_code == 400


@pytest.mark.parametrize(
    "body",
    [b"\xff\xfe\x00", b"email=%00%00&password=%00", b"email=a&email=b&password", b"email=" + b"%F0%9F%92%A9" * 200],
)
async def test_odd_forms_are_answered_in_order(client: httpx.AsyncClient, body: bytes) -> None:
    answer = await client.post("/sign-in", content=body, headers={"Content-Type": "application/x-www-form-urlencoded"})
    assert 400 <= answer.status_code < 500


def raiser(app: FastAPI, error: Exception) -> None:
    @app.get("/raise")
    def fail() -> None:
        raise error


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Invalid("The name is too long.", field="name"), 422),
        (Forbidden("Not you."), 403),
        (NotFound("Gone."), 404),
        (Conflict("Somebody was faster."), 409),
        (Throttled("Wait.", retry_after_s=3), 429),
    ],
)
async def test_refusals_are_a_page_a_toast_or_problem_json(
    app: FastAPI, new_client: NewClient, error: Exception, status: int
) -> None:
    raiser(app, error)
    page = await new_client().get("/raise")
    assert page.status_code == status
    assert page.headers["content-type"].startswith("text/html")
    assert str(error) in page.text

    part = await new_client(headers={"HX-Request": "true"}).get("/raise")
    assert part.status_code == status
    assert part.headers["hx-reswap"] == "none"
    assert str(error) in part.headers["hx-trigger"]

    problem = await new_client(headers={}).get("/raise")
    assert problem.headers["content-type"] == "application/problem+json"
    body = problem.json()
    assert (body["status"], body["detail"]) == (status, str(error))
    assert body.get("field") == ("name" if status == 422 else None)
    assert ("retry-after" in problem.headers) == (status == 429)


async def test_a_fault_shows_a_reference_and_no_trace(app: FastAPI, new_client: NewClient) -> None:
    raiser(app, RuntimeError("secret detail"))
    for headers in ({"Accept": "text/html"}, {}):
        answer = await new_client(headers=headers).get("/raise")
        assert answer.status_code == 500
        assert "secret detail" not in answer.text
        assert "Traceback" not in answer.text
        assert "eference" in answer.text
        assert HEADERS.items() <= dict(answer.headers).items()


async def test_a_commit_that_fails_is_an_error_answer(
    app: FastAPI, client: httpx.AsyncClient, database: Database
) -> None:
    with database.transaction() as session:
        session.execute(text("CREATE TABLE late (n int, CONSTRAINT late_key UNIQUE (n) DEFERRABLE INITIALLY DEFERRED)"))

    @app.get("/late")
    def late(session: Db) -> dict[str, str]:
        session.execute(text("INSERT INTO late VALUES (1), (1)"))
        return {"status": "done"}

    answer = await client.get("/late")
    assert answer.status_code == 409
    assert "done" not in answer.text


async def test_what_is_answered_is_committed(app: FastAPI, client: httpx.AsyncClient, database: Database) -> None:
    @app.get("/write")
    def write(session: Db) -> dict[str, str]:
        session.execute(text("INSERT INTO agents (name) VALUES ('Garden')"))
        return {"status": "done"}

    @app.get("/half")
    def half(session: Db) -> None:
        session.execute(text("INSERT INTO agents (name) VALUES ('Attic')"))
        raise Conflict("Changed my mind.")

    assert (await client.get("/write")).json() == {"status": "done"}
    assert (await client.get("/half")).status_code == 409
    with database.transaction() as session:
        assert session.execute(text("SELECT name FROM agents")).scalars().all() == ["Garden"]


async def test_a_database_that_is_away_is_said_so(new_client: NewClient) -> None:
    lost = create_app(Settings(database_url="postgresql://nobody@127.0.0.1:1/none"))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=lost), base_url="http://hub.test") as client:
        answer = await client.get("/sign-in", headers={"Accept": "text/html"})
    lost.state.database.close()
    assert answer.status_code == 503
    assert "database did not answer" in answer.text


@pytest.mark.parametrize(
    "path",
    ["//evil.test", "/\\evil.test", "https://evil.test", "javascript:alert(1)", "/\t/evil.test", "/a\nb", "evil", ""],
)
def test_nobody_is_sent_to_another_site(path: str) -> None:
    assert local_path(path, "/devices") == "/devices"


def test_local_paths_stay() -> None:
    assert local_path("/events?type=door_open#x") == "/events?type=door_open#x"


async def test_static_files_are_packed_and_kept_under_their_build(app: FastAPI, client: httpx.AsyncClient) -> None:
    url = app.state.assets.url("vendor/mqtt-5.16.0.esm.js")
    async with client.stream("GET", url, headers={"Accept-Encoding": "gzip"}) as answer:
        packed = b"".join([part async for part in answer.aiter_raw()])
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert answer.headers["content-type"].startswith("text/javascript")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert len(packed) < 110_000
    plain = await client.get(url, headers={"Accept-Encoding": "identity"})
    assert gzip.decompress(packed) == plain.content
    again = await client.get(url, headers={"If-None-Match": answer.headers["etag"]})
    assert again.status_code == 304
    old = await client.get(url.replace(app.state.assets.build, "0" * 12))
    assert old.headers["cache-control"] == "no-cache"


@pytest.mark.parametrize("name", ["../app.py", "..%2fapp.py", "%2e%2e/app.py", "/etc/passwd", "vendor", "", "js/\0.js"])
async def test_no_request_names_a_path_on_disk(client: httpx.AsyncClient, name: str) -> None:
    answer = await client.get(f"/static/x/{name.replace(chr(0), '%00')}")
    assert answer.status_code in {404, 405}
    assert "create_app" not in answer.text


@pytest.mark.parametrize(
    "headers",
    [{"Host": "["}, {"Host": "hub.test:x"}, {"Origin": "http://["}, {"Referer": "http://["}, {"HX-Current-URL": "//["}],
)
@pytest.mark.parametrize("path", ["/devices", "/sign-in", "/static/x/y"])
async def test_odd_headers_are_no_faults(new_client: NewClient, headers: dict[str, str], path: str) -> None:
    more = {"HX-Request": "true"} if "HX-Current-URL" in headers else {}
    client = new_client(headers={"Accept": "text/html", **more, **headers})
    for method in ("GET", "POST"):
        answer = await client.request(method, path)
        assert answer.status_code < 500
        assert "content-security-policy" in answer.headers or path.startswith("/static/")
