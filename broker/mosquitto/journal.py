"""Mosquitto's log, read for who is connected, what is subscribed, and what was refused.

Mosquitto tells nothing of that otherwise, and of refused PUBLISH, SUBSCRIBE and of Wills only in its debug log. It
prints no payload and no secret; names and topics in it are valid UTF-8 without control characters, so no client can
forge a line of another's.
"""

import re
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Connected:
    """A client is let in. `clean` is its clean-session flag; `port` is the listener's."""

    username: str
    address: str
    port: int
    clean: bool
    keep_alive_s: int


@dataclass(frozen=True, slots=True)
class Disconnected:
    """A client's connection has ended, for whatever reason."""

    username: str


@dataclass(frozen=True, slots=True)
class Subscribed:
    """A subscription was granted; `qos` None: it was left."""

    username: str
    filter: str
    qos: int | None


@dataclass(frozen=True, slots=True)
class WillSeen:
    """A client was let in with a Will on this topic, which Mosquitto holds against the grants only when it is due."""

    username: str
    topic: str


@dataclass(frozen=True, slots=True)
class DeniedPublish:
    """A message was thrown away."""

    username: str
    topic: str


@dataclass(frozen=True, slots=True)
class DeniedSubscribe:
    """A subscription was refused."""

    username: str
    filter: str


@dataclass(frozen=True, slots=True)
class DeniedConnect:
    """Somebody was not let in; Mosquitto tells neither name nor reason."""

    address: str


Event = Connected | Disconnected | Subscribed | WillSeen | DeniedPublish | DeniedSubscribe | DeniedConnect

# Everything but what comes with each message: that must cost next to nothing.
_LINE: Final = re.compile(rb"^(?!Received P|Sending P|Received D|dynsec: |No will )([^\n]+)$", re.MULTILINE)
# No name of ours begins like a word of Mosquitto's own.
_NAME: Final = r"([a-z0-9][a-z0-9_-]*)"
_NEW: Final = re.compile(r"New connection from (.+):(\d+) on port (\d+)\.$")
_CONNECTED: Final = re.compile(
    rf"New client connected from (.+):(\d+) as {_NAME} \(p\d, c([01]), k(\d+), u'{_NAME}'\)\.$"
)
_GONE: Final = re.compile(rf"Client {_NAME} (?:disconnected|closed its|has exceeded|been disconnected)\b.*$")
_RECEIVED: Final = re.compile(rf"Received (SUBSCRIBE|UNSUBSCRIBE) from {_NAME}$")
_ASKED: Final = re.compile(r"\t(.+) \(QoS (\d)\)$")
_REFUSED: Final = re.compile(rf"Denied PUBLISH from {_NAME} \(d\d, q\d, r\d, m\d+, '(.*)', \.\.\. \(\d+ bytes\)\)$")
# Mosquitto cuts a line at 999 bytes, and its topic with it.
_REFUSED_LONG: Final = re.compile(rf"Denied PUBLISH from {_NAME} \(d\d, q\d, r\d, m\d+, '(.{{800,}})$")
_NOT_IN: Final = re.compile(r"Sending CONNACK to (.+) \(0, [1-5]\)$")
# Without the debug log that is all there is of SUBSCRIBE (with its QoS) and UNSUBSCRIBE (without).
_TOLD: Final = re.compile(rf"{_NAME} (?:([012]) )?(.+)$")
_PORTS_KEPT: Final = 4_096


class Journal:
    """Takes the log as it comes, in pieces of any size, and gives events."""

    def __init__(self) -> None:
        self._rest = b""
        # What the following lines are about: a SUBSCRIBE, UNSUBSCRIBE or the Will of whom; and the filter not answered.
        self._about: tuple[str, str] | None = None
        self._asked = ""
        self._ports: dict[tuple[str, str], int] = {}
        self._last: str | None = None
        self.words: list[str] = []

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """The events of the lines that are complete now; `words` are lines that a person should read."""
        whole, newline, rest = (self._rest + chunk).rpartition(b"\n")
        self._rest = rest[-65_536:]
        if newline:
            for found in _LINE.finditer(whole):
                yield from self._read(found[1].decode("utf-8", "replace"))

    def _read(self, line: str) -> Iterator[Event]:
        about, self._about = self._about, None
        if about is not None:
            kept = yield from self._continued(about, line)
            if kept:
                self._about = about
                return
        if line.startswith("New"):
            yield from self._new(line)
        elif line.startswith(("Error", "Warning", "Unable")):
            self.words = [*self.words[-9:], line]
        elif found := _RECEIVED.match(line):
            self._about = (found[1], found[2])
        elif line.startswith("Will message specified") and self._last is not None:
            self._about = ("WILL", self._last)
        elif (event := _event(line)) is not None:
            yield event

    def _new(self, line: str) -> Iterator[Event]:
        if found := _NEW.match(line):
            if len(self._ports) >= _PORTS_KEPT:
                self._ports.clear()
            self._ports[found[1], found[2]] = int(found[3])
        elif (found := _CONNECTED.match(line)) and found[3] == found[6]:
            self._last = found[3]
            address = found[1].removeprefix("::ffff:")
            port = self._ports.pop((found[1], found[2]), 0)
            yield Connected(found[3], address, port, found[4] == "1", int(found[5]))

    def _continued(self, about: tuple[str, str], line: str) -> Generator[Event, None, bool]:
        """Whether the line belongs to what came before."""
        what, username = about
        if what == "WILL":
            if line.startswith("\t"):
                yield WillSeen(username, line[1:])
                return True
            return False
        if what == "UNSUBSCRIBE":
            if line.startswith(f"{username} "):
                yield Subscribed(username, line[len(username) + 1 :], None)
            return line.startswith((f"{username} ", "\t"))
        asked = _ASKED.match(line)
        if self._asked and line.startswith(f"{username} ") and line.endswith(f" {self._asked}"):
            qos = line[len(username) + 1 : -len(self._asked) - 1]
            yield Subscribed(username, self._asked, int(qos) if qos.isdigit() else 0)
            self._asked = ""
            return True
        if self._asked:
            yield DeniedSubscribe(username, self._asked)
            self._asked = ""
        if asked is not None:
            self._asked = asked[1]
            return True
        return False


def _event(line: str) -> Event | None:
    """What one line tells alone."""
    if found := _GONE.match(line):
        return Disconnected(found[1])
    if found := _REFUSED.match(line) or _REFUSED_LONG.match(line):
        return DeniedPublish(found[1], found[2])
    if found := _NOT_IN.match(line):
        return DeniedConnect(found[1])
    if found := _TOLD.match(line):
        return Subscribed(found[1], found[3], int(found[2]) if found[2] else None)
    return None
