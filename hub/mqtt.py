"""The hub's one MQTT client: a persistent session whose messages are acknowledged only when the hub says so."""

import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Literal

import paho.mqtt.client as paho
import structlog
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.reasoncodes import ReasonCode

from hub import pinned, read_ahead
from hub.errors import HubError
from hub.inbox.envelope import Incoming
from hub.outbox import Message
from hub.settings import HUB_USERNAME, Settings
from hub_protocol.catalogue import encode
from hub_protocol.messages import HubStatus
from hub_protocol.topics import Topics

log = structlog.get_logger(__name__)

KEEPALIVE_S: Final = 20
ACKNOWLEDGE_TIMEOUT_S: Final = 10.0
# A broken connection is noticed so soon by who waits for an acknowledgement.
LOOK_S: Final = 0.2
_LAST_RETRY_S: Final = 5
# What a broker that does not read makes wait here; beyond it, what is sent without waiting is not sent at all.
_UNSENT_MAX: Final = 20_000
_TOPICS: Final = Topics.below_root()


class BrokerAway(HubError):
    """The broker is not there or did not acknowledge in time; what was to be said is said later."""


class NetworkEnded(HubError):
    """The thread that speaks with the broker has died."""


class HubClient:
    """Connects, reconnects, subscribes, hands messages over and publishes; all callbacks run in the network thread.

    `on_message` returns False for what is to be acknowledged at once, because nobody will; while it waits, nothing more
    is read from the broker. `on_connected` is told whether the broker remembered the session: when it did not, it
    has also forgotten what the hub had retained.
    """

    def __init__(
        self,
        settings: Settings,
        password: str,
        filters: Sequence[str],
        on_message: Callable[[Incoming], bool],
        on_connected: Callable[[bool], None],
    ) -> None:
        self._settings = settings
        self._filters = filters
        self._on_message = on_message
        self._on_connected = on_connected
        self._prefix = settings.root + "/"
        self._topics = Topics(settings.root)
        self._connected = threading.Event()
        # Rises with every loss of the connection: acknowledgements of an older one must not reach the next, where the
        # same packet id may stand for another message.
        self._generation = 0
        self._lock = threading.Lock()
        self._unwatched = threading.Event()
        client = read_ahead.Client(
            CallbackAPIVersion.VERSION2,
            client_id=HUB_USERNAME,
            clean_session=False,
            protocol=paho.MQTTv311,
            manual_ack=True,
        )
        client.username_pw_set(HUB_USERNAME, password)
        client.will_set(self._topics.hub_status(), self._status("offline"), qos=1, retain=True)
        client.max_inflight_messages_set(1000)
        client.max_queued_messages_set(_UNSENT_MAX)
        client.reconnect_delay_set(1, _LAST_RETRY_S)
        client.on_socket_open = _send_at_once
        client.on_connect = self._connect
        client.on_disconnect = self._disconnect
        client.on_message = self._message
        client.on_connect_fail = _say_why
        if settings.tls_cert_file is not None:
            client.tls_set_context(pinned.for_paho(settings.tls_cert_file))
        self._client = client

    @property
    def is_connected(self) -> bool:
        return self._connected.is_set()

    def start(self) -> None:
        """Begin to connect, in a thread of its own, and go on for ever."""
        self._client.connect_async(self._settings.mqtt_host, self._settings.mqtt_port, keepalive=KEEPALIVE_S)
        self._client.loop_start()

    def stop(self) -> None:
        """Say goodbye (`hub/status` becomes offline) and leave; the broker keeps the session."""
        if self.is_connected:
            info = self._client.publish(self._topics.hub_status(), self._status("offline"), qos=1, retain=True)
            try:
                info.wait_for_publish(2.0)
            except RuntimeError:
                log.info("hub.left_without_goodbye")
        self._client.disconnect()
        self._client.loop_stop()

    def watch(self) -> None:
        """Raise `NetworkEnded` when the network thread dies; it would leave a hub that is deaf and looks well."""
        while not self._unwatched.wait(1.0):
            thread = self._client._thread  # noqa: SLF001  (paho has no other way to tell)
            if thread is None or not thread.is_alive():
                raise NetworkEnded("the thread that speaks with the broker has died")

    def stop_watching(self) -> None:
        self._unwatched.set()

    def wait_connected(self, timeout_s: float) -> bool:
        return self._connected.wait(timeout_s)

    def acknowledge(self, deliveries: Iterable[tuple[int, int, int]]) -> None:
        """Tell the broker that these messages are safe; those of an earlier connection are left to be sent again."""
        with self._lock:
            for generation, mid, qos in deliveries:
                if qos and generation == self._generation:
                    self._client.ack(mid, qos)

    def publish(self, messages: Sequence[Message]) -> list[datetime]:
        """Publish and wait until the broker has acknowledged all; returns when each was handed to the network.

        Raises `BrokerAway` when the broker is not there or does not acknowledge in time.
        """
        if not self.is_connected:
            raise BrokerAway("the broker is not connected")
        generation = self._generation
        times = []
        infos = []
        try:
            for message in messages:
                times.append(datetime.now(UTC))
                infos.append(self.send(message))
            for info in infos:
                deadline = time.monotonic() + ACKNOWLEDGE_TIMEOUT_S
                while not info.is_published():
                    if generation != self._generation:
                        raise BrokerAway("the connection broke before the broker had acknowledged")
                    if time.monotonic() > deadline:
                        raise BrokerAway(f"the broker acknowledged nothing for {ACKNOWLEDGE_TIMEOUT_S:.0f} s")
                    info.wait_for_publish(LOOK_S)
        except (RuntimeError, ValueError) as error:
            raise BrokerAway(f"the broker did not take a message: {error}") from None
        return times

    def say_online(self) -> None:
        """Publish the hub's own status, which every broker takes; raises `BrokerAway` when this one does not now."""
        self.publish([Message(_TOPICS.hub_status(), self._status("online"), retain=True)])

    def send(self, message: Message) -> paho.MQTTMessageInfo:
        """Publish without waiting: for what is worth nothing later, or is said again when it was not heard."""
        if not message.qos and len(self._client._out_packet) > _UNSENT_MAX:  # noqa: SLF001  (paho bounds QoS 1 alone)
            return paho.MQTTMessageInfo(0)
        return self._client.publish(self._prefix + message.topic, message.payload, message.qos, message.retain)

    def _connect(
        self, client: paho.Client, _data: Any, flags: paho.ConnectFlags, reason: ReasonCode, _properties: Any
    ) -> None:
        if reason.is_failure:
            log.error("hub.broker_refused", reason=str(reason))
            return
        log.info("hub.connected", session_present=flags.session_present)
        client.subscribe([(one, 1) for one in self._filters])
        client.publish(self._topics.hub_status(), self._status("online"), qos=1, retain=True)
        self._connected.set()
        self._on_connected(flags.session_present)

    def _disconnect(
        self, client: paho.Client, _data: Any, _flags: paho.DisconnectFlags, reason: ReasonCode, _properties: Any
    ) -> None:
        with self._lock:
            self._generation += 1
        # The outbox says again what was not acknowledged, in order. What paho still holds would come first and out of
        # order, and a message for which the broker hangs up would do so for ever.
        with client._out_message_mutex:  # noqa: SLF001  (paho has no other way to forget)
            client._out_messages.clear()  # noqa: SLF001
            client._inflight_messages = 0  # noqa: SLF001
        if self._connected.is_set():
            self._connected.clear()
            log.warning("hub.disconnected", reason=str(reason))

    def _message(self, client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            client.ack(message.mid, message.qos)
            return
        delivery = (self._generation, message.mid, message.qos)
        incoming = Incoming(topic, bytes(message.payload), message.retain, datetime.now(UTC), delivery)
        if not self._on_message(incoming) and message.qos:
            client.ack(message.mid, message.qos)

    @staticmethod
    def _status(status: Literal["online", "offline"]) -> bytes:
        return encode(HubStatus(status, datetime.now(UTC)))


def _say_why(_client: paho.Client, _data: Any) -> None:
    # paho calls this where it has caught the error, and tells it to nobody.
    error = sys.exc_info()[1]
    if isinstance(error, ssl.SSLError):
        log.error("hub.broker_not_trusted", reason=str(error))
    else:
        log.warning("hub.broker_away", reason=str(error))


def _send_at_once(_client: paho.Client, _data: Any, opened: Any) -> None:
    # Small packets go out as they are written. Otherwise the second waits until the broker's system has acknowledged
    # the first, which it puts off for up to 40 ms.
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
