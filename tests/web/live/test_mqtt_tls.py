"""The way to the broker over TLS: a page is carried to whoever has the certificate of the settings, and no other."""

import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from hub.settings import Settings
from web.security import SESSION_COOKIE

Service = Any  # tests/web/live/conftest.py

CONNECT = b"\x10\x1a\x00\x04MQTT\x04\xc2\x00\x3c\x00\x04ui_x\x00\x04ui_x\x00\x02no"
REFUSED = b"\x20\x02\x00\x04"


def certify(folder: Path, name: str) -> tuple[Path, Path]:
    """A self-signed certificate that names no machine at all: it is trusted for itself."""
    cert, key = folder / f"{name}.crt", folder / f"{name}.key"
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
    argv = ["openssl", "req", "-x509", *kind, "-keyout", key, "-out", cert, "-subj", f"/CN={name}"]
    subprocess.run(argv, check=True, capture_output=True)
    return cert, key


@pytest.fixture
def settings(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The live pages' settings, with a certificate for all services."""
    cert, key = certify(tmp_path, "ours")
    monkeypatch.setenv("MARVAIN_TLS_CERT_FILE", str(cert))
    monkeypatch.setenv("MARVAIN_TLS_KEY_FILE", str(key))
    return settings.model_copy(update={"tls_cert_file": cert, "tls_key_file": key})


def page(served: str, token: str) -> connect:
    """A page's WebSocket to /mqtt."""
    cookie = {"Cookie": f"{SESSION_COOKIE}={token}"}
    where = f"ws://{urlsplit(served).netloc}/mqtt"
    return connect(where, additional_headers=cookie, origin=served, subprotocols=["mqtt"], proxy=None)  # type: ignore[list-item, arg-type]


async def test_a_page_is_carried_to_the_broker_of_the_certificate_alone(
    served: str, owner_token: str, settings: Settings, broker: Service
) -> None:
    assert broker.is_running
    async with page(served, owner_token) as websocket:
        await websocket.send(CONNECT)
        assert await websocket.recv() == REFUSED
    # Another certificate in the place of ours, as of somebody who has taken the broker's port.
    assert settings.tls_cert_file is not None
    other, _ = certify(settings.tls_cert_file.parent, "theirs")
    settings.tls_cert_file.write_bytes(other.read_bytes())
    async with page(served, owner_token) as websocket:
        with pytest.raises(ConnectionClosed) as ended:
            await websocket.recv()
    assert ended.value.rcvd is not None
    assert ended.value.rcvd.code == 1013
