"""What is pasted into a device so that it connects: for Linux, a container, MicroPython and plain MQTT."""

import shlex
import string
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hub.settings import Settings
from hub_protocol.topics import DEFAULT_ROOT, Topics

_FOLDER: Final = Path(__file__).parents[1] / "templates/snippets"
_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")


class _Text(string.Template):
    """`@{name}` is filled in; a dollar sign is the shell's own."""

    delimiter = "@"


@dataclass(frozen=True, slots=True)
class Snippet:
    """One way; `text` is pasted as it stands, `hint` says what it needs."""

    name: str
    title: str
    text: str
    hint: str


def of_device(settings: Settings, handle: str, token: str, epoch: int) -> list[Snippet]:
    """All ways for this device. `epoch`: above whatever its predecessors had."""
    host, port = settings.device_mqtt_host, settings.device_mqtt_port
    tls = settings.tls_cert_file is not None
    topics = Topics(settings.root)
    own_root = settings.root != DEFAULT_ROOT
    shown_host = f"[{host}]" if ":" in host else host
    container_settings = ""
    if tls:
        container_settings += " \\\n  -e MARVAIN_SATELLITE_CA_FILE=/ca.pem"
    if own_root:
        container_settings += f" \\\n  -e MARVAIN_SATELLITE_ROOT={shlex.quote(settings.root)}"
    values = {
        "host": host,
        "port": str(port),
        "tls": str(tls),
        "handle": handle,
        "token": token,
        "epoch": str(epoch),
        "url": shlex.quote(f"{'mqtts' if tls else 'mqtt'}://{shown_host}:{port}"),
        "ca": " --ca-file CA.pem" if tls else "",
        "root": f" --root {shlex.quote(settings.root)}" if own_root else "",
        "root_topic": settings.root,
        "container": f"marvain-{handle}",
        # Within a container, this machine's loopback is the container's own.
        "network": " --network host" if host in _LOOPBACK else "",
        "mount": ' \\\n  -v "$PWD/CA.pem:/ca.pem:ro"' if tls else "",
        "settings": container_settings,
        "reach": f"-h {shlex.quote(host)} -p {port}{' --cafile CA.pem' if tls else ''}",
        "heartbeat": topics.heartbeat(handle),
        "state": topics.state(handle),
    }
    return [
        Snippet(name, title, _Text(_FOLDER.joinpath(f"{name}.txt").read_text("utf-8")).substitute(values), hint)
        for name, title, hint in (
            (
                "linux",
                "Linux, as a service",
                "One paste, with sudo: marvain-satellite from your package index, as a service that starts at boot.",
            ),
            (
                "container",
                "Container",
                "Build the image once in Marvain's folder: docker build --target satellite -t marvain-satellite .",
            ),
            (
                "micropython",
                "MicroPython",
                "Says hello, beats, leaves a Will and answers pings. An ESP32 or a Pico W has room for it.",
            ),
            (
                "beat",
                "Plain MQTT: mosquitto_pub",
                "One connection that beats every 15 s and leaves a Will. It hears nothing: below are lines that do.",
            ),
        )
    ]
