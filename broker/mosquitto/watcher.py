"""Acts on Mosquitto's log: keeps the sessions, records refusals, tells the refused, and ends what must not stay."""

from typing import Final

import msgspec

from broker.embedded.refusals import Refusals
from broker.mosquitto.adapter import Adapter
from broker.mosquitto.control import Control
from broker.mosquitto.differences import kick
from broker.mosquitto.document import ADAPTER, CONTROL
from broker.mosquitto.flow import Flow
from broker.mosquitto.journal import (
    DeniedConnect,
    DeniedPublish,
    DeniedSubscribe,
    Event,
    Journal,
    WillSeen,
)
from broker.mosquitto.sessions import Sessions
from broker.mosquitto.told import Pace, Refused, denied
from hub.access import decide
from hub.access.principals import Principal

_NOT_IN: Final = "wrong username or password, or the client id is not the username; Mosquitto does not tell which"
_BY_BROKER: Final = "Mosquitto refused it"


class Watcher:
    """Runs in the event loop; what it sends goes out at once and waits for nothing."""

    def __init__(
        self,
        adapter: Adapter,
        control: Control,
        sessions: Sessions,
        journal: Journal,
        refusals: Refusals,
        flow: Flow | None,
    ) -> None:
        self._adapter = adapter
        self._control = control
        self._sessions = sessions
        self._journal = journal
        self._refusals = refusals
        self._flow = flow
        self._pace = Pace()
        self._is_open = False

    def open(self) -> None:
        """The adapter is connected: from now on the refused can be told."""
        self._is_open = True

    def take(self, chunk: bytes) -> None:
        """A piece of the log."""
        for event in self._journal.feed(chunk):
            if getattr(event, "username", "") != ADAPTER:
                self._sessions.take(event)
                self._refused(event)
            elif self._flow is not None and isinstance(event, DeniedPublish):
                self._flow.seen(event.topic)

    def _refused(self, event: Event) -> None:
        if isinstance(event, DeniedConnect):
            self._refusals.add(f"(at {event.address})", "connect", "", _NOT_IN, stranger=True)
            return
        if not isinstance(event, DeniedPublish | DeniedSubscribe | WillSeen):
            return
        principal = self._adapter.principal(event.username)
        if isinstance(event, WillSeen):
            if principal is not None:
                self._will(principal, event.topic)
            return
        action: Refused = "publish" if isinstance(event, DeniedPublish) else "subscribe"
        topic = event.topic if isinstance(event, DeniedPublish) else event.filter
        reason = _BY_BROKER
        if principal is not None:
            verdict = decide.publish(principal, topic) if action == "publish" else decide.subscribe(principal, topic)
            if not verdict:
                reason = verdict.reason
        self._refusals.add(event.username, action, topic, reason)
        if principal is not None:
            self._tell(principal, action, topic, reason)

    def _will(self, principal: Principal, topic: str) -> None:
        """Mosquitto lets a client in whose Will it would not publish; the client is told, and sent away."""
        verdict = decide.connect(principal, principal.username, topic)
        if verdict:
            return
        self._refusals.add(principal.username, "connect", topic, verdict.reason)
        self._tell(principal, "connect", topic, verdict.reason)
        self._control.tell(CONTROL, msgspec.json.encode({"commands": kick(principal.username)}))

    def _tell(self, principal: Principal, action: Refused, topic: str, reason: str) -> None:
        if self._is_open and self._pace.is_due(principal.username, topic):
            for where, payload in denied(principal, action, topic, reason):
                self._control.tell(where, payload)
