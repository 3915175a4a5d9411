"""What a satellite can say about itself: its connection, and the last words of the hub."""

import contextlib
import os
import sqlite3
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

import msgspec

from hub_protocol.messages import Denied
from satellite_agent.database import read_about, write_about
from satellite_agent.settings import Settings

# connected: the broker took us; online: the hub answered as well.
Connection = Literal["connecting", "connected", "online", "waiting", "stopped"]


# So long a word of the hub's that a device will be let in again is believed.
STILL_SAID: Final = timedelta(days=30)


class LastDenied(msgspec.Struct):
    """The last thing the hub refused, kept on disk so that it still explains a refusal after a restart."""

    action: str
    topic: str
    reason: str
    at: datetime
    retry_after_s: float | None = None


class Status:
    def __init__(self, settings: Settings, db: sqlite3.Connection) -> None:
        self._settings = settings
        self._db = db
        self.connection: Connection = "connecting"
        self.since = datetime.now(UTC)
        self.epoch = 0
        self.why = ""
        self.last_receipt_at: datetime | None = None
        self.last_denied = read_last_denied(db)

    def connecting(self, epoch: int) -> None:
        self.epoch = epoch
        self._enter("connecting")

    def connected(self) -> None:
        self._enter("connected")

    def online(self) -> None:
        self._enter("online")
        if self.last_denied is not None and self.last_denied.action == "connect":
            self._keep(None)  # it is let in again: an old "revoked" must not explain a later refusal

    def waiting(self, why: str) -> None:
        self._enter("waiting", why)

    def stopped(self) -> None:
        self._enter("stopped")

    def denied(self, denied: Denied) -> None:
        now = datetime.now(UTC)
        self._keep(LastDenied(denied.action, denied.topic[:300], denied.reason[:500], now, denied.retry_after_s))

    @property
    def last_reason(self) -> str:
        """Why the hub refused something last."""
        return self.last_denied.reason if self.last_denied is not None else ""

    @property
    def knock_after_s(self) -> float | None:
        """When to try again after a refusal, where the hub said that it will let this device in again later."""
        last = self.last_denied
        if last is None or last.action != "connect" or datetime.now(UTC) - last.at > STILL_SAID:
            return None
        return last.retry_after_s

    def as_json(self, backlog: int, samples: int) -> dict[str, Any]:
        return {
            "handle": self._settings.handle,
            "hub": str(self._settings.hub),
            "pid": os.getpid(),
            "connection": self.connection,
            "since": self.since,
            "why": self.why,
            "epoch": self.epoch,
            "backlog": backlog,
            "samples": samples,
            "last_receipt_at": self.last_receipt_at,
            "last_denied": self.last_denied,
        }

    def _enter(self, connection: Connection, why: str = "") -> None:
        away = ("connecting", "waiting")
        if connection != self.connection and not (connection in away and self.connection in away):
            self.since = datetime.now(UTC)
        self.connection, self.why = connection, why

    def _keep(self, denied: LastDenied | None) -> None:
        self.last_denied = denied
        with contextlib.suppress(sqlite3.Error):  # it is told in the log and here; keeping it is a courtesy
            write_about(self._db, "last_denied", msgspec.json.encode(denied).decode() if denied else None)


def read_last_denied(db: sqlite3.Connection) -> LastDenied | None:
    text = read_about(db, "last_denied")
    return msgspec.json.decode(text, type=LastDenied) if text else None
