"""How long a peer may be silent: until its CONNECT is there, and then as long as its keep-alive says."""

import asyncio
import time
from typing import Protocol

from broker.embedded.limits import CONNECT_TIMEOUT_S


class Silent(Protocol):
    """A connection, as far as its silence matters. `heard_at` is by the monotonic clock."""

    heard_at: float
    keep_alive_s: int

    @property
    def held(self) -> bool:
        """Whether it may be speaking, and it is we who do not listen."""
        ...

    def leave_with(self, event: str, reason: str) -> None:
        """End the connection, for that is what its silence means."""
        ...


class Patience:
    """The one timer of a connection that is open."""

    __slots__ = ("_loop", "_peer", "_timer")

    def __init__(self, loop: asyncio.AbstractEventLoop, peer: Silent) -> None:
        """From now on it has a while for its CONNECT."""
        self._loop = loop
        self._peer: Silent | None = peer
        self._timer: asyncio.TimerHandle | None = loop.call_later(CONNECT_TIMEOUT_S, self._too_slow, peer)

    def end(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def stop(self) -> None:
        """It has ended: let go of it, or the two of them would keep each other."""
        self.end()
        self._peer = None

    def begin(self) -> None:
        """From now on its keep-alive counts, if it has any."""
        self.end()
        if self._peer is not None and self._peer.keep_alive_s:
            self._peer.heard_at = time.monotonic()
            self._watch(self._peer)

    @staticmethod
    def _too_slow(peer: Silent) -> None:
        peer.leave_with("connection.too_slow", f"no complete CONNECT within {CONNECT_TIMEOUT_S:g} s")

    def _watch(self, peer: Silent) -> None:
        """Enforce keep-alive: one and a half times the client's own period without a packet ends it (3.1.2-24)."""
        patience = peer.keep_alive_s * 1.5
        if peer.held:
            peer.heard_at = time.monotonic()
        left = peer.heard_at + patience - time.monotonic()
        if left <= 0:
            reason = f"silent for {patience:g} s; its keep-alive is {peer.keep_alive_s} s"
            peer.leave_with("connection.silent", reason)
        else:
            self._timer = self._loop.call_later(left + 0.01, self._watch, peer)
