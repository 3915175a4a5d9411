"""Checks of remotes that cannot speak for themselves: whether an address takes a connection, or a serial port opens.

The hub says what to check (the key `remotes` of the config), and this machine's own file says what it lets it check:
`[checks.network]` and `[checks.serial]`, each with `allow`. What neither allows is told as not looked at. A check only
connects or opens, and closes again: it sends and writes nothing.
"""

import asyncio
import contextlib
import ipaddress
import logging
import os
import random
import re
import socket
import stat
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from hub_protocol.messages import Check
from hub_protocol.topics import HANDLE_PATTERN
from satellite_agent.settings import SettingsError

log = logging.getLogger(__name__)

CONFIG_KEY: Final = "remotes"
MOST: Final = 24
AT_ONCE: Final = 8
TIMEOUT_S: Final = 3.0
# One failure is none: it is tried again after a moment.
TRIES: Final = 2
PAUSE_S: Final = 1.0
# Results that come close together travel in one message.
GATHER_S: Final = 0.25

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class Wanted(msgspec.Struct, frozen=True):
    """One remote as the hub's config names it."""

    remote: Annotated[str, Meta(pattern=rf"^{HANDLE_PATTERN}$(?!\n)")]
    check: Literal["network", "serial"]
    address: Annotated[str, Meta(min_length=1, max_length=200)]
    every_s: Annotated[float, Meta(ge=5, le=3600)] = 30.0


class _Table(msgspec.Struct, forbid_unknown_fields=True):
    allow: Annotated[list[str], Meta(max_length=100)] = []


class Unallowed(Exception):
    """The machine's own file does not let the hub look there; the message says so."""


@dataclass(frozen=True, slots=True)
class Allowed:
    """What this machine's file opens: networks, names of hosts as they are written, and serial ports."""

    networks: tuple[Network, ...] = ()
    hosts: frozenset[str] = frozenset()
    ports: frozenset[str] = frozenset()

    def permits(self, address: str) -> bool:
        """Whether a numeric address lies in a network that is open."""
        found = ipaddress.ip_address(address.partition("%")[0])
        if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
            found = found.ipv4_mapped
        return any(found.version == network.version and found in network for network in self.networks)


def read(tables: Mapping[str, Any]) -> Allowed:
    """What `[checks.…]` opens; raises `SettingsError` naming what is wrong."""
    networks, hosts = [], set()
    known = {}
    for name, table in tables.items():
        if name not in ("network", "serial"):
            raise SettingsError(f"checks.{name}", "is no kind of check; there are network and serial")
        try:
            known[name] = msgspec.convert(table, _Table).allow
        except msgspec.ValidationError as error:
            raise SettingsError(f"checks.{name}", str(error)) from None
    for entry in known.get("network", []):
        try:
            networks.append(ipaddress.ip_network(entry))
        except ValueError:
            if "/" in entry or not re.fullmatch(r"[A-Za-z][A-Za-z0-9.-]*|[0-9-]*[A-Za-z][A-Za-z0-9.-]*", entry):
                raise SettingsError(
                    "checks.network", f"allow: {entry[:80]!r} is no network such as 192.168.1.0/24, and no host's name"
                ) from None
            hosts.add(entry.lower())
    for entry in known.get("serial", []):
        if not entry.startswith("/dev/") or ".." in entry.split("/"):
            raise SettingsError("checks.serial", f"allow: {entry[:80]!r} is no path below /dev")
    return Allowed(tuple(networks), frozenset(hosts), frozenset(known.get("serial", [])))


def wanted(values: Mapping[str, Any]) -> list[Wanted]:
    """What the config in force wants to be checked; what is malformed or too much is left alone, and logged."""
    found: dict[str, Wanted] = {}
    listed = values.get(CONFIG_KEY, [])
    for entry in listed if isinstance(listed, list) else []:
        try:
            one = msgspec.convert(entry, Wanted)
        except msgspec.ValidationError as error:
            log.warning("a remote in the config is left alone: %.200s", error)
            continue
        if len(found) < MOST:
            found.setdefault(one.remote, one)
    return list(found.values())


class Checks:
    """Runs the checks of one connection; `run` lasts until it is cancelled.

    `values` gives the config in force; `tell`, given to `run`, sends results by handle.
    """

    def __init__(self, allowed: Allowed, values: Callable[[], Mapping[str, Any]]) -> None:
        self._allowed = allowed
        self._values = values
        self._changed = asyncio.Event()
        self._room = asyncio.Semaphore(AT_ONCE)
        self._results: dict[str, Check] = {}
        self._any = asyncio.Event()

    def settings_changed(self) -> None:
        """The config may want other checks than before."""
        self._changed.set()

    async def run(self, tell: Callable[[dict[str, Check]], Awaitable[Any]]) -> None:
        loops: dict[Wanted, asyncio.Task[None]] = {}
        self._results = {}  # what an earlier connection could not say is looked at anew
        self._any.clear()
        telling = asyncio.create_task(self._tell(tell))
        try:
            while True:
                self._changed.clear()
                now = set(wanted(self._values()))
                for gone in loops.keys() - now:
                    loops.pop(gone).cancel()
                for new in now - loops.keys():
                    loops[new] = asyncio.create_task(self._again_and_again(new), name=f"check of {new.remote}")
                await self._changed.wait()
        finally:
            for task in (telling, *loops.values()):
                task.cancel()
            await asyncio.gather(telling, *loops.values(), return_exceptions=True)

    async def _again_and_again(self, one: Wanted) -> None:
        while True:
            async with self._room:
                found = await look(one, self._allowed)
            self._results[one.remote] = found
            self._any.set()
            await asyncio.sleep(one.every_s * random.uniform(0.9, 1.1))  # noqa: S311 - to spread load

    async def _tell(self, tell: Callable[[dict[str, Check]], Awaitable[Any]]) -> None:
        while True:
            await self._any.wait()
            await asyncio.sleep(GATHER_S)
            self._any.clear()
            results, self._results = self._results, {}
            await tell(results)


async def look(one: Wanted, allowed: Allowed) -> Check:
    """Look once for a remote, with a second try before it counts as gone."""
    why = ""
    for attempt in range(TRIES):
        if attempt:
            await asyncio.sleep(PAUSE_S)
        try:
            if one.check == "network":
                why = await _connect(one.address, allowed)
            else:
                why = await _open(one.address, allowed)
        except Unallowed as error:
            return Check(why=str(error)[:500])
        if not why:
            return Check(reachable=True)
    return Check(reachable=False, why=why[:500])


async def _connect(address: str, allowed: Allowed) -> str:
    """Why no connection came about; "" when one did. Names are resolved once, and what was allowed is connected to."""
    host, _, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not port.isdecimal() or not 0 < int(port) < 65_536:
        raise Unallowed("the address is not host:port")
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(TIMEOUT_S):
            found = await loop.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)
    except TimeoutError:
        return "its name was not resolved in time"
    except (OSError, UnicodeError) as error:
        return f"its name cannot be resolved: {getattr(error, 'strerror', None) or error}"
    numeric = [str(info[4][0]) for info in found]
    if host.lower() not in allowed.hosts:
        numeric = [one for one in numeric if allowed.permits(one)]
    if not numeric:
        raise Unallowed("the satellite's own config does not allow this address ([checks.network])")
    try:
        async with asyncio.timeout(TIMEOUT_S):
            _, writer = await asyncio.open_connection(numeric[0], int(port))
    except TimeoutError:
        return f"no answer within {TIMEOUT_S:g} s"
    except OSError as error:
        return os.strerror(error.errno).lower() if error.errno else str(error)
    writer.close()
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(TIMEOUT_S):
            await writer.wait_closed()
    return ""


async def _open(path: str, allowed: Allowed) -> str:
    """Why the port does not open; "" when it did."""
    if path not in allowed.ports:
        raise Unallowed("the satellite's own config does not allow this port ([checks.serial])")
    try:
        async with asyncio.timeout(TIMEOUT_S):
            return await asyncio.to_thread(_open_and_close, path)
    except TimeoutError:
        return f"it did not open within {TIMEOUT_S:g} s"


def _open_and_close(path: str) -> str:
    try:
        port = os.open(path, os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        return (error.strerror or str(error)).lower()
    try:
        if not stat.S_ISCHR(os.fstat(port).st_mode):
            return "it is no device"
    finally:
        os.close(port)
    return ""
