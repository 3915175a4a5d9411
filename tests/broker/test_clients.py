"""Clients that are not ours: mosquitto_pub, mosquitto_sub, paho, MQTT over WebSocket; and the process itself."""

import asyncio
import contextlib
import json
import signal
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from websockets.asyncio.client import connect as open_websocket
from websockets.exceptions import ConnectionClosed, InvalidStatus

House = Any


def mosquitto(house: House, program: str, handle: str, token: str, *more: str) -> subprocess.Popen[str]:
    address = ["-h", "127.0.0.1", "-p", str(house.broker.port)]
    return subprocess.Popen(
        ["stdbuf", "-oL", program, *address, "-i", handle, "-u", handle, "-P", token, *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_mosquitto_pub_is_refused_by_a_wrong_token_and_by_another_client_id(house: House) -> None:
    device, token = house.add()
    wrong = mosquitto(house, "mosquitto_pub", device.handle, "wrong", "-t", "x", "-m", "x")
    assert "not authorised" in wrong.communicate(timeout=10)[0].lower().replace(
        "bad user name or password", "not authorised"
    )
    assert wrong.returncode != 0
    other = mosquitto(house, "mosquitto_pub", device.handle, token, "-i", "other", "-t", "x", "-m", "x")
    assert "identifier rejected" in other.communicate(timeout=10)[0]


def test_a_satellite_that_is_to_speak_mqtt_5_is_told_what_to_set(house: House, tmp_path: Path) -> None:
    _, token = house.add()
    (tmp_path / "token").write_text(token)
    address = ["--hub", f"mqtt://127.0.0.1:{house.broker.port}", "--token-file", str(tmp_path / "token")]
    done = subprocess.run(
        [
            *(sys.executable, "-m", "satellite_agent", "run"),
            *address,
            "--mqtt-version",
            "5",
            "--state-dir",
            tmp_path / "s",
        ],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, "set mqtt_version to 3.1.1" in done.stderr) == (77, True), done.stderr
    assert token not in done.stderr


@pytest.mark.parametrize("qos", ["0", "1", "2"])
def test_mosquitto_pub_to_mosquitto_sub(house: House, qos: str) -> None:
    sender, token = house.add()
    topic = f"marvain/v1/d/{sender.handle}/event/door_open"
    listening = mosquitto(
        house, "mosquitto_sub", "hub_service", house.hub_password, "-t", topic, "-q", qos, "-C", "1", "-W", "10", "-d"
    )
    assert listening.stdout
    for line in listening.stdout:
        if "SUBACK" in line:
            break
    sent = mosquitto(house, "mosquitto_pub", sender.handle, token, "-t", topic, "-q", qos, "-m", '{"angle": 12}')
    assert sent.communicate(timeout=10) == ("", None)
    assert sent.returncode == 0
    assert '{"angle": 12}' in listening.communicate(timeout=10)[0]


def listen_without_acknowledging(house: House, topic: str, count: int, subscribed: threading.Event) -> list[str]:
    """What a paho client of the hub's name gets: `count` messages, none of which it acknowledges."""
    got: list[str] = []
    enough = threading.Event()

    def on_message(_: Any, __: Any, message: paho.MQTTMessage) -> None:
        got.append(message.payload.decode())
        if len(got) == count:
            enough.set()

    hub = paho.Client(paho.CallbackAPIVersion.VERSION2, "hub_service", clean_session=False, manual_ack=True)
    hub.username_pw_set("hub_service", house.hub_password)
    hub.on_message = on_message
    hub.on_connect = lambda *_: hub.subscribe(topic, 1)
    hub.on_subscribe = lambda *_: subscribed.set()
    hub.connect("127.0.0.1", house.broker.port)
    hub.loop_start()
    assert enough.wait(10)
    hub.disconnect()
    hub.loop_stop()
    return got


def test_paho_acknowledges_nothing_and_gets_everything_again(house: House) -> None:
    client = house.device()
    wanted = [str(number) for number in range(200)]
    subscribed = threading.Event()
    with ThreadPoolExecutor() as pool:
        first = pool.submit(listen_without_acknowledging, house, client.topic("#"), 200, subscribed)
        assert subscribed.wait(5)
        for number in wanted:
            client.peer.publish(client.topic("event", "e"), number.encode(), 1)
        assert first.result() == wanted
    assert listen_without_acknowledging(house, client.topic("#"), 200, subscribed) == wanted
    house.hub(clean=True).peer.disconnect()


def test_websocket(house: House) -> None:
    device, token = house.add()
    topic = f"marvain/v1/d/{device.handle}/cmd/ping/1"
    hub = house.hub()

    async def talk() -> None:
        address = f"ws://127.0.0.1:{house.broker.ws_port}/mqtt"
        async with open_websocket(address, subprotocols=["mqtt"]) as websocket:
            assert websocket.subprotocol == "mqtt"
            connect = house.wire.connect(device.handle, device.handle, token)
            await websocket.send(connect[:9])
            await websocket.send(connect[9:])
            assert await websocket.recv() == b"\x20\x02\0\0"
            # Two packets in one frame, then one packet in fragments.
            await websocket.send(house.wire.packet(0x82, b"\0\5" + house.wire.string(topic) + b"\1") + b"\xc0\0")
            answers = b""
            while len(answers) < 7:
                answers += await websocket.recv()
            assert answers == b"\x90\x03\0\5\1\xd0\0"
            await websocket.send([b"\xc0", b"\0"])
            assert await websocket.recv() == b"\xd0\0"
            await asyncio.to_thread(hub.peer.publish, topic, b"x" * 200_000, 0)
            received = b""
            while len(received) < 200_000:
                received += await websocket.recv()
            assert received.endswith(b"xxx")
            await websocket.send(b"\xe0\0")
            with pytest.raises(ConnectionClosed):
                await websocket.recv()
            assert websocket.close_code == 1000

    asyncio.run(talk())


def test_websocket_refusals(house: House) -> None:
    async def talk() -> None:
        base = f"ws://127.0.0.1:{house.broker.ws_port}"
        for path, subprotocols in (("/mqtt", None), ("/mqtt", ["soap"]), ("/elsewhere", ["mqtt"])):
            with pytest.raises(InvalidStatus):
                await open_websocket(base + path, subprotocols=subprotocols)
        async with open_websocket(base + "/mqtt", subprotocols=["mqtt"]) as websocket:
            await websocket.send("text")
            with pytest.raises(ConnectionClosed):
                await websocket.recv()
            assert websocket.close_code == 1003
        async with open_websocket(base + "/mqtt", subprotocols=["mqtt"]) as websocket:
            await websocket.send(house.wire.connect("nobody", "nobody", "wrong"))
            assert await websocket.recv() == b"\x20\x02\0\4"
            with pytest.raises(ConnectionClosed):
                await websocket.recv()
        async with open_websocket(base + "/mqtt", subprotocols=["mqtt"]) as websocket:
            with contextlib.suppress(ConnectionClosed):
                await websocket.send(b"\x10\xff\xff\x7f" + b"x" * 2_000_000)
            await websocket.wait_closed()
            assert websocket.close_code == 1009

    asyncio.run(talk())
    plain = socket.create_connection(("127.0.0.1", house.broker.ws_port))
    plain.sendall(b"GET /mqtt HTTP/1.1\r\nHost: x\r\n\r\n")
    assert plain.recv(100).startswith(b"HTTP/1.1 426")
    garbage = socket.create_connection(("127.0.0.1", house.broker.ws_port))
    garbage.sendall(b"\x10\x0c\0\4MQTT" * 5_000)
    while garbage.recv(1_000):
        pass
    plain.close()
    garbage.close()


def test_a_will_over_websocket(house: House) -> None:
    device, token = house.add()
    topic = f"marvain/v1/d/{device.handle}/state"
    hub = house.hub()
    hub.peer.subscribe((topic, 1))

    async def talk() -> None:
        address = f"ws://127.0.0.1:{house.broker.ws_port}/mqtt"
        async with open_websocket(address, subprotocols=["mqtt"]) as websocket:
            await websocket.send(
                house.wire.connect(device.handle, device.handle, token, will=(topic, b"lost", 1, False))
            )
            assert await websocket.recv() == b"\x20\x02\0\0"

    asyncio.run(talk())
    assert hub.peer.message(1.0).payload == b"lost"


def test_a_taken_port_is_said_with_exit_code_69(house: House) -> None:
    again = subprocess.run(
        [sys.executable, "-m", "broker"], env=house.broker.environment(), capture_output=True, timeout=20, check=False
    )
    assert again.returncode == 69
    assert f"port {house.broker.port} on 127.0.0.1 is taken" in again.stderr.decode()
    assert b"Traceback" not in again.stderr


def test_no_database_is_said_with_exit_code_69(house: House) -> None:
    environment = house.broker.environment() | {"MARVAIN_DATABASE_URL": "postgresql://nobody:secret@127.0.0.1:9/none"}
    result = subprocess.run(
        [sys.executable, "-m", "broker"], env=environment, capture_output=True, timeout=20, check=False
    )
    assert result.returncode == 69
    assert b"the database is away" in result.stderr
    assert b"Traceback" not in result.stderr
    assert b"secret" not in result.stderr


@pytest.mark.parametrize("setting", ["MARVAIN_MQTT_PORT", "MARVAIN_DATABASE_URL"])
def test_bad_settings_are_said_with_exit_code_78(house: House, setting: str) -> None:
    environment = house.broker.environment() | {setting: "70000"}
    result = subprocess.run(
        [sys.executable, "-m", "broker"], env=environment, capture_output=True, timeout=20, check=False
    )
    assert result.returncode == 78
    assert result.stderr
    assert b"Traceback" not in result.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_closes_everything_in_order(own_house: House, number: int) -> None:
    house = own_house
    clients = [house.device() for _ in range(5)]
    refused = house.device([])
    refused.peer.publish(refused.topic("event", "e"), b"x", 1)
    assert house.broker.stop(number) == 0
    assert all(client.peer.closed() for client in clients)
    log = [json.loads(line)["event"] for line in house.broker.log().splitlines()]
    assert log.index("broker.ready") < log.index("broker.stopping") < log.index("broker.stopped")
    assert house.denial(refused.handle, "lacks the scope events:write")
    assert "Traceback" not in house.broker.log()
    assert house.hub_password not in house.broker.log()
    assert clients[0].token not in house.broker.log()
