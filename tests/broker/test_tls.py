"""TLS on both listeners: bad files are named, old versions refused, the hub and a satellite trust the certificate."""

import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from websockets.sync.client import connect

from broker.embedded import tls
from hub import pinned
from hub.errors import Invalid

House = Any  # tests/broker/conftest.py
REPOSITORY = Path(__file__).parents[2]


def certify(folder: Path, name: str = "broker", *, key: str = "ec") -> tuple[Path, Path]:
    """A self-signed certificate for this machine, and its key."""
    cert, secret = folder / f"{name}.crt", folder / f"{name}.key"
    kind = ["ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"] if key == "ec" else ["rsa:2048"]
    names = "subjectAltName=DNS:localhost,IP:127.0.0.1"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", *kind, "-nodes", "-days", "2"),
            *("-keyout", secret, "-out", cert, "-subj", f"/CN={name}", "-addext", names),
        ],
        check=True,
        capture_output=True,
    )
    return cert, secret


def environment(cert: Path, key: Path) -> dict[str, str]:
    return {"MARVAIN_TLS_CERT_FILE": str(cert), "MARVAIN_TLS_KEY_FILE": str(key)}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return certify(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def shared(house_with: Callable[..., House], files: tuple[Path, Path]) -> Iterator[House]:
    house = house_with(environment(*files))
    yield house
    assert "Traceback" not in house.broker.log(), house.broker.log()


@pytest.fixture
def secure(shared: House) -> Iterator[House]:
    yield shared
    shared.hang_up()


def trusting(cert: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=cert)


def over_tls(house: House, context: ssl.SSLContext) -> Any:
    """A peer behind TLS."""
    peer = house.dial()
    peer.socket = context.wrap_socket(peer.socket, server_hostname="localhost")
    return peer


def start_anyway(more: dict[str, str]) -> tuple[int, str]:
    """Exit code and words of a broker that has no reason to ask for its database."""
    settings = {"MARVAIN_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none"} | more
    done = subprocess.run(
        [sys.executable, "-m", "broker"],
        cwd=REPOSITORY,
        env=os.environ | settings,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return done.returncode, done.stderr


def test_one_file_without_the_other_is_refused_and_named(files: tuple[Path, Path]) -> None:
    cert, key = files
    code, words = start_anyway({"MARVAIN_TLS_CERT_FILE": str(cert)})
    assert code == 78
    assert "without MARVAIN_TLS_KEY_FILE" in words
    with pytest.raises(Invalid, match="without MARVAIN_TLS_CERT_FILE"):
        tls.certificate(None, key)
    assert tls.certificate(None, None) is None


def test_files_that_are_missing_or_do_not_fit_are_refused_and_named(tmp_path: Path, files: tuple[Path, Path]) -> None:
    cert, key = files
    _, other = certify(tmp_path, "other")
    nothing = tmp_path / "nothing"
    with pytest.raises(Invalid, match=rf"MARVAIN_TLS_KEY_FILE: {nothing} cannot be read"):
        tls.certificate(cert, nothing)
    with pytest.raises(Invalid, match="no certificate and its key"):
        tls.certificate(cert, other)
    with pytest.raises(Invalid, match="no certificate and its key"):
        tls.certificate(key, key)


def test_who_speaks_no_tls_or_an_old_one_is_not_heard(secure: House, files: tuple[Path, Path]) -> None:
    device, token = secure.add()
    plain = secure.dial()
    plain.send(secure.wire.connect(device.handle, device.handle, token))
    assert b"\x20\x02" not in _all(plain.socket)
    old = trusting(files[0])
    old.set_ciphers("ALL:@SECLEVEL=0")
    with pytest.warns(DeprecationWarning, match="TLS"):
        old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    with pytest.raises(OSError, match=r"(?i)alert|eof|reset|protocol"):
        over_tls(secure, old)


def _all(sock: socket.socket) -> bytes:
    sock.settimeout(5)
    got = b""
    try:
        while more := sock.recv(1024):
            got += more
    except ConnectionResetError:
        pass
    return got


def test_a_device_comes_in_over_tls_and_a_wrong_token_is_told_so(secure: House, files: tuple[Path, Path]) -> None:
    device, token = secure.add()
    assert over_tls(secure, trusting(files[0])).connect(device.handle, device.handle, "wrong").body[1] == 4
    refused = over_tls(secure, trusting(files[0]))
    refused.connect(device.handle, device.handle, "wrong")
    assert refused.closed()
    peer = over_tls(secure, trusting(files[0]))
    assert peer.connect(device.handle, device.handle, token).body[1] == 0
    topic = f"marvain/v1/d/{device.handle}/event/e"
    # Larger than what TLS carries in one record.
    peer.publish(topic, b"x" * 200_000, 1)
    with connect(
        f"wss://localhost:{secure.broker.ws_port}/mqtt",
        subprotocols=["mqtt"],
        ssl=trusting(files[0]),
        compression=None,
        proxy=None,
    ) as websocket:
        websocket.send(secure.wire.connect(device.handle, device.handle, token))
        assert websocket.recv(5) == b"\x20\x02\x00\x00"
    assert peer.closed()


def test_a_new_certificate_is_taken_up_and_a_broken_one_is_not(secure: House, files: tuple[Path, Path]) -> None:
    cert, key = files
    trust = pinned.Pinned(cert)
    first = certificate_of(secure, trust)
    good_key = key.read_bytes()
    key.write_bytes(b"no key")
    secure.broker.process.send_signal(signal.SIGHUP)
    wait_for(lambda: "certificate_kept" in secure.broker.log())
    assert certificate_of(secure, trust) == first
    key.write_bytes(good_key)
    # Another kind of key: the old certificate must not be chosen because a client likes it better.
    certify(cert.parent, key="rsa")
    secure.broker.process.send_signal(signal.SIGHUP)
    wait_for(lambda: "certificate_loaded" in secure.broker.log())
    assert certificate_of(secure, trust) not in {first, b""}
    with pytest.raises(ssl.SSLCertVerificationError):
        certificate_of(secure, pinned.Pinned(certify(cert.parent, "third")[0]))


def certificate_of(house: House, trust: pinned.Pinned) -> bytes:
    """What the broker shows to one who trusts exactly that."""
    with (
        socket.create_connection(("127.0.0.1", house.broker.port)) as sock,
        trust.context().wrap_socket(sock, server_hostname="elsewhere.example") as wrapped,
    ):
        return wrapped.getpeercert(binary_form=True) or b""


def test_only_the_files_first_certificate_is_trusted(tmp_path: Path, secure: House, files: tuple[Path, Path]) -> None:
    chain = tmp_path / "chain.pem"
    chain.write_bytes(certify(tmp_path, "other")[0].read_bytes() + files[0].read_bytes())
    with pytest.raises(ssl.SSLCertVerificationError):
        certificate_of(secure, pinned.Pinned(chain))
    chain.write_bytes(files[0].read_bytes() + (tmp_path / "other.crt").read_bytes())
    assert certificate_of(secure, pinned.Pinned(chain))
    chain.write_text("nothing of the kind")
    with pytest.raises(ssl.SSLError, match="holds no certificate"):
        certificate_of(secure, pinned.Pinned(chain))


def test_hub_and_satellite_meet_over_tls(tmp_path: Path, secure: House, files: tuple[Path, Path]) -> None:
    device, token = secure.add()
    for name, secret in (("hub-password", secure.hub_password), ("token", token)):
        (tmp_path / name).write_text(secret)
        (tmp_path / name).chmod(0o600)
    hub_environment = secure.broker.environment() | {"MARVAIN_HUB_PASSWORD_FILE": str(tmp_path / "hub-password")}
    satellite = [sys.executable, "-m", "satellite_agent", "run", "--hub", f"mqtts://localhost:{secure.broker.port}"]
    satellite += ["--token-file", str(tmp_path / "token"), "--state-dir", str(tmp_path / "state")]
    with (tmp_path / "services.log").open("wb") as log:
        services = [
            subprocess.Popen(argv, cwd=REPOSITORY, env=given, stdout=log, stderr=log)
            for argv, given in (
                ([sys.executable, "-m", "hub"], hub_environment),
                ([*satellite, "--ca-file", str(files[0])], dict(os.environ)),
            )
        ]
    try:
        wait_for(lambda: presence(secure, device.device_id) == "online", 30)
    finally:
        for service in services:
            service.terminate()
        for service in services:
            service.wait(20)


def presence(house: House, device_id: Any) -> str | None:
    with house.database.transaction() as session:
        found = session.execute(
            text("SELECT verdict FROM device_presence WHERE device_id = :d"), {"d": device_id}
        ).scalar_one_or_none()
    return str(found) if found is not None else None


def wait_for(true: Callable[[], object], timeout: float = 5.0) -> None:
    deadline = time.monotonic() + timeout
    while not true():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def test_who_never_finishes_a_handshake_keeps_nobody_out(secure: House, files: tuple[Path, Path]) -> None:
    device, token = secure.add()
    for _ in range(520):
        secure.dial()
    peer = over_tls(secure, trusting(files[0]))
    assert peer.connect(device.handle, device.handle, token).body[1] == 0
