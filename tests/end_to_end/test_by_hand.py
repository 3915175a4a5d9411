"""mosquitto_pub and mosquitto_sub as a satellite, with the very lines that the page shows; and hostile ones."""

import json
import os
import re
import shlex
import signal
import socket
import subprocess

import pytest
from playwright.sync_api import expect

from hub.device_views import DeviceView

from .conftest import BIN, Satellite, wait_until

HELLO = {"epoch": 1, "agent": "by hand", "heartbeat_s": 60}


class Hand:
    """The command-line clients with one device's name and token."""

    def __init__(self, instance, device) -> None:
        self.instance, self.handle, self.token = instance, device["handle"], device["token"]
        self.host, self.port = instance.mqtt

    def argv(self, program: str, *more: str, token: str = "", handle: str = "", client: str = "") -> list[str]:
        handle = handle or self.handle
        who = ["-i", client or handle, "-u", handle, "-P", token or self.token]
        return [program, "-h", self.host, "-p", self.port, *who, *more]

    def pub(self, topic: str, payload, *more: str, **who) -> subprocess.CompletedProcess:
        if isinstance(payload, dict):
            payload = json.dumps(payload)
        raw = payload if isinstance(payload, bytes) else payload.encode()
        argv = self.argv("mosquitto_pub", "-q", "1", "-t", f"marvain/v1/d/{topic}", "-s", *more, **who)
        return subprocess.run(argv, input=raw, capture_output=True, timeout=20, check=False)

    def sub(self, *filters: str, **who) -> subprocess.Popen:
        argv = self.argv("mosquitto_sub", "-q", "1", "-v", *(a for f in filters for a in ("-t", f)), **who)
        return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    def seen(self) -> DeviceView:
        return self.instance.devices()[self.handle]


@pytest.fixture
def hand(instance, device) -> Hand:
    return Hand(instance, device)


@pytest.mark.browser
def test_the_lines_of_the_page_work_as_they_stand(instance, page):
    page.goto(f"{instance.web}/devices/new")
    page.get_by_label("Name", exact=True).fill("By hand")
    page.get_by_role("button", name="Add satellite").click()
    page.locator("details[data-way='by-hand'] summary").click()
    lines = {
        kind: shlex.split(page.locator(f"#by-hand-{kind}").inner_text())
        for kind in ("listen", "hello", "heartbeat", "event", "reply")
    }
    for kind in ("hello", "heartbeat"):
        subprocess.run(lines[kind], check=True, timeout=20)
    expect(page.locator("[data-field=presence]")).to_contain_text("online")
    subprocess.run(lines["event"], check=True, timeout=20)
    subprocess.run(lines["event"], check=True, timeout=20)  # the same id: stored once
    page.goto(f"{instance.web}/events")
    expect(page.locator("tr.event", has_text="By hand")).to_have_count(1)

    listening = subprocess.Popen(lines["listen"], stdout=subprocess.PIPE, text=True)
    try:
        wait_until(lambda: opened(instance) == 5, "mosquitto_sub listens")
        subprocess.run(lines["hello"], check=True, timeout=20)
        wait_until(lambda: opened(instance) == 7, "mosquitto_sub is back after the hello took its place")
        asked = subprocess.Popen(
            [str(BIN / "marvain"), "device", "ping", "by-hand", "--data", str(instance.data), "--json"],
            stdout=subprocess.PIPE,
        )
        topic = listening.stdout.readline().split()[0]
        assert "/cmd/ping/" in topic
        reply = [one.replace("COMMAND_ID", topic.rpartition("/")[2]) for one in lines["reply"]]
        subprocess.run(reply, check=True, timeout=20)
        assert json.loads(asked.communicate(timeout=30)[0])["status"] == "succeeded"
        wait_until(lambda: opened(instance) == 9, "mosquitto_sub is back after the reply took its place")
        listening.send_signal(signal.SIGKILL)
        page.goto(f"{instance.web}/devices")
        expect(page.locator("tr[data-handle='by-hand']")).to_contain_text("by Will")
    finally:
        listening.kill()
        listening.wait()
        listening.stdout.close()


def opened(instance) -> int:
    return instance.process.log().count("session.opened username=by-hand ")


def refused(hand, reason: str) -> None:
    """The refusal is on record, with its reason, for people to see."""
    wait_until(lambda: re.search(reason, json.dumps(hand.seen().last_denial)), f"the refusal: {reason}")


@pytest.fixture(scope="module")
def at_work(fresh, signed_in, tmp_path_factory):
    """Another device, at work all the time."""
    device = fresh.cli("device", "add", "Victim")
    daemon = Satellite(fresh, device["token"], tmp_path_factory.mktemp("victim"))
    daemon.start()
    yield Hand(fresh, device), daemon
    daemon.stop(signal.SIGKILL)


@pytest.fixture
def victim(at_work):
    """The device at work, that nothing here may disturb: it keeps its one connection and still answers."""
    hand, daemon = at_work
    wait_until(lambda: hand.seen().presence == "online", "the victim is online")
    yield hand
    assert hand.seen().presence == "online"
    assert daemon.log().count("connected to") == 1
    assert hand.instance.ping(hand.handle).status == "succeeded"


def test_a_wrong_token_does_not_get_in(hand, victim):
    run = hand.pub(f"{victim.handle}/hello", HELLO, handle=victim.handle, token="mv1.wrong.token")
    assert run.returncode != 0
    assert b"not authorised" in run.stderr.lower() or b"bad user name" in run.stderr.lower()
    refused(victim, "wrong username or password")


def test_nobody_is_anonymous(hand, victim):
    run = subprocess.run(
        ["mosquitto_pub", "-h", hand.host, "-p", hand.port, "-i", victim.handle, "-t", "x", "-m", "x"],
        capture_output=True,
        timeout=20,
        check=False,
    )
    assert run.returncode != 0


def test_the_client_id_must_be_the_handle(hand, victim):
    assert hand.pub(f"{hand.handle}/hello", HELLO, client=victim.handle).returncode != 0
    refused(hand, "client id")


def test_another_devices_topic_is_refused_and_told(hand, victim):
    listening = hand.sub(f"marvain/v1/d/{hand.handle}/denied")
    try:
        wait_until(lambda: _connected(hand), "listening")
        other = f"{victim.handle}/state"
        argv = hand.argv("mosquitto_pub", "-q", "1", "-t", f"marvain/v1/d/{other}", "-m", '{"state":"bye","epoch":999}')
        subprocess.run(argv, capture_output=True, timeout=20, check=False)
        refused(hand, "publish")
    finally:
        listening.kill()
        listening.communicate()


def _connected(hand) -> bool:
    return f"username={hand.handle} " in hand.instance.process.log()


def test_a_will_on_another_devices_topic_is_refused(hand, victim):
    run = hand.pub(
        f"{hand.handle}/hello",
        HELLO,
        "--will-topic",
        f"marvain/v1/d/{victim.handle}/state",
        "--will-payload",
        '{"state":"lost","epoch":999999}',
    )
    assert run.returncode != 0
    refused(hand, "Will")


@pytest.mark.parametrize(
    "asked", ["#", "marvain/v1/#", "marvain/v1/d/+/state", "$SYS/#", "+/+/+/+/+", "marvain/v1/ui/#"]
)
def test_a_subscription_to_more_than_its_own_is_refused(hand, victim, asked):
    listening = hand.sub(asked)
    try:
        refused(hand, "subscribe")
        victim.instance.ping(victim.handle)
    finally:
        listening.kill()
        heard, _ = listening.communicate()
    assert victim.handle.encode() not in heard


def test_ten_megabytes_are_not_taken(hand, victim):
    run = hand.pub(f"{hand.handle}/event/big", b'{"x":"' + b"y" * 10_000_000 + b'"}')
    assert run.returncode != 0
    refused(hand, "large|bytes")


def test_random_bytes_disturb_nobody(hand, victim):
    for _ in range(20):
        with socket.create_connection((hand.host, int(hand.port)), timeout=5) as peer:
            peer.sendall(os.urandom(2000))
            peer.settimeout(15)
            try:
                while peer.recv(1000):
                    pass
            except OSError:
                pass


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        ("{not json", "not valid JSON"),
        ("{}", "`id`: is required"),
        ('{"id":"a","payload":{}}', "`epoch`: is required"),
        ('{"epoch":"one","id":"a","payload":{}}', "`epoch`"),
    ],
)
def test_a_malformed_event_is_refused_with_the_field_and_the_rule(hand, victim, payload, reason):
    assert hand.pub(f"{hand.handle}/event/door", payload).returncode == 0
    refused(hand, reason)


def test_an_epoch_that_goes_back_is_refused(hand, victim):
    assert hand.pub(f"{hand.handle}/hello", HELLO | {"epoch": 7}).returncode == 0
    wait_until(lambda: hand.seen().epoch == 7, "the hello")
    hand.pub(f"{hand.handle}/event/door", {"id": "old", "epoch": 6, "payload": {}})
    refused(hand, "6 is older than 7")
