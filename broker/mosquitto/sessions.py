"""The sessions of Mosquitto as its log tells them, kept for the pages and for the question who holds what."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from broker.mosquitto.journal import Connected, Disconnected, Event, Subscribed
from hub.access.live_sessions import SessionReport

_MOST_SUBSCRIPTIONS: Final = 500


class Sessions:
    """By name; what the log does not tell (queues, rates) is left at zero."""

    def __init__(self, ws_port: int) -> None:
        self._ws_port = ws_port
        self._sessions: dict[str, SessionReport] = {}
        self._changed: set[str] = set()
        self._gone: set[str] = set()

    def subscriptions(self, username: str) -> list[str] | None:
        """The filters that a session holds; None where its earlier ones may be unknown."""
        session = self._sessions.get(username)
        if session is None:
            # Nobody of that name came since the broker started: nothing open, and what is kept was kept before.
            return None
        if session.persistent:
            # A kept session may hold more than what it asked for since.
            return None
        return [filter_ for filter_, _ in session.subscriptions]

    def is_connected(self, username: str) -> bool:
        session = self._sessions.get(username)
        return session is not None and session.connected

    def take(self, event: Event) -> None:
        """Have an event change what is known; those that are no matter of sessions change nothing."""
        if isinstance(event, Connected):
            self._connected(event)
        elif isinstance(event, Disconnected):
            self._disconnected(event.username)
        elif isinstance(event, Subscribed):
            self._subscribed(event)

    def collect(self) -> tuple[list[SessionReport], list[str]]:
        """What changed since it was last asked, and the names that are gone."""
        changed = [self._sessions[name] for name in self._changed if name in self._sessions]
        gone = sorted(self._gone)
        self._changed, self._gone = set(), set()
        return changed, gone

    def _connected(self, event: Connected) -> None:
        before = self._sessions.get(event.username)
        kept = before.subscriptions if before is not None and before.persistent and not event.clean else []
        self._put(
            SessionReport(
                username=event.username,
                connected=True,
                address=event.address,
                transport="websocket" if event.port == self._ws_port else "tcp",
                connected_at=datetime.now(UTC),
                persistent=not event.clean,
                keep_alive_s=event.keep_alive_s,
                subscriptions=kept,
            )
        )

    def _disconnected(self, username: str) -> None:
        session = self._sessions.get(username)
        if session is None:
            return
        if session.persistent:
            self._put(replace(session, connected=False))
            return
        del self._sessions[username]
        self._changed.discard(username)
        self._gone.add(username)

    def _subscribed(self, event: Subscribed) -> None:
        session = self._sessions.get(event.username)
        if session is None:
            return
        held = [one for one in session.subscriptions if one[0] != event.filter]
        if event.qos is not None and len(held) < _MOST_SUBSCRIPTIONS:
            held.append((event.filter, event.qos))
        self._put(replace(session, subscriptions=held))

    def _put(self, session: SessionReport) -> None:
        self._sessions[session.username] = session
        self._changed.add(session.username)
        self._gone.discard(session.username)
