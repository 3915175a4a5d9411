"""Who comes in: the closed door first. Every refusal has a code, a recorded reason, and disturbs nobody."""

from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import text

House = Any

BAD_CREDENTIALS, NOT_AUTHORIZED, BAD_IDENTIFIER, BAD_PROTOCOL = 4, 5, 2, 1


def test_anonymous_is_refused(house: House) -> None:
    answer = house.dial().connect("anonymous-one", None, None)
    assert answer.body == bytes([0, NOT_AUTHORIZED])
    assert house.denial("anonymous-one", "no username").action == "connect"


@pytest.mark.parametrize("password", ["", "wrong", None, b"\xff\xfe", "x" * 60_000])
def test_a_wrong_password_is_refused(house: House, password: Any) -> None:
    device, _ = house.add()
    peer = house.dial()
    assert peer.connect(device.handle, device.handle, password).body[1] == BAD_CREDENTIALS
    assert peer.closed()
    assert house.denial(device.handle, "wrong username or password").device_id == device.device_id


@pytest.mark.parametrize(
    "username", ["nobody-has-this", "", "ui_0123", "\u00e9\u00e9", "a b", "'; DROP TABLE devices; --", "x" * 9_000]
)
def test_an_unknown_username_is_refused(house: House, username: str) -> None:
    assert house.dial().connect(username, username, "whatever").body[1] == BAD_CREDENTIALS


def test_another_devices_token_is_refused(house: House) -> None:
    (one, _), (_, other_token) = house.add(), house.add()
    assert house.dial().connect(one.handle, one.handle, other_token).body[1] == BAD_CREDENTIALS


@pytest.mark.parametrize("client_id", ["", "somebody-else", "hub_service"])
def test_a_client_id_that_is_not_the_username_is_refused(house: House, client_id: str) -> None:
    device, token = house.add()
    peer = house.dial()
    assert peer.connect(client_id, device.handle, token).body[1] == BAD_IDENTIFIER
    assert peer.closed()
    house.denial(device.handle, "client id must be the same as the username")


def test_bad_credentials_with_a_victims_client_id_disturb_nothing(house: House) -> None:
    hub = house.hub()
    assert hub.peer.subscribe(("marvain/v1/d/+/state", 1)) == [1]
    hub.peer.drain()
    victim = house.device()
    assert victim.peer.subscribe((victim.topic("cmd", "#"), 1)) == [1]
    attacker, attacker_token = house.add()
    for username, password in ((victim.handle, "wrong"), (None, None), (attacker.handle, attacker_token)):
        peer = house.dial()
        assert peer.connect(victim.handle, username, password).body[1] != 0
        assert peer.closed()
    hub.peer.publish(victim.topic("cmd", "ping", "1"), b"still there?", 1)
    assert victim.peer.message().payload == b"still there?"


def test_another_protocol_level_is_answered_with_code_1(house: House) -> None:
    for level in (3, 5, 0, 255):
        peer = house.dial()
        assert peer.connect("x", "x", "x", level=level).body[1] == BAD_PROTOCOL
        assert peer.closed()


def test_a_will_elsewhere_is_refused_and_nothing_else_happens(house: House) -> None:
    hub = house.hub()
    assert hub.peer.subscribe(("marvain/v1/#", 1)) == [1]
    hub.peer.drain()
    victim = house.device()
    attacker, token = house.add()
    for topic in (victim.topic("state"), "#", "marvain/v1/hub/status", f"marvain/v1/d/{attacker.handle}/presence"):
        peer = house.dial()
        answer = peer.connect(attacker.handle, attacker.handle, token, will=(topic, b"lost", 1, True))
        assert answer.body[1] == NOT_AUTHORIZED
        peer.close()
    house.denial(
        attacker.handle, f"its Will is not allowed: {attacker.handle} may not publish to {victim.topic('state')}"
    )
    assert hub.peer.silent()


def test_a_refused_connect_leaves_the_open_session_of_the_same_device_alone(house: House) -> None:
    client = house.device()
    peer = house.dial()
    bad_will = ("marvain/v1/d/other/state", b"", 0, False)
    assert peer.connect(client.handle, client.handle, client.token, will=bad_will).body[1] == NOT_AUTHORIZED
    client.peer.ping()


def test_a_revoked_device_is_told_by_code_5_and_the_reason_is_recorded(house: House) -> None:
    device, token = house.add()
    with house.database.transaction() as session:
        session.execute(
            text(
                "UPDATE devices SET revoked_at = :now, revoked_by = 'ann', revoked_reason = 'stolen' WHERE handle = :h"
            ),
            {"now": datetime.now(UTC), "h": device.handle},
        )
    assert house.dial().connect(device.handle, device.handle, token).body[1] == NOT_AUTHORIZED
    assert "by ann: stolen" in house.denial(device.handle, "was revoked on").reason


def test_what_comes_behind_connect_in_the_same_chunk_is_handled(house: House) -> None:
    device, token = house.add()
    topic = f"marvain/v1/d/{device.handle}/welcome"
    peer = house.dial()
    peer.send(
        house.wire.connect(device.handle, device.handle, token)
        + house.wire.packet(0x82, b"\0\x05" + house.wire.string(topic) + b"\1")
        + b"\xc0\x00"
    )
    assert [peer.receive().kind for _ in range(3)] == [2, 9, 13]
