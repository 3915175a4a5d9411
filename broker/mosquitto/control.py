"""The adapter's own MQTT client: commands to the plugin and their answers, words to devices, retained topics purged."""

import queue
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.reasoncodes import ReasonCode

from broker.mosquitto.differences import Command
from broker.mosquitto.document import ADAPTER, CONTROL, RESPONSE
from hub import pinned
from hub.errors import HubError

CONNECT_TIMEOUT_S: Final = 10.0
# The plugin writes its whole file for each command; on a busy machine with many clients a portion takes seconds.
ANSWER_TIMEOUT_S: Final = 60.0
KEEPALIVE_S: Final = 20
# Commands in one message are carried out without another client's packet between them: everybody waits so long, and so
# does what is more urgent.
MOST_COMMANDS: Final = 5
MOST_BYTES: Final = 128 * 1024
PAGE: Final = 100
ROLES_PAGE: Final = 25


class BrokerAway(HubError):
    """Mosquitto is not there, does not let the adapter in, or does not answer."""


class Control:
    """One connection; any failure ends it, and whoever uses it begins anew."""

    def __init__(self, host: str, port: int, username: str, password: str, tls_cert_file: Path | None = None) -> None:
        self._address = (host, port)
        self._connected = threading.Event()
        self._gone = threading.Event()
        self._why = ""
        self._answers: queue.SimpleQueue[list[dict[str, Any]]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._retained: dict[str, int] = {}
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=ADAPTER,
            clean_session=True,
            protocol=paho.MQTTv311,
            reconnect_on_failure=False,
        )
        client.username_pw_set(username, password)
        client.max_inflight_messages_set(1000)
        if tls_cert_file is not None:
            client.tls_set_context(pinned.for_paho(tls_cert_file))
        client.on_connect = self._on_connect
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        client.on_subscribe = lambda *_: self._connected.set()
        # Each command waits for an answer: nothing is gained by waiting for more to send along.
        client.on_socket_open = _send_at_once
        self._client = client

    def open(self) -> None:
        """Connect; raises `BrokerAway`."""
        try:
            self._client.connect(*self._address, keepalive=KEEPALIVE_S)
        except (OSError, ValueError) as error:
            raise BrokerAway(f"{self._address[0]}:{self._address[1]} does not answer: {error}") from None
        self._client.loop_start()
        deadline = time.monotonic() + CONNECT_TIMEOUT_S
        while not self._connected.wait(0.02):
            if self._gone.is_set() or time.monotonic() > deadline:
                self.close()
                raise BrokerAway(f"Mosquitto did not let the adapter in: {self._why or 'no answer'}")

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    @property
    def is_gone(self) -> bool:
        return self._gone.is_set()

    def ask(self, commands: Sequence[Command]) -> list[dict[str, Any]]:
        """Have commands carried out in order; their answers, in order. Raises `BrokerAway`."""
        answers: list[dict[str, Any]] = []
        with self._lock:
            for some in _portions(commands):
                answers += self._ask(some)
        return answers

    def tell(self, topic: str, payload: bytes) -> None:
        """Publish without waiting; from any thread."""
        self._client.publish(topic, payload, 0)

    def everything(self, between: Callable[[], None]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """All clients and all roles of the plugin, page by page, with a call `between` pages for what cannot wait.

        Raises `BrokerAway`.
        """
        found: dict[str, list[dict[str, Any]]] = {"clients": [], "roles": []}
        for command, what, size in (("listClients", "clients", PAGE), ("listRoles", "roles", ROLES_PAGE)):
            for page in self._pages(command, what, size):
                found[what] += page
                between()
        return found["clients"], found["roles"]

    def retained(self, filters: Sequence[str]) -> dict[str, int]:
        """The topics below these filters that hold a retained message, with its bytes. Raises `BrokerAway`."""
        with self._lock:
            return self._look_at_retained(filters)

    def purge(self, filters: Sequence[str], kept: frozenset[str]) -> list[str]:
        """Delete what is retained below these filters, but for topics that end with one of `kept`; what was deleted."""
        with self._lock:
            found = sorted(topic for topic in self._look_at_retained(filters) if topic.split("/")[-1] not in kept)
            for topic in found:
                self._client.publish(topic, b"", 1, retain=True)
            if found:
                self._ask([{"command": "getDefaultACLAccess"}])
        return found

    def _look_at_retained(self, filters: Sequence[str]) -> dict[str, int]:
        self._retained = {}
        for one in filters:
            self._client.subscribe(one, 0)
        # The answer comes after all that is retained.
        self._ask([{"command": "getDefaultACLAccess"}])
        for one in filters:
            self._client.unsubscribe(one)
        found, self._retained = self._retained, {}
        return found

    def settle(self) -> None:
        """Return when everything told before has left the broker. Raises `BrokerAway`."""
        self.ask([{"command": "getDefaultACLAccess"}])

    def _pages(self, command: str, what: str, page: int) -> Iterator[list[dict[str, Any]]]:
        offset = 0
        while True:
            [answer] = self.ask([{"command": command, "verbose": True, "count": page, "offset": offset}])
            found: list[dict[str, Any]] = answer.get("data", {}).get(what, [])
            yield found
            offset += len(found)
            if not found or offset >= int(answer.get("data", {}).get("totalCount", 0)):
                return

    def _ask(self, commands: Sequence[Command]) -> list[dict[str, Any]]:
        token = uuid.uuid4().hex
        marked = [{**command, "correlationData": token} for command in commands]
        self._client.publish(CONTROL, msgspec.json.encode({"commands": marked}), 1)
        deadline = time.monotonic() + ANSWER_TIMEOUT_S
        while not self._gone.is_set():
            try:
                answers = self._answers.get(timeout=0.2)
            except queue.Empty:
                if time.monotonic() > deadline:
                    raise BrokerAway("the dynamic-security plugin does not answer") from None
                continue
            if answers and answers[0].get("correlationData") == token:
                return answers
        raise BrokerAway(f"the connection to Mosquitto was lost: {self._why}")

    def _on_connect(
        self, client: paho.Client, _data: Any, _flags: paho.ConnectFlags, reason: ReasonCode, _properties: Any
    ) -> None:
        if reason.is_failure:
            self._why = str(reason)
            self._gone.set()
            return
        client.subscribe(RESPONSE, 1)

    def _on_disconnect(
        self, _client: paho.Client, _data: Any, _flags: Any, reason: ReasonCode, _properties: Any
    ) -> None:
        self._why = self._why or str(reason)
        self._gone.set()

    def _on_message(self, _client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            return
        if topic == RESPONSE:
            answers = msgspec.json.decode(message.payload).get("responses", [])
            self._answers.put(answers)
        elif message.retain and message.payload:
            self._retained[topic] = len(message.payload)


def _send_at_once(_client: paho.Client, _data: Any, sock: Any) -> None:
    if isinstance(sock, socket.socket):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _portions(commands: Sequence[Command]) -> Iterator[list[Command]]:
    some: list[Command] = []
    size = 0
    for command in commands:
        length = len(msgspec.json.encode(command))
        if some and (len(some) >= MOST_COMMANDS or size + length > MOST_BYTES):
            yield some
            some, size = [], 0
        some.append(command)
        size += length
    if some:
        yield some
