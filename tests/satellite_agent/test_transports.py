"""MQTT 3.1.1 and 5, over TCP and WebSocket, plain and by TLS: refused first, then a whole conversation on each way."""

import socket
import subprocess

import pytest
from ports import free_port

from .conftest import OTHER_TOKEN, Broker, Hub


def certify(folder, name="ca"):
    """A self-signed certificate for 127.0.0.1, and its key."""
    cert, key = folder / f"{name}.crt", folder / f"{name}.key"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-days", "2", "-keyout", key, "-out", cert, "-subj", f"/CN={name}"),
            *("-addext", "subjectAltName=IP:127.0.0.1"),
        ],
        check=True,
        capture_output=True,
    )
    return cert, key


class SecureBroker(Broker):
    """The broker with two listeners more, by TLS."""

    def __init__(self, folder):
        super().__init__(folder)
        self.cert, key = certify(folder)
        self.tls_port, self.wss_port = free_port(), free_port()
        self.listens_on += [self.tls_port, self.wss_port]
        tls = f"certfile {self.cert}\nkeyfile {key}\n"
        with (folder / "mosquitto.conf").open("a") as config:
            config.write(f"listener {self.tls_port} 127.0.0.1\n{tls}")
            config.write(f"listener {self.wss_port} 127.0.0.1\nprotocol websockets\n{tls}")

    def ways(self):
        return {
            "mqtt": self.url,
            "ws": f"ws://127.0.0.1:{self.ws_port}/mqtt",
            "mqtts": f"mqtts://127.0.0.1:{self.tls_port}",
            "wss": f"wss://127.0.0.1:{self.wss_port}/mqtt",
        }


@pytest.fixture(scope="module")
def secure(tmp_path_factory):
    running = SecureBroker(tmp_path_factory.mktemp("secure"))
    try:
        running.start()
        yield running
    finally:
        running.stop()


@pytest.fixture
def broker(secure):
    return secure


@pytest.fixture
def hub(secure):
    side = Hub(secure)
    yield side
    side.close()


def flags(secure, way, version):
    more = {"ca_file": str(secure.cert)} if way in ("mqtts", "wss") else {}
    return {"hub": secure.ways()[way], "mqtt_version": version} | more


@pytest.mark.parametrize("way", ["mqtts", "wss"])
def test_a_certificate_that_is_not_trusted_gets_no_token(start, secure, tmp_path, way):
    satellite = start(hub=secure.ways()[way])
    satellite.wait_log("certificate verify failed")
    other, _ = certify(tmp_path, "other")
    satellite = start(hub=secure.ways()[way], ca_file=str(other), state_dir=str(tmp_path / "second"))
    satellite.wait_log("certificate verify failed")


def test_a_certificate_for_another_name_is_not_trusted(start, secure):
    start(hub=f"mqtts://localhost:{secure.tls_port}", ca_file=str(secure.cert)).wait_log("not valid for 'localhost'")


def test_a_file_that_holds_no_certificate_is_named(start, secure, tmp_path):
    (tmp_path / "empty.pem").write_text("none")
    start(hub=secure.ways()["mqtts"], ca_file=str(tmp_path / "empty.pem")).wait_log("is not usable")


@pytest.mark.parametrize("version", ["4", "3", "", "five"])
def test_another_version_is_refused_by_name(start, version):
    satellite = start(f"mqtt_version = '{version or 6}'\n")
    assert satellite.wait_exit() == 78
    assert "mqtt_version: must be 3.1.1 or 5" in satellite.log


@pytest.mark.parametrize("way", ["mqtt", "wss"])
def test_a_wrong_token_is_final_in_mqtt_5_too(start, secure, way):
    satellite = start(token=OTHER_TOKEN, **flags(secure, way, "5"))
    assert satellite.wait_exit() == 77
    assert "token is not accepted" in satellite.log


def test_a_broker_that_does_not_speak_mqtt_5_is_named(start):
    """As one of MQTT 3.1.1 answers by the book: CONNACK 1, and hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as old:
        satellite = start(hub=f"mqtt://127.0.0.1:{old.getsockname()[1]}", mqtt_version="5")
        link, _ = old.accept()
        with link:
            assert b"MQTT\x05" in link.recv(4096)
            link.sendall(b"\x20\x02\x00\x01")
        assert satellite.wait_exit() == 77
    assert "set mqtt_version to 3.1.1" in satellite.log


@pytest.mark.parametrize("version", ["3.1.1", "5"])
@pytest.mark.parametrize("way", ["mqtt", "ws", "mqtts", "wss"])
def test_a_whole_conversation(start, hub, secure, cli, way, version):
    satellite = start("[verbs.device_status]\n", **flags(secure, way, version))
    satellite.wait_log("hub answered")
    assert cli("send", "door_open", '{"angle": 12}').returncode == 0
    hub.command("device_status", f"{way}{version[0]}")
    hub.wait(lambda: [one.status for one in hub.replies(f"{way}{version[0]}")][-1:] == ["succeeded"], "the reply")
    satellite.process.kill()
    hub.wait_for("state", lambda state: state.state == "lost")
    satellite.wait_exit()


def test_the_systems_authorities_count_where_none_is_given(start, hub, secure, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(secure.cert))
    start(hub=secure.ways()["mqtts"]).wait_log("hub answered")
