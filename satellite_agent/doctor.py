"""`doctor`: looks at every part between this machine and its hub, and says of each what to do."""

import contextlib
import os
import shutil
import socket
import sqlite3
import ssl
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from satellite_agent import checks, control, daemon, service, sources
from satellite_agent.connection import Refused, Unreachable
from satellite_agent.outbox import MAX_BYTES, MAX_ROWS
from satellite_agent.settings import Address, Given, Settings, SettingsError, check, gather, locate
from satellite_agent.verbs import registry

WITHIN_S: Final = 5.0
_DISK_LOW_BYTES: Final = 50 * 1024 * 1024
_CLOCK_WRONG_S: Final = 60.0
_CERTIFICATE_SOON_S: Final = 14 * 86_400

Verdict = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What one look showed; `do` says what mends it."""

    part: str
    verdict: Verdict
    told: str
    do: str = ""


def examine(flags: Mapping[str, str | None], environ: Mapping[str, str], config: Path | None) -> Iterator[Finding]:
    """All findings, one by one as they are made. What needs a part that fails is not looked at.

    Told nothing, it looks at the service that is installed here.
    """
    if config is None and not any(flags.values()) and service.CONFIG.is_file():
        config = service.CONFIG
        flags = {"token_file": str(service.TOKEN)}
    try:
        given = gather(flags, environ, config)
        settings = check(given, environ, config)
        opened = registry.opened(settings.tables.get("verbs", {}), closed=(), restarting=lambda _: None)
        measured = sources.read(settings.tables.get("telemetry", {}))
        checks.read(settings.tables.get("checks", {}))
    except SettingsError as error:
        yield Finding("config", "fail", str(error), f"mend the setting {error.field}; docs/satellite.md lists them all")
        return
    verbs = ", ".join(verb.name for verb in opened) or "none"
    yield Finding(
        "config", "ok", f"{settings.handle} at {settings.hub}; verbs opened: {verbs}; sources: {len(measured)}"
    )
    yield from _programs(settings.tables)
    yield from _state(settings.state_dir)
    yield from _outbox(settings.state_dir / "satellite.db")
    running = _running(given, environ)
    if running is not None:
        yield from _session_of(running)
        yield _clock(running.get("clock_ahead_s"))
        return
    for finding in _way(settings):
        yield finding
        if finding.verdict == "fail":
            return
    yield _log_in(settings)
    yield _clock(None)


def _programs(tables: Mapping[str, Any]) -> Iterator[Finding]:
    """Programs that the config names and that are not there: nothing stops, but what needs them fails."""
    for path in sorted(_commands(tables)):
        if not os.access(path, os.X_OK):
            yield Finding(
                "program", "warn", f"{path} is not there, or may not be run", "install it, or mend the config"
            )


def _commands(value: Any) -> set[str]:
    """The programs of all tables: the first word of each `command`, at any depth."""
    if not isinstance(value, Mapping):
        return set()
    found = {
        str(command[0])
        for name, command in value.items()
        if name == "command" and isinstance(command, list) and command
    }
    return found.union(*(_commands(one) for one in value.values()), set())


def _state(folder: Path) -> Iterator[Finding]:
    place = folder
    while not place.exists() and place != place.parent:
        place = place.parent
    if not os.access(place, os.W_OK):
        yield Finding("state", "fail", f"{folder} is not writable", "run as the satellite's user, or give --state-dir")
        return
    free = shutil.disk_usage(place).free
    if free < _DISK_LOW_BYTES:
        yield Finding(
            "disk", "warn", f"{free // 1024} KiB are free at {place}", "free some: events are refused when it is full"
        )
    else:
        yield Finding("disk", "ok", f"{free // 1024 // 1024} MiB are free at {folder}")


def _outbox(file: Path) -> Iterator[Finding]:
    if not file.exists():
        yield Finding("outbox", "ok", "nothing was kept yet")
        return
    try:
        with contextlib.closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True, timeout=2)) as db:
            whole = db.execute("PRAGMA quick_check(1)").fetchone()[0]
            rows, size = db.execute("SELECT count(*), coalesce(sum(length(body)), 0) FROM outbox").fetchone()
            (samples,) = db.execute("SELECT count(*) FROM sample").fetchone()
            refused = db.execute("SELECT count(*), max(reason) FROM refused").fetchone()
    except sqlite3.Error as error:
        whole, rows, size, samples, refused = str(error), 0, 0, 0, (0, None)
    if whole != "ok":
        yield Finding("outbox", "fail", f"{file} is damaged: {whole}", "move it away; what waited in it is lost")
        return
    told = f"{rows} messages and {samples} samples wait for the hub"
    if rows > MAX_ROWS * 0.8 or size > MAX_BYTES * 0.8:
        yield Finding("outbox", "warn", f"{told}: it is nearly full", "see why the hub does not take them, below")
    else:
        yield Finding("outbox", "ok", told)
    if refused[0]:
        yield Finding(
            "refused", "warn", f"{refused[0]} messages were refused by the hub, such as: {refused[1]}", "see the reason"
        )


def _running(given: Given, environ: Mapping[str, str]) -> dict[str, Any] | None:
    """What the running satellite tells; None when none runs."""
    try:
        answer = control.ask(locate(given, environ) / "control.sock", {"do": "status"}, WITHIN_S)
    except (control.ControlError, SettingsError):
        return None
    status = answer.get("status")
    return status if isinstance(status, dict) else None


def _session_of(running: Mapping[str, Any]) -> Iterator[Finding]:
    told = f"process {running.get('pid')}: {running.get('connection')}"
    if running.get("connection") == "online":
        yield Finding("session", "ok", f"{told} since {running.get('since')}")
        return
    denied = running.get("last_denied") or {}
    why = running.get("why") or denied.get("reason") or "the hub has not answered"
    yield Finding("session", "fail", f"{told}: {why}", "see why; stop it and run doctor again to look at every step")


def _clock(ahead_s: Any) -> Finding:
    if not isinstance(ahead_s, int | float):
        return Finding(
            "clock", "ok", f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())}; the hub's is not known yet"
        )
    if abs(ahead_s) > _CLOCK_WRONG_S:
        return Finding("clock", "warn", f"{ahead_s:.0f} s ahead of the hub's", "set it, such as by systemd-timesyncd")
    return Finding("clock", "ok", f"{ahead_s:.1f} s ahead of the hub's")


def _way(settings: Settings) -> Iterator[Finding]:
    """From the hub's name to an open, trusted connection."""
    hub = settings.hub
    try:
        found = socket.getaddrinfo(hub.host, hub.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        yield Finding("dns", "fail", f"{hub.host} has no address: {error}", "check the name, and this machine's DNS")
        return
    addresses = ", ".join(sorted({str(one[4][0]) for one in found}))
    yield Finding("dns", "ok", f"{hub.host} is {addresses}")
    try:
        link = socket.create_connection((hub.host, hub.port), WITHIN_S)
    except OSError as error:
        do = "is the hub on, its port right, and no firewall between?"
        yield Finding("tcp", "fail", f"{hub.host}:{hub.port} does not answer: {error}", do)
        return
    with link:
        yield Finding("tcp", "ok", f"{hub.host}:{hub.port} answers")
        if hub.tls:
            yield _tls(link, hub, settings.ca_file)


def _tls(link: socket.socket, hub: Address, ca_file: Path | None) -> Finding:
    do = "give the authority that signed it as ca_file" if ca_file is None else f"is {ca_file} the one that signed it?"
    try:
        context = ssl.create_default_context(cafile=ca_file)
        with context.wrap_socket(link, server_hostname=hub.host) as secure:
            certificate, version = secure.getpeercert() or {}, secure.version()
    except ssl.SSLCertVerificationError as error:
        return Finding("tls", "fail", f"the certificate is not trusted: {error.verify_message}", do)
    except (OSError, ValueError) as error:
        return Finding("tls", "fail", f"no TLS: {error}", "does this port speak TLS? mqtts:// has its own, often 8883")
    until = str(certificate.get("notAfter", ""))
    left = ssl.cert_time_to_seconds(until) - time.time() if until else _CERTIFICATE_SOON_S
    if left < _CERTIFICATE_SOON_S:
        return Finding("tls", "warn", f"the certificate ends {until}", "renew it at the hub")
    return Finding("tls", "ok", f"{version}, the certificate is good until {until}")


def _log_in(settings: Settings) -> Finding:
    try:
        daemon.knock(settings)
    except Refused as error:
        return Finding("log-in", "fail", str(error), "make a new token on the device's page, or enrol again")
    except Unreachable as error:
        return Finding("log-in", "fail", str(error), "is it an MQTT broker that answers there? See its log")
    return Finding("log-in", "ok", "the token is accepted; start the satellite with run, or as a service")
