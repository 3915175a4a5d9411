"""The HTTP door: closed to whoever does not know the secret, and an explicit deny for everything that goes wrong."""

import base64
import json
import uuid

import httpx
import psycopg
import pytest
from psycopg import sql

from broker.emqx import emqx_rules
from broker.http_door import read_secret
from hub import devices
from hub.access.grants import Grant
from hub.errors import Invalid
from hub.settings import Settings

SECRET = "a-secret-of-the-tests"
ROOT = "marvain/v1"


@pytest.fixture(scope="module")
def door(shared_house, kit, tmp_path_factory):
    """A door of its own process beside the shared database."""
    folder = tmp_path_factory.mktemp("http")
    (folder / "secret").write_text(SECRET + "\n")
    port = kit.free_port()
    more = {
        "MARVAIN_BROKER": "external",
        "MARVAIN_BROKER_ADAPTER": "http",
        "MARVAIN_HTTP_AUTH_PORT": str(port),
        "MARVAIN_HTTP_AUTH_SECRET_FILE": str(folder / "secret"),
    }
    process = kit.BrokerProcess(shared_house.broker.database_url, folder / "log", more)
    process.start("http_auth.ready")
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers={"Authorization": f"Bearer {SECRET}"}) as client:
        yield client
    process.stop()
    assert "Traceback" not in process.log()
    assert SECRET not in process.log()


def login(device, token, **more):
    return {"username": device.handle, "clientid": device.handle, "password": token} | more


def publish(device, topic="event/door", **more):
    asked = {"username": device.handle, "clientid": device.handle, "action": "publish"}
    return asked | {"topic": f"{ROOT}/d/{device.handle}/{topic}"} | more


class TestClosed:
    @pytest.mark.parametrize(
        "header",
        [
            None,
            "",
            "Bearer",
            "Bearer wrong",
            f"Bearer {SECRET}x",
            f"Token {SECRET}",
            "Basic " + base64.b64encode(b"marvain:wrong").decode(),
            "Basic " + base64.b64encode(SECRET.encode()).decode(),
            "Basic not base64",
            f"Bearer {'é' * 20}".encode(),
        ],
    )
    def test_without_the_secret_everything_is_denied(self, door, house, header):
        device, token = house.add()
        headers = {"Authorization": header} if header is not None else {}
        with httpx.Client(base_url=door.base_url, headers=headers) as stranger:
            for path in ("authentication", "authentication-with-acl"):
                assert stranger.post(f"/emqx/{path}", json=login(device, token)).json() == {"result": "deny"}
            assert stranger.post("/emqx/authorization", json=publish(device)).json() == {"result": "deny"}
            assert stranger.post("/go-auth/user", json=login(device, token)).status_code == 403
            assert stranger.post("/go-auth/acl", json=publish(device) | {"acc": 2}).status_code == 403

    @pytest.mark.parametrize(
        "body",
        [
            b"",
            b"{",
            b"[]",
            b"null",
            b'{"username": 1}',
            b"\xff\xfe",
            b"{}" * 40_000,
            b'{"username":"a\\u0000"}',
            b'{"x":' + b"[" * 60_000,
        ],
    )
    def test_what_is_no_question_is_denied(self, door, body):
        for path in ("authentication", "authorization"):
            answer = door.post(f"/emqx/{path}", content=body, headers={"Content-Type": "application/json"})
            assert (answer.status_code, answer.json()) == (200, {"result": "deny"})
        for path in ("user", "acl"):
            answer = door.post(f"/go-auth/{path}", content=body)
            assert answer.status_code == 403
            assert not answer.json()["ok"]

    def test_odd_values_are_denied(self, door, house):
        device, token = house.add()
        for odd in ({"username": "a\0b"}, {"password": "x" * 5_000}, {"clientid": ""}, {"username": "x" * 10_000}):
            assert door.post("/emqx/authentication", json=login(device, token) | odd).json() == {"result": "deny"}
        for odd in ({"action": "all"}, {"topic": ""}, {"topic": "a\0"}, {"clientid": "other"}, {"topic": "\ud800"}):
            body = publish(device) | odd
            answer = door.post("/emqx/authorization", content=json.dumps(body))
            assert answer.json() == {"result": "deny"}, odd
        for acc in (0, 5, -1, 99):
            assert door.post("/go-auth/acl", json=publish(device) | {"acc": acc}).status_code == 403

    def test_nobody_is_above_the_grants(self, door):
        assert door.post("/go-auth/superuser", json={"username": "hub_service"}).status_code == 403
        answer = door.post("/emqx/authentication", json={"username": "nobody", "password": "", "clientid": "nobody"})
        assert answer.json() == {"result": "deny"}

    def test_nothing_else_is_there(self, door):
        for path in ("/", "/docs", "/openapi.json", "/emqx", "/go-auth/user/x"):
            assert door.get(path).status_code == 404
        assert door.get("/go-auth/user").status_code == 405


class TestAnswers:
    def test_a_device_gets_in_and_its_grants_with_it(self, door, house):
        device, token = house.add(scopes=["events:write"])
        assert door.post("/emqx/authentication", json=login(device, token)).json() == {
            "result": "allow",
            "is_superuser": False,
        }
        rules = door.post("/emqx/authentication-with-acl", json=login(device, token)).json()["acl"]
        assert {"permission": "allow", "action": "publish", "topic": f"{ROOT}/d/{device.handle}/event/+"} in rules
        closing = [rule for rule in rules if rule["permission"] == "deny"]
        assert rules[-len(closing) :] == closing
        assert {rule["action"] for rule in closing} == {"all"}
        assert [rule["topic"] for rule in closing][:3] == ["#", "$SYS/#", "$delayed/#"]

    def test_a_form_and_basic_authentication_will_do(self, door, house):
        device, token = house.add()
        with httpx.Client(base_url=door.base_url, auth=("marvain", SECRET)) as plugin:
            assert plugin.post("/go-auth/user", data=login(device, token)).json() == {"ok": True, "error": ""}
            asked = {"username": device.handle, "clientid": device.handle, "topic": f"{ROOT}/d/{device.handle}/hello"}
            assert plugin.post("/go-auth/acl", data=asked | {"acc": "2"}).status_code == 200
            refused = plugin.post("/go-auth/acl", data=asked | {"acc": "3"})
            assert refused.status_code == 403
            assert device.handle in refused.json()["error"]

    def test_what_is_refused_is_recorded_with_its_reason(self, door, house):
        device, _ = house.add()
        door.post("/emqx/authorization", json=publish(device, "welcome"))
        assert house.denial(device.handle, "may only subscribe to it").topic.endswith("/welcome")

    def test_one_that_is_refused_much_does_not_hide_what_others_are_refused(self, door, house):
        noisy, device = house.add()[0], house.add()[0]
        for number in range(110):
            door.post("/emqx/authorization", json=publish(noisy, f"no/{number}"))
        door.post("/go-auth/acl", json=publish(device, "welcome") | {"acc": 2})
        assert house.denial(device.handle, "may only subscribe to it").topic.endswith("/welcome")

    def test_a_change_is_effective_at_once(self, door, house, kit):
        device, token = house.add()
        assert door.post("/emqx/authorization", json=publish(device)).json() == {"result": "allow"}
        with house.database.transaction() as session:
            devices.revoke(session, session.merge(device), reason="lost", by="tests")
        kit.wait_until(lambda: door.post("/emqx/authorization", json=publish(device)).json() == {"result": "deny"}, 1)
        assert door.post("/emqx/authentication", json=login(device, token)).json() == {"result": "deny"}


def test_the_database_away_is_a_deny(own_house, kit, tmp_path, postgres_url):
    """And when it is back, the door answers again."""
    device, _ = own_house.add()
    (tmp_path / "secret").write_text(SECRET)
    port = kit.free_port()
    more = {
        "MARVAIN_BROKER": "external",
        "MARVAIN_BROKER_ADAPTER": "http",
        "MARVAIN_HTTP_AUTH_PORT": str(port),
        "MARVAIN_HTTP_AUTH_SECRET_FILE": str(tmp_path / "secret"),
    }
    process = kit.BrokerProcess(own_house.broker.database_url, tmp_path / "http-log", more).start("http_auth.ready")
    headers = {"Authorization": f"Bearer {SECRET}"}
    name = own_house.broker.database_url.rpartition("/")[2]
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=30) as client:

        def answer():
            return client.post("/emqx/authorization", json=publish(device)).json()["result"]

        try:
            assert answer() == "allow"
            with psycopg.connect(postgres_url, autocommit=True) as admin:
                admin.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(sql.Identifier(name)))
                admin.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE application_name LIKE 'marvain http auth%%' AND datname = %s",
                    [name],
                )
                kit.wait_until(lambda: answer() == "deny", 10)
                admin.execute(sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(sql.Identifier(name)))
            kit.wait_until(lambda: answer() == "allow", 20)
        finally:
            process.stop()


class TestRules:
    def test_a_subscription_with_a_plus_is_given_for_itself_alone(self):
        """EMQX would take `a/+` for an answer to `a/#`."""
        rules = list(emqx_rules((Grant("subscribe", "a/+", "x"), Grant("publish", "a/+", "x"))))
        assert [rule["topic"] for rule in rules[:2]] == ["eq a/+", "a/+"]

    @pytest.mark.parametrize("filter_", ["a/${username}", "eq marvain/v1/d/porch/#"])
    def test_what_emqx_would_read_as_something_else_is_not_handed_on(self, filter_):
        assert list(emqx_rules((Grant("subscribe", filter_, "x"),))) == list(emqx_rules(()))


class TestSecret:
    @pytest.mark.parametrize("content", [None, "", "short", "\n" * 40])
    def test_a_missing_or_short_secret_is_refused(self, tmp_path, content):
        file = tmp_path / "secret"
        if content is not None:
            file.write_text(content)
        settings = Settings(database_url="postgresql://nowhere/x", http_auth_secret_file=file)
        with pytest.raises(Invalid) as refused:
            read_secret(settings)
        assert refused.value.field == "http_auth_secret_file"

    def test_none_is_refused(self):
        with pytest.raises(Invalid, match="MARVAIN_HTTP_AUTH_SECRET_FILE"):
            read_secret(Settings(database_url=f"postgresql://nowhere/{uuid.uuid4().hex}"))
