"""What a config opens, on a real satellite: its hello, its verbs, a cancel, a restart that happens once."""

import sys
import time

import pytest

from satellite_agent.settings import SettingsError
from satellite_agent.verbs import registry
from satellite_agent.verbs.verb import Job

PYTHON = sys.executable


@pytest.mark.parametrize(
    ("tables", "field"),
    [
        ({"shell": {}}, "verbs.shell"),
        ({"restart": {"when": "now"}}, "verbs.restart"),
        ({"read_file": {}}, "verbs.read_file"),
        ({"read_file": {"roots": ["/"], "max_bytes": 10**9}}, "verbs.read_file.max_bytes"),
        ({"device_status": {"disks": "/"}}, "verbs.device_status.disks"),
    ],
)
def test_a_bad_table_is_named(tables, field):
    with pytest.raises(SettingsError) as error:
        registry.opened(tables, closed=(), restarting=lambda _: None)
    assert error.value.field == field


def test_device_status_tells_how_the_machine_is():
    [verb] = registry.opened({"device_status": {"disks": ["/", "/nonexistent"]}}, closed=(), restarting=lambda _: None)
    told = verb.run(verb.args(), Job(10))
    assert told["uptime_s"] > 0
    assert 0 <= told["cpu_percent"] <= 100
    assert 0 < told["memory"]["available_bytes"] <= told["memory"]["total_bytes"]
    assert [disk["path"] for disk in told["disks"]] == ["/"]
    assert all(one["name"] != "lo" for one in told["network"])
    assert (told["cores"] >= 1, len(told["load"])) == (True, 3)


def test_without_a_config_nothing_is_opened_and_the_config_cannot_open_it(start, hub):
    start().wait_log("hub answered")
    assert [verb.name for verb in hub.of("hello")[0].verbs] == ["ping", "config", "cancel"]
    hub.configure(3, verbs=["run_action"])
    assert list(hub.wait_config(3).refused) == ["verbs"]
    hub.command("run_action", "c1", {"name": "x"})
    assert hub.wait_for("reply")[0].code == "unknown_verb"


def test_a_bad_config_stops_it_at_the_start(start):
    satellite = start("[verbs.run_action.bad]\ncommand = ['ls']\n")
    assert satellite.wait_exit() == 78
    assert "verbs.run_action: bad: command: the program must be an absolute path" in satellite.log


def test_verbs_are_run_cancelled_and_switched_off_and_heartbeats_go_on(start, hub, tmp_path):
    hub.heartbeat_s = 0
    satellite = start(
        "heartbeat = 1\n[verbs.device_status]\n[verbs.run_action.sleep]\n"
        f"command = ['{PYTHON}', '-c', 'import time; time.sleep(60)']\n"
        f"[verbs.read_file]\nroots = ['{tmp_path}']\n"
    )
    satellite.wait_log("hub answered")
    hub.command("run_action", "c1", {"name": "sleep"}, ttl_s=60)
    hub.wait(lambda: [reply.status for reply in hub.replies("c1")] == ["accepted"], "it runs")
    beats = len(hub.of("heartbeat"))
    hub.command("device_status", "c2")
    hub.wait(lambda: hub.replies("c2"), "another verb answers meanwhile")
    hub.wait(lambda: len(hub.of("heartbeat")) >= beats + 2, "heartbeats meanwhile")
    hub.command("read_file", "c3", {"path": str(tmp_path / "state/lock")})
    hub.wait(lambda: hub.replies("c3"), "an answer")
    assert hub.replies("c3")[0].code == "forbidden"
    hub.command("cancel", "c4", {"command_id": "c1"})
    hub.wait(lambda: len(hub.replies("c1")) > 1, "its end")
    assert (hub.replies("c1")[-1].status, hub.replies("c1")[-1].code) == ("failed", "cancelled")
    assert hub.wait(lambda: hub.replies("c4"), "the cancel's answer")[0].status == "succeeded"
    hub.configure(3, verbs=["device_status"])
    hub.wait(lambda: [one.name for one in hub.of("hello")[-1].verbs][-1] == "device_status", "a hello without them")
    hub.command("run_action", "c5", {"name": "sleep"})
    assert hub.wait(lambda: hub.replies("c5"), "an answer")[0].code == "switched_off"


def test_a_restart_is_answered_before_and_happens_once(start, hub):
    satellite = start("[verbs.restart]\n")
    satellite.wait_log("hub answered")
    pid = satellite.process.pid
    hub.command("restart", "c1")
    hub.wait_for("state", lambda state: state.state == "online" and state.epoch == 2)
    kinds = [heard.parsed.kind for heard in hub.heard if getattr(heard.message, "epoch", 0) == 1]
    assert kinds.index("reply") < len(kinds) - 1
    assert hub.replies("c1")[0].result == {"restarting": True}
    assert [state.state for state in hub.of("state")] == ["online", "bye", "online"]
    satellite.wait_log("hub answered", count=2)
    hub.command("restart", "c1")  # the broker, or the hub, sends it again
    satellite.wait_log("it gets its stored reply")
    hub.command("ping", "c2")
    hub.wait(lambda: hub.replies("c2"), "it is still there")
    time.sleep(0.5)
    assert satellite.log.count("starting anew") == 1
    assert (satellite.process.pid, satellite.process.poll()) == (pid, None)


def test_a_restart_that_the_hub_does_not_confirm_happens_all_the_same(start, hub):
    hub.receipts = False
    satellite = start("[verbs.restart]\n")
    satellite.wait_log("hub answered")
    hub.command("restart", "c1")
    satellite.wait_log("hub answered", count=2)
    hub.wait_for("reply", lambda reply: reply.epoch == 2)  # kept, and said again
