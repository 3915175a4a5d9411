"""The command line: exit codes, messages, the control socket's closed door, memory at rest."""

import json
import os
import socket
from pathlib import Path

import psutil
import pytest

TOKEN = f"mv1.porch.{'k' * 43}"


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["run"], 78, "hub: is required"),
        (["run", "--hub", "nonsense", "--token", TOKEN], 78, "hub: must look like"),
        (["run", "--hub", "mqtt://h"], 78, "token: is required"),
        (["run", "--hub", "mqtt://h", "--token", "x"], 78, "token: must look like"),
        (["run", "--hub", "mqtt://h", "--token", TOKEN, "--log-level", "loud"], 78, "log_level: must be one of"),
        (["run", "--nonsense"], 2, "--nonsense"),
        (["send", "door_open", "{"], 2, "payload: must be a JSON object"),
        (["send", "door_open", "[1]"], 2, "payload: must be a JSON object"),
        (["send", "door_open", "NaN"], 2, "payload: must be a JSON object"),
        (["send", "door_open", "[" * 20_000], 2, "payload: must be a JSON object"),
        (["send", "door open", "--hub", "mqtt://127.0.0.1:1", "--token", TOKEN], 2, "event type: 1 to 63"),
        (["send", "x", '{"a":"\\u0000"}', "--hub", "mqtt://127.0.0.1:1", "--token", TOKEN], 2, "U+0000"),
        (["send", "door_open"], 78, "hub: is required"),
        (["status"], 69, ""),
    ],
)
def test_faults_are_one_clear_message_and_an_exit_code(cli, arguments, code, says):
    done = cli(*arguments)
    assert done.returncode == code, done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert TOKEN not in done.stderr


def test_help_warns_of_tokens_on_the_command_line(cli):
    assert "`ps`" in " ".join(cli("run", "--help").stdout.split())


def test_a_wrong_token_in_send_keeps_the_event_and_says_so(broker, cli):
    done = cli("send", "door_open", "--hub", broker.url, "--token", f"mv1.porch.{'w' * 43}")
    assert done.returncode == 77
    assert "kept in the outbox" in done.stderr
    assert json.loads(cli("status", "--json").stdout)["backlog"] == 1


def test_settings_from_the_environment_and_the_only_state_folder(broker, hub, cli, start, tmp_path):
    folder = tmp_path / "states"
    start(state_dir=str(folder / "porch")).wait_log("hub answered")
    env = {"STATE_DIRECTORY": str(folder)}
    assert cli("send", "door_open", env=env).returncode == 0
    shown = cli("status", env=env)
    assert shown.returncode == 0
    assert "online" in shown.stdout


def ask(path: Path, line: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(10)
        link.connect(str(path))
        link.sendall(line)
        with link.makefile("rb") as stream:
            return stream.readline()


def test_hostile_requests_to_the_control_socket_change_nothing(start, hub, state_dir, cli):
    start().wait_log("hub answered")
    socket_path = state_dir / "control.sock"
    for line in (
        b"\n",
        b"not json\n",
        b"[]\n",
        b"{}\n",
        b'{"do":"stop"}\n',
        b'{"do":"send"}\n',
        b'{"do":"send","type":1,"payload":{}}\n',
        b'{"do":"send","type":"a/b","payload":{}}\n',
        b'{"do":"send","type":"x","payload":{},"space":1}\n',
        b'{"do":"send","type":"x","payload":{"a":"\\u0000"}}\n',
        b'{"do":"send","type":"x","payload":{},"timeout_s":"long"}\n',
        os.urandom(100).replace(b"\n", b"") + b"\n",
        b"x" * 300_000 + b"\n",
    ):
        answer = json.loads(ask(socket_path, line))
        assert answer["ok"] is False
        assert answer["rule"]
    assert hub.of("event") == []
    assert cli("status").returncode == 0


def test_memory_at_rest(start, hub):
    satellite = start()
    satellite.wait_log("hub answered")
    hub.command("ping", "c1")
    hub.wait_for("reply")
    # This environment holds packages that paho imports when it finds them; a satellite of its own needs less.
    assert psutil.Process(satellite.process.pid).memory_info().rss <= 48 * 2**20
