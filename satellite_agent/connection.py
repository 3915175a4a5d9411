"""One MQTT connection: how it is made, what refuses it for good, and how long to wait before the next."""

import logging
import random
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import aiomqtt
from paho.mqtt.reasoncodes import ReasonCode

from hub_protocol.catalogue import encode
from hub_protocol.messages import State
from hub_protocol.topics import Topics
from satellite_agent.settings import Settings

log = logging.getLogger(__name__)

KEEPALIVE_S: Final = 20
TIMEOUT_S: Final = 10.0
_PROTOCOLS: Final = {"3.1.1": aiomqtt.ProtocolVersion.V311, "5": aiomqtt.ProtocolVersion.V5}
_ANOTHER_VERSION: Final = "the broker speaks another version of MQTT; set mqtt_version to 3.1.1 or 5"
# What no retry mends. MQTT 3.1.1 says 1, 2, 4, 5 in CONNACK; paho may tell them with the numbers of MQTT 5.
_FOR_GOOD: Final = {
    1: _ANOTHER_VERSION,
    2: "the broker does not accept this client id",
    4: "the token is not accepted",
    5: "not authorized: the token is not accepted, or the device may not connect",
    132: _ANOTHER_VERSION,
    133: "the broker does not accept this client id",
    134: "the token is not accepted",
    135: "not authorized: the token is not accepted, or the device may not connect",
    138: "the broker has banned this device",
}
_VAGUE: Final = (5, 135)
# Whatever the hub says, it is asked again so often.
_LONGEST_KNOCK_S: Final = 900.0


class Refused(Exception):
    """The broker refused the connection for good; the message says why.

    `is_vague`: it may be about the token or about leave to connect, and the broker does not tell which.
    """

    def __init__(self, message: str, *, is_vague: bool = False) -> None:
        super().__init__(message)
        self.is_vague = is_vague


class Unreachable(Exception):
    """There is no connection now; another attempt may succeed."""


@asynccontextmanager
async def connect(settings: Settings, topics: Topics, epoch: int) -> AsyncIterator[aiomqtt.Client]:
    """A live connection whose Will says `lost` with this epoch; raises `Refused` or `Unreachable`."""
    will = aiomqtt.Will(topics.state(settings.handle), encode(State("lost", epoch)), qos=1, retain=True)
    client = aiomqtt.Client(
        settings.hub.host,
        settings.hub.port,
        username=settings.handle,
        password=settings.token,
        identifier=settings.handle,
        will=will,
        protocol=_PROTOCOLS[settings.mqtt_version],
        # MQTT 5 calls it clean start, which is the client's default; without an expiry it means the same.
        clean_session=True if settings.mqtt_version == "3.1.1" else None,
        keepalive=KEEPALIVE_S,
        timeout=TIMEOUT_S,
        transport=settings.hub.transport,
        websocket_path=settings.hub.path or None,
        tls_context=_tls(settings) if settings.hub.tls else None,
        max_queued_incoming_messages=1_000,
        max_inflight_messages=64,
        # Small packets go out at once instead of waiting for the acknowledgement of the one before.
        socket_options=[(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)],
    )
    client.pending_calls_threshold = 100
    try:
        await client.__aenter__()
    except aiomqtt.MqttError as error:
        # After a silent broker the socket is still open, and a late CONNACK would make it a second connection of ours.
        client._client.disconnect()  # noqa: SLF001 - aiomqtt has no way to give up an attempt
        code = _code(error)
        if code in _FOR_GOOD:
            raise Refused(_FOR_GOOD[code], is_vague=code in _VAGUE) from None
        raise Unreachable(_text(error)) from None
    except (OSError, ValueError) as error:  # a name that is no host name is a UnicodeError, thus a ValueError
        raise Unreachable(str(error)) from None
    try:
        yield client
    except aiomqtt.MqttError as error:
        raise Unreachable(_text(error)) from None
    finally:
        try:
            await client.__aexit__(None, None, None)
        except aiomqtt.MqttError as error:
            log.debug("the connection did not close in order: %s", error)


class Backoff:
    """Waits with full jitter: a random time below a bound that doubles from 1 s to 60 s."""

    def __init__(self, first_s: float = 1.0, longest_s: float = 60.0) -> None:
        self._first_s = first_s
        self._longest_s = longest_s
        self.attempts = 0
        self._least_s = 0.0

    def at_least(self, seconds: float) -> None:
        """Let the next wait be so long, or half as long again."""
        self._least_s = min(max(seconds, 1.0), _LONGEST_KNOCK_S)

    def next(self) -> float:
        bound = min(self._longest_s, self._first_s * 2 ** min(self.attempts, 32))
        self.attempts += 1
        least, self._least_s = self._least_s, 0.0
        return least + random.uniform(0, max(bound, least / 2))  # noqa: S311 - to spread load, not to keep a secret

    def reset(self) -> None:
        self.attempts = 0


def _tls(settings: Settings) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=settings.ca_file)
    except (OSError, ssl.SSLError) as error:
        raise Unreachable(f"the CA file {settings.ca_file} is not usable: {error}") from None


def _code(error: aiomqtt.MqttError) -> int:
    if not isinstance(error, aiomqtt.MqttCodeError):
        return -1
    return error.rc.value if isinstance(error.rc, ReasonCode) else error.rc if isinstance(error.rc, int) else -1


def _text(error: aiomqtt.MqttError) -> str:
    cause = error.__cause__
    return f"{error} ({cause})" if cause is not None and str(cause) != str(error) else str(error)
