"""`marvain-satellite enrol` against a hub played by hand: what it refuses, what it waits for, and what it keeps."""

import json
import signal
import ssl
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from .conftest import TOKEN, clean_env, wait_until

CODE = "K7QF-2M9X-W3TE-0HVB"
ID = "00000000-0000-4000-8000-000000000001"
PENDING = {"enrolment_id": ID, "state": "pending", "phrase": "amber tiger kettle", "secret": "s" * 43}
MQTT = {"host": "127.0.0.1", "port": 1883, "tls": False, "root": "marvain/v1"}
APPROVED = {"enrolment_id": ID, "state": "approved", "phrase": "amber tiger kettle", "token": TOKEN, "mqtt": MQTT}


class Web:
    """Answers each question with the next of `answers` (status, body, headers), the last one for ever."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, str], Any]] = []
        self.answers: list[tuple[int, Any, dict[str, str]]] = []
        web = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                web.asked.append((self.path, dict(self.headers), body))
                status, content, headers = web.answers.pop(0) if len(web.answers) > 1 else web.answers[0]
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content if isinstance(content, bytes) else json.dumps(content).encode())

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def says(self, *answers: tuple[int, Any] | tuple[int, Any, dict[str, str]]) -> None:
        self.answers = [(*one, {}) if len(one) == 2 else one for one in answers]


@pytest.fixture
def web() -> Iterator[Web]:
    running = Web()
    yield running
    running.server.shutdown()
    running.server.server_close()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--code", CODE], "hub: is required"),
        (["--code", CODE, "--hub", "hub.example.org"], "hub: must look like"),
        (["--code", CODE, "--hub", "mqtt://hub.example.org"], "hub: must look like"),
        (["--code", CODE, "--hub", "https://me:pw@hub.example.org"], "hub: must look like"),
        (["--code", CODE, "--hub", "https://hub.example.org/some/where"], "hub: must look like"),
        (["--code", CODE, "--hub", "http://192.0.2.1:8000"], "hub: is plain HTTP"),
        (["--code", f"http://192.0.2.1:8000/enrol#code={CODE}"], "hub: is plain HTTP"),
        (["--code", "x", "--hub", "https://hub.example.org"], "code: must be"),
        (["--code", CODE, "--hub", "https://hub.example.org", "--ca", "/nowhere"], "ca_file: there is no file"),
    ],
)
def test_a_wrong_setting_is_named_and_nothing_is_sent(cli, arguments, says):
    done = cli("enrol", *arguments)
    assert done.returncode == 78, done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ((404, {"detail": "this code does not work"}), "this code does not work"),
        ((403, {"detail": "it was rejected: \x1b[2Jnot ours"}), r"rejected: \x1b[2Jnot ours"),
        ((410, {"detail": "it waited too long"}), "it waited too long"),
        ((302, {}, {"Location": "http://127.0.0.1:1/"}), "leads elsewhere"),
    ],
)
def test_a_no_is_final(cli, web, state_dir, answer, says):
    web.says(answer)
    done = cli("enrol", "--hub", web.url, "--code", CODE)
    assert done.returncode == 77, done.stderr
    assert says in done.stderr
    assert len(web.asked) == 1
    assert list(state_dir.iterdir()) == []


@pytest.mark.parametrize(
    "answer",
    [
        b"<html>another program",
        b"[]",
        APPROVED | {"token": "not a token"},
        APPROVED | {"mqtt": {"host": "a b", "port": 1, "tls": False, "root": "x"}},
        APPROVED | {"mqtt": None},
    ],
)
def test_an_answer_that_is_no_hubs_is_not_kept(cli, web, state_dir, answer):
    web.says((200, answer))
    done = cli("enrol", "--hub", web.url, "--code", CODE, "--timeout", "1")
    assert done.returncode == 69, done.stderr
    assert "no Marvain hub" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(state_dir.iterdir()) == []


def test_over_tls_only_a_certificate_that_is_trusted_hears_the_code(cli, web, tmp_path, state_dir):
    cert, key = tmp_path / "hub.crt", tmp_path / "hub.key"
    making = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    naming = ["-subj", "/CN=hub", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run([*making, *naming, "-keyout", key, "-out", cert], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    web.server.socket = context.wrap_socket(web.server.socket, server_side=True)
    hub = web.url.replace("http:", "https:")
    web.says((201, APPROVED | {"mqtt": MQTT | {"tls": True}}))
    refused = cli("enrol", "--hub", hub, "--code", CODE)
    assert refused.returncode == 78
    assert "certificate is not trusted" in refused.stderr
    assert web.asked == []
    done = cli("enrol", "--hub", hub, "--code", CODE, "--ca", str(cert))
    assert done.returncode == 0, done.stderr
    kept = (state_dir / "enrolment.toml").read_text()
    assert f'ca_file = "{cert}"' in kept
    assert "mqtts://127.0.0.1:1883" in kept


def test_from_the_code_to_a_token_in_a_private_file(cli, web, state_dir):
    web.says(
        (503, {"detail": "The database did not answer."}, {"Retry-After": "0"}),
        (202, PENDING, {"Retry-After": "0"}),
        (202, {k: v for k, v in PENDING.items() if k != "secret"}, {"Retry-After": "0"}),
        (429, {"detail": "slower"}, {"Retry-After": "1"}),
        (200, APPROVED),
    )
    done = cli("enrol", "--code", f"{web.url}/enrol#code={CODE}", "--name", "Mast")
    assert done.returncode == 0, done.stderr
    assert "amber tiger kettle" in done.stderr
    assert TOKEN not in done.stdout + done.stderr
    paths = [path for path, _, _ in web.asked]
    assert paths == ["/v1/enrol"] * 2 + [f"/v1/enrol/{ID}"] * 3
    first, second = web.asked[:2]
    assert first[1]["Idempotency-Key"] == second[1]["Idempotency-Key"]
    assert (first[2]["code"], first[2]["name"]) == (CODE, "Mast")
    assert web.asked[2][1]["Authorization"] == f"Bearer {'s' * 43}"
    file = state_dir / "enrolment.toml"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(state_dir.stat().st_mode) == 0o700
    assert TOKEN in file.read_text()
    assert list(state_dir.iterdir()) == [file]


def test_whoever_waits_too_long_says_so(cli, web):
    web.says((202, PENDING, {"Retry-After": "5"}))
    done = cli("enrol", "--hub", web.url, "--code", CODE, "--timeout", "2")
    assert done.returncode == 69
    assert "nobody has decided yet" in done.stderr


def test_run_needs_nothing_more(cli, web, broker, hub, tmp_path):
    web.says((201, APPROVED | {"mqtt": MQTT | {"port": broker.port}}))
    states = {"STATE_DIRECTORY": str(tmp_path / "states")}
    assert cli("enrol", "--hub", web.url, "--code", CODE, env=states).returncode == 0
    assert cli("send", "door_open", env=states).returncode == 0
    process = subprocess.Popen([sys.executable, "-m", "satellite_agent", "run"], env=clean_env(**states))
    try:
        hub.wait_for("hello", count=2)
        wait_until(lambda: cli("status", env=states).returncode == 0, "it is online")
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


def test_a_token_given_otherwise_wins_and_two_folders_are_no_choice(cli, web, tmp_path):
    states = {"STATE_DIRECTORY": str(tmp_path)}
    for handle in ("porch", "mast"):
        folder = tmp_path / handle
        folder.mkdir()
        token = TOKEN.replace("porch", handle)
        (folder / "enrolment.toml").write_text(f'hub = "mqtt://127.0.0.1:1"\ntoken = "{token}"\n')
    done = cli("run", env=states)
    assert done.returncode == 78
    assert "hub: is required" in done.stderr
    done = cli("send", "door open", "--state-dir", str(tmp_path / "mast"))
    assert done.returncode == 2  # the settings were found: it is the event that is wrong
    done = cli("send", "door open", "--state-dir", str(tmp_path / "mast"), "--token", "x")
    assert done.returncode == 78
