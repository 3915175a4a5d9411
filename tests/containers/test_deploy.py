"""What runs inside the containers besides the services: secrets, preparation, health, a satellite's token."""

import http.server
import importlib.util
import io
import json
import os
import re
import socket
import stat
import sys
import threading
from types import ModuleType

import psycopg
import pytest

from hub.one_hub import ONE_HUB_LOCK
from hub.settings import Settings

from .conftest import DEPLOY

TOKEN = "mv1.porch." + "a" * 42 + "B"


def load(name: str) -> ModuleType:
    """A script of deploy/ as a module."""
    spec = importlib.util.spec_from_file_location(f"deploy_{name}", DEPLOY / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class TestSecrets:
    def make(self, folder):
        load("make_secrets").main(folder, os.getgid(), os.getgid())
        return {file.name: file.read_text().strip() for file in folder.iterdir()}

    def test_each_is_random_and_closed(self, tmp_path):
        made = self.make(tmp_path)
        plugin = json.loads(made.pop("dynamic-security.json"))
        assert set(made) == {"database-password", "pgpass", "hub-password", "broker-admin-password", "secrets-key"}
        assert re.fullmatch("[0-9a-f]{64}", made.pop("secrets-key"))
        assert made.pop("pgpass") == f"*:*:*:*:{made['database-password']}"
        assert len(set(made.values())) == 3
        assert all(re.fullmatch(r"[\w-]{43}", value) for value in made.values())
        modes = {file.name: stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()}
        # libpq does not read a password file that others may read.
        assert {modes[name] for name in ("pgpass", "hub-password", "broker-admin-password", "secrets-key")} == {0o600}
        assert {modes[name] for name in ("database-password", "dynamic-security.json")} == {0o440}
        assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o711
        # Mosquitto gets a hash, one client, and no right that all have.
        assert made["broker-admin-password"] not in json.dumps(plugin)
        assert [client["username"] for client in plugin["clients"]] == [
            Settings.model_fields["broker_admin_username"].default
        ]
        assert not any(plugin["defaultACLAccess"].values())

    def test_a_second_run_changes_nothing_and_an_unfinished_one_is_finished(self, tmp_path):
        first = self.make(tmp_path)
        assert self.make(tmp_path) == first
        (tmp_path / "hub-password").rename(tmp_path / ".hub-password.new")
        (tmp_path / "pgpass").unlink()
        second = self.make(tmp_path)
        assert second["pgpass"] == first["pgpass"]
        assert second["hub-password"] != first["hub-password"]
        assert second["secrets-key"] == first["secrets-key"]
        assert len(second) == 6


class TestToken:
    @pytest.fixture
    def keep(self, tmp_path, monkeypatch):
        def keep(text):
            monkeypatch.setenv("MARVAIN_SATELLITE_TOKEN_FILE", str(tmp_path / "token"))
            monkeypatch.setattr(sys, "stdin", io.StringIO(text))
            return load("keep_token").main()

        return keep

    @pytest.mark.parametrize(
        "text", ["", "no token here", TOKEN[:-1], TOKEN + "x", TOKEN.upper(), f"{TOKEN} mv1.hall.{'c' * 43}"]
    )
    def test_none_or_two_are_refused_and_not_repeated(self, text, keep, tmp_path, capfd):
        (tmp_path / "token").write_text("the one before")
        assert keep(text) == 2
        assert "mv1.porch" not in "".join(capfd.readouterr())
        assert (tmp_path / "token").read_text() == "the one before"

    @pytest.mark.parametrize("text", [TOKEN, f'{{"handle": "porch", "token": "{TOKEN}"}}', f"x {TOKEN}\ny '{TOKEN}'\n"])
    def test_the_token_of_what_the_command_printed_is_kept(self, text, keep, tmp_path, capfd):
        assert keep(text) == 0
        assert capfd.readouterr() == ("", "")
        assert (tmp_path / "token").read_text() == TOKEN + "\n"
        assert stat.S_IMODE((tmp_path / "token").stat().st_mode) == 0o600


class TestPrepare:
    @pytest.fixture
    def prepare(self, tmp_path, monkeypatch):
        (tmp_path / "secrets").mkdir()
        monkeypatch.setenv("MARVAIN_DATA", str(tmp_path))
        monkeypatch.setenv("MARVAIN_PUBLIC_WEB", "http://hub.example:8000")

        def prepare(database_url):
            monkeypatch.setenv("MARVAIN_DATABASE_URL", database_url)
            return load("prepare").main()

        return prepare

    def test_without_a_database_it_says_so(self, prepare, tmp_path, capfd):
        assert prepare(f"postgresql://marvain:quiet@/marvain?host={tmp_path}") == 69
        said = capfd.readouterr()
        assert said.err.startswith("prepare: ")
        assert "quiet" not in said.out + said.err

    def test_it_tells_the_way_in(self, prepare, database_url, tmp_path, capfd):
        assert prepare(database_url) == 0
        said = capfd.readouterr()
        link = re.search(r"http://hub\.example:8000/setup/(\S+)", said.out)[1]
        assert link not in said.err
        assert (tmp_path / "secrets/hub-password").read_text().strip() not in said.out + said.err
        with psycopg.connect(database_url) as connection:
            assert connection.execute("SELECT count(*) FROM one_time_links").fetchone() == (1,)


class TestHealth:
    @pytest.fixture
    def health(self):
        return load("health")

    def test_exit_codes(self, health, monkeypatch, capfd):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            monkeypatch.setenv("MARVAIN_WEB_PORT", str(taken.getsockname()[1]))
            monkeypatch.setattr(sys, "argv", ["health.py", "web"])
            assert health.main() == 1
        assert capfd.readouterr().err.startswith("web: it does not answer")

    def test_no_database_is_not_well(self, health, monkeypatch, tmp_path):
        monkeypatch.setenv("MARVAIN_DATABASE_URL", f"postgresql:///marvain?host={tmp_path}")
        with pytest.raises(psycopg.OperationalError):
            health.hub()

    def test_hub(self, health, database_url, monkeypatch):
        monkeypatch.setenv("MARVAIN_DATABASE_URL", database_url)
        assert health.LOCK == ONE_HUB_LOCK
        assert health.hub() == "no hub is at work"
        with psycopg.connect(database_url, autocommit=True) as connection:
            connection.execute("SELECT pg_advisory_lock(%s)", [ONE_HUB_LOCK])
            assert health.hub() == ""
            connection.execute(
                "INSERT INTO outbox (topic, payload, created_at) VALUES ('t', '', now() - interval '1 h')"
            )
            assert health.hub() == "messages wait for the broker"

    def test_broker(self, health, database_url, monkeypatch):
        monkeypatch.setenv("MARVAIN_DATABASE_URL", database_url)
        assert health.broker() == "no report for 60 s"
        with psycopg.connect(database_url, autocommit=True) as connection:
            connection.execute(
                "INSERT INTO broker_state (kind, started_at, reported_at)"
                " VALUES ('dynsec', now(), now() - interval '1 h')"
            )
            assert health.broker() == "no report for 60 s"
            connection.execute("UPDATE broker_state SET reported_at = now()")
            assert health.broker() == ""

    def test_web(self, health, monkeypatch):
        class Page(http.server.BaseHTTPRequestHandler):
            status = 503

            def do_GET(self):
                self.send_response(self.status if self.path == "/sign-in" else 404)
                self.end_headers()

            def log_message(self, *_):
                pass

        with http.server.HTTPServer(("127.0.0.1", 0), Page) as server:
            thread = threading.Thread(target=server.serve_forever, args=(0.01,))
            thread.start()
            monkeypatch.setenv("MARVAIN_WEB_PORT", str(server.server_port))
            try:
                assert health.web() == "it answers 503"
                Page.status = 200
                assert health.web() == ""
            finally:
                server.shutdown()
                thread.join()
        assert health.web().startswith("it does not answer")
