"""The daemon as a process against a real broker: connection, presence, outbox, commands, refusals."""

import json
import os
import signal
import stat
import threading
import time
from datetime import timedelta

from hub_protocol.messages import Denied

HANDLE = "porch"
TOKEN = f"mv1.{HANDLE}.{'k' * 43}"
CMD = f"marvain/v1/d/{HANDLE}/cmd"


# --- the closed door --------------------------------------------------------------------------------------------------


def test_a_wrong_token_stops_at_once_and_says_why(start):
    began = time.monotonic()
    satellite = start(token=f"mv1.{HANDLE}.{'w' * 43}")
    assert satellite.wait_exit() == 77
    assert time.monotonic() - began < 5
    assert "refused for good" in satellite.log
    assert "token is not accepted" in satellite.log
    assert "w" * 43 not in satellite.log


def test_a_revoked_device_stops_and_repeats_what_the_hub_said(start, hub, broker, cli):
    satellite = start()
    satellite.wait_log("hub answered")
    hub.deny(Denied("connect", "", "this device was revoked by ann@example.org: lost"))
    satellite.wait_log("revoked by ann@example.org")
    broker.refuse(HANDLE)
    assert satellite.wait_exit() == 77
    assert "(the hub said: this device was revoked by ann@example.org: lost)" in satellite.log
    shown = json.loads(cli("status", "--json").stdout)
    assert shown["connection"] == "not running"
    assert shown["last_denied"]["reason"].startswith("this device was revoked")


def test_a_device_whose_agent_is_switched_off_knocks_until_it_is_let_in(start, hub, broker, cli):
    satellite = start()
    satellite.wait_log("hub answered")
    hub.deny(Denied("connect", "", "the agent Home was disabled by ann@example.org", retry_after_s=1))
    satellite.wait_log("disabled by ann@example.org")
    broker.refuse(HANDLE)
    satellite.wait_log("not now: the agent Home was disabled by ann@example.org", count=2)
    shown = json.loads(cli("status", "--json").stdout)
    assert (shown["connection"], satellite.process.poll()) == ("waiting", None)
    broker.allow(HANDLE, TOKEN)
    satellite.wait_log("hub answered", count=2)
    # What was said then counts no longer: the next refusal is one for good.
    broker.refuse(HANDLE)
    assert satellite.wait_exit() == 77


def test_a_second_run_in_the_same_folder_is_refused(start, hub):
    start().wait_log("hub answered")
    second = start()
    assert second.wait_exit() == 1


def test_a_folder_of_another_device_is_refused(start, hub, broker):
    first = start()
    first.wait_log("hub answered")
    first.process.terminate()
    first.wait_exit()
    other = start(token=f"mv1.garage.{'k' * 43}")
    assert other.wait_exit() == 1
    assert "belongs to the device 'porch'" in other.log


# --- presence ---------------------------------------------------------------------------------------------------------


def test_state_hello_and_heartbeats(start, hub):
    hub.heartbeat_s = 1.0
    start().wait_log("hub answered: online, heartbeat every 1 s")
    state = hub.wait_for("state")[0]
    hello = hub.wait_for("hello")[0]
    assert (state.state, state.epoch, hello.epoch) == ("online", 1, 1)
    assert hello.agent == "marvain-satellite 0.1.0"
    assert [verb.name for verb in hello.verbs] == ["ping", "config", "cancel"]
    assert hello.verbs[0].args_schema["type"] == "object"
    beats = hub.wait_for("heartbeat", count=3)
    assert [beat.n for beat in beats[:3]] == [1, 2, 3]
    assert {beat.epoch for beat in beats} == {1}


def test_the_will_carries_the_epoch_and_the_epoch_rises(start, hub):
    first = start()
    first.wait_log("hub answered")
    first.process.kill()
    lost = hub.wait_for("state", lambda state: state.state == "lost")[0]
    assert lost.epoch == 1
    start()
    hub.wait_for("state", lambda state: state.state == "online" and state.epoch == 2)


def test_sigterm_says_bye_and_leaves_no_will(start, hub, state_dir):
    satellite = start()
    satellite.wait_log("hub answered")
    satellite.process.terminate()
    assert satellite.wait_exit(5) == 0
    assert [(s.state, s.epoch) for s in hub.wait_for("state", count=2)] == [("online", 1), ("bye", 1)]
    assert not (state_dir / "control.sock").exists()


def test_sigint_while_the_broker_is_away_ends_at_once(start, broker):
    broker.stop()
    satellite = start()
    satellite.wait_log("not connected")
    satellite.process.send_signal(signal.SIGINT)
    assert satellite.wait_exit(5) == 0


def test_the_broker_goes_and_comes_back(start, hub, broker):
    satellite = start()
    satellite.wait_log("hub answered")
    broker.stop()
    satellite.wait_log("not connected")
    broker.start()
    satellite.wait_log("hub answered", count=2)
    hub.wait_for("state", lambda state: state.state == "online" and state.epoch >= 2)


def test_an_epoch_that_has_gone_back_jumps_above_the_hubs(start, hub):
    satellite = start()
    satellite.wait_log("hub answered")
    hub.deny(Denied("message", f"marvain/v1/d/{HANDLE}/hello", "the epoch has gone back", epoch=41))
    hub.wait_for("state", lambda state: state.state == "online" and state.epoch == 42)
    assert not [state for state in hub.of("state") if state.state == "lost"]


def test_in_quarantine_it_keeps_what_it_has_and_sends_it_when_it_is_let_go(start, hub, cli):
    hub.receipts = False
    satellite = start()
    satellite.wait_log("hub answered")
    cli("send", "bell", "{}", "--timeout", "0.2")
    hub.wait_for("event")
    hub.deny(Denied("message", f"marvain/v1/d/{HANDLE}/event/bell", "in quarantine: it sent too much", retry_after_s=2))
    satellite.wait_log("in quarantine")
    hub.receipts = True
    began = time.monotonic()
    sent = cli("send", "bell", '{"n": 2}', "--timeout", "20")
    assert "stored" in sent.stdout
    assert time.monotonic() - began > 1


def test_a_stale_or_impossible_epoch_is_not_followed(start, hub):
    satellite = start()
    satellite.wait_log("hub answered")
    hub.deny(Denied("message", "x", "too high", epoch=9_007_199_254_740_991))
    satellite.wait_log("there is no higher one")
    # A message of the connection before, refused for its epoch while this one is the current one.
    hub.deny(Denied("message", f"marvain/v1/d/{HANDLE}/event/x", "older than 1", epoch=1, id="e1"))
    satellite.wait_log("older than 1")
    hub.command("ping", "c1")
    hub.wait_for("reply")
    assert {state.epoch for state in hub.of("state")} == {1}


def test_an_unwritable_state_folder_takes_the_time_as_epoch_and_says_so(start, hub):
    satellite = start(state_dir="/dev/null/state")
    satellite.wait_log("not writable")
    hub.wait_for("state", lambda state: state.epoch > 1_600_000_000_000)
    hub.command("ping", "c1")
    hub.wait_for("reply", lambda reply: reply.status == "succeeded")


def test_files_of_the_state_folder_are_private(start, hub, state_dir):
    start().wait_log("hub answered")
    assert stat.S_IMODE(state_dir.stat().st_mode) == 0o700
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in state_dir.iterdir()}
    assert "control.sock" in modes
    assert set(modes.values()) == {0o600}


def test_a_silent_hub_is_told_apart_from_a_silent_broker(start, hub, cli):
    hub.welcomes = False
    satellite = start()
    hub.wait_for("hello")
    shown = cli("status", "--json")
    assert shown.returncode == 69
    assert json.loads(shown.stdout)["connection"] == "connected"
    satellite.wait_log("the hub is away")
    hub.wait_for("hello", count=2)


# --- events -----------------------------------------------------------------------------------------------------------


def test_send_through_the_daemon_waits_for_the_receipt(start, hub, cli):
    start().wait_log("hub answered")
    done = cli("send", "door_open", '{"angle": 12}')
    assert (done.returncode, done.stderr) == (0, "")
    event = hub.wait_for("event")[0]
    assert done.stdout == f"stored {event.id}\n"
    assert event.payload == {"angle": 12}
    assert event.at is not None
    shown = json.loads(cli("status", "--json").stdout)
    assert (shown["connection"], shown["backlog"], shown["epoch"]) == ("online", 0, 1)


def test_send_without_a_daemon_connects_by_itself(hub, broker, cli):
    done = cli(
        "send", "--hub", broker.url, "--token", TOKEN, "--json", "--space", "hall", "door_open", "-", stdin='{"a":1}'
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"id": hub.of("event")[0].id, "stored": True, "refused": None}
    assert hub.of("event")[0].space == "hall"
    assert [state.state for state in hub.wait_for("state", count=2)] == ["online", "bye"]


def test_events_survive_kill_and_go_out_again_in_order_until_the_receipt(start, hub, cli):
    hub.receipts = False
    first = start()
    first.wait_log("hub answered")
    for number in range(3):
        kept = cli("send", "--timeout", "0.2", "count", json.dumps({"n": number}))
        assert kept.returncode == 69
        assert "kept in the outbox" in kept.stderr
    hub.wait_for("event", count=3)
    first.process.kill()
    first.process.wait()
    hub.heard.clear()
    hub.receipts = True
    start().wait_log("hub answered")
    again = hub.wait_for("event", count=3)
    assert [event.payload["n"] for event in again] == [0, 1, 2]
    assert [event.seq for event in again] == sorted(event.seq for event in again)
    assert {event.epoch for event in again} == {2}
    wait_for_backlog(cli, 0)
    assert len(hub.of("event")) == 3


def test_an_event_that_the_hub_refuses_is_set_aside_and_told(start, hub, cli):
    hub.refusal = "field `space`: the agent has no such space"
    satellite = start()
    satellite.wait_log("hub answered")
    done = cli("send", "--space", "moon", "door_open")
    assert done.returncode == 2
    assert "the agent has no such space" in done.stderr
    assert json.loads(cli("status", "--json").stdout)["backlog"] == 0


def test_a_reply_that_the_hub_refuses_is_not_sent_for_ever(start, hub, cli):
    hub.receipts = False
    start().wait_log("hub answered")
    hub.command("ping", "c1")
    hub.wait_for("reply")
    hub.deny(Denied("message", f"marvain/v1/d/{HANDLE}/reply/c1", "there is no command with this id"))
    wait_for_backlog(cli, 0)


def test_a_missing_scope_is_told_and_the_event_waits(start, hub, cli):
    hub.receipts = False
    satellite = start()
    satellite.wait_log("hub answered")
    sending = threading.Thread(target=hub.wait_for, args=("event",))
    sending.start()
    denying = threading.Thread(
        target=lambda: (sending.join(), hub.deny(Denied("publish", "t", "the scope events:write is missing")))
    )
    denying.start()
    done = cli("send", "--timeout", "2", "door_open")
    denying.join()
    assert done.returncode == 69
    assert "events:write is missing" in done.stderr
    assert json.loads(cli("status", "--json").stdout)["backlog"] == 1


def test_an_event_given_to_nobody_is_kept_for_the_next_run(start, hub, broker, cli):
    broker.stop()
    kept = cli("send", "--hub", broker.url, "--token", TOKEN, "--timeout", "0.5", "door_open", '{"angle": 1}')
    assert kept.returncode == 69
    broker.start()
    start()
    assert hub.wait_for("event")[0].id in kept.stderr


def test_a_long_state_path_does_not_break_the_control_socket(start, hub, cli, tmp_path):
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    start(state_dir=str(deep)).wait_log("hub answered")
    assert cli("send", "--state-dir", str(deep), "door_open").returncode == 0
    assert cli("status", "--state-dir", str(deep)).returncode == 0


def test_websocket_way(start, hub, broker):
    start(hub=f"ws://127.0.0.1:{broker.ws_port}/mqtt").wait_log("hub answered")


def wait_for_backlog(cli, count):
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        if json.loads(cli("status", "--json").stdout)["backlog"] == count:
            return
    raise AssertionError


# --- commands ---------------------------------------------------------------------------------------------------------


def test_hostile_commands_are_logged_and_change_nothing(start, hub):
    satellite = start()
    satellite.wait_log("hub answered")
    good = b'"expires_at":"2999-01-01T00:00:00Z"'
    hostile = {
        "empty": b"",
        "binary": os.urandom(300),
        "text": b"not json",
        "list": b"[]",
        "missing": b"{}",
        "naive": b'{"expires_at":"2999-01-01T00:00:00"}',
        "wrongtype": b"{" + good + b',"args":[1]}',
        "epoch": b"{" + good + b',"epoch":-1}',
        "nul": b"{" + good + b',"args":{"a":"\\u0000"}}',
        "utf8": b"{" + good + b',"args":{"a":"\xff"}}',
        "deep": b"{" + good + b',"args":' + b'{"a":' * 9000 + b"1" + b"}" * 9000 + b"}",
        "huge": b"{" + good + b',"args":{"a":"' + b"x" * 5_000_000 + b'"}}',
        "bignumber": b"{" + good + b',"epoch":1' + b"0" * 4000 + b"}",
    }
    for name, payload in hostile.items():
        hub.say(f"{CMD}/ping/{name}", payload)
    hub.say(f"{CMD}/ping", b"{}")
    hub.say(f"{CMD}/pi.ng/x", b"{" + good + b"}")
    for topic in ("welcome", "receipt", "denied"):
        for payload in (b"", b"[]", b"{}", b'{"ids":[1]}', os.urandom(100)):
            hub.say(f"marvain/v1/d/{HANDLE}/{topic}", payload)
    hub.command("ping", "after")
    hub.wait_for("reply", lambda reply: reply.result == {"pong": True})
    assert len(hub.of("reply")) == 1
    assert satellite.process.poll() is None
    for name in hostile:
        assert f"cmd/ping/{name} is left alone" in satellite.log


def test_ping_is_answered(start, hub):
    start().wait_log("hub answered")
    began = time.monotonic()
    hub.command("ping", "c1")
    reply = hub.wait_for("reply")[0]
    assert time.monotonic() - began < 1
    assert (reply.status, reply.result, reply.epoch) == ("succeeded", {"pong": True}, 1)


def test_a_repeated_command_gets_its_stored_reply(start, hub):
    first = start()
    first.wait_log("hub answered")
    hub.command("ping", "c1")
    hub.wait_for("reply")
    hub.command("ping", "c1")
    hub.wait_for("reply", count=2)
    assert first.log.count("came again") == 1
    first.process.kill()
    second = start()
    second.wait_log("hub answered")
    hub.command("ping", "c1")
    hub.wait_for("reply", count=3)
    second.wait_log("it gets its stored reply")


def test_a_reply_is_kept_until_its_receipt(start, hub):
    hub.receipts = False
    first = start()
    first.wait_log("hub answered")
    hub.command("ping", "c1")
    hub.wait_for("reply")
    first.process.kill()
    hub.receipts = True
    start()
    hub.wait_for("reply", lambda reply: reply.epoch == 2)


def test_late_and_unknown_commands_are_rejected(start, hub):
    start().wait_log("hub answered")
    hub.command("ping", "late", ttl_s=-1)
    hub.command("explode", "odd")
    hub.wait_for("reply", count=2)
    assert [(r.status, r.code) for r in hub.replies("late") + hub.replies("odd")] == [
        ("rejected", "expired"),
        ("rejected", "unknown_verb"),
    ]


def test_deadlines_go_by_the_hubs_clock(start, hub):
    hub.clock_offset = timedelta(days=-1)
    satellite = start()
    satellite.wait_log("ahead of the hub's")
    hub.command("ping", "c1")
    assert hub.wait_for("reply")[0].status == "succeeded"
    hub.command("ping", "c2", ttl_s=-1)
    hub.wait_for("reply", lambda reply: reply.code == "expired")
