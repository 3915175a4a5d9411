"""Which ports an instance listens on: those asked for, else the last ones, else the usual ones, else the next free."""

import errno
import socket
from dataclasses import dataclass

from marvain.instance import Ports
from marvain.refusal import PortTaken

USUAL = {"web": 8000, "mqtt": 1883, "ws": 1884}
SEARCHED = 200


@dataclass(frozen=True)
class Chosen:
    """The ports to use and, for people, what became of the usual ones."""

    web: int
    mqtt: int
    ws: int
    notes: tuple[str, ...]


def choose(host: str, asked: Ports, last: Ports) -> Chosen:
    """Three different ports that are free on `host`; raises PortTaken when one that was asked for is not."""
    taken: set[int] = set()
    found: dict[str, int] = {}
    notes = []
    # What is asked for goes first, so that no other service takes it as its next free one.
    for name in sorted(USUAL, key=lambda name: getattr(asked, name) is None):
        explicit = getattr(asked, name)
        if explicit is not None:
            refusal = "is asked for twice" if explicit in taken else why_not(host, explicit)
            if refusal:
                raise PortTaken(f"--{name}-port {explicit}: the port {refusal} on {host}")
            found[name] = explicit
        else:
            wanted = getattr(last, name) or USUAL[name]
            found[name] = _next_free(host, wanted, taken)
            if found[name] != wanted:
                notes.append(f"port {wanted} for {name} is taken on {host}; using {found[name]}")
        taken.add(found[name])
    return Chosen(**found, notes=tuple(notes))


def why_not(host: str, port: int) -> str | None:
    """Why nothing can listen there, or None when it can."""
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            # As servers do it: connections of an earlier run that still fade away do not count.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen(1)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return "is taken"
        return f"cannot be used ({error.strerror or error})"
    return None


def _next_free(host: str, wanted: int, taken: set[int]) -> int:
    refusal = None
    for port in range(wanted, min(wanted + SEARCHED, 65_536)):
        if port in taken or port in set(USUAL.values()) - {wanted}:
            continue
        refusal = why_not(host, port)
        if refusal is None:
            return port
    raise PortTaken(f"no port from {wanted} on can be used on {host}: the last one {refusal}")
