"""Looks after those in quarantine: writes their rows, tells them, lets them go when they are calm or people say so."""

import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

import structlog
from sqlalchemy.exc import SQLAlchemyError

from hub import quarantines
from hub.database import Database
from hub.inbox.gate import Gate, Held, Limits, Reason
from hub.outbox import Message
from hub.quarantines import Spell
from hub_protocol.catalogue import encode
from hub_protocol.messages import Denied
from hub_protocol.topics import Topics

log = structlog.get_logger(__name__)

LOOK_EVERY_S: Final = 1.0
# A device is told so often that what it says is set aside.
TELL_EVERY_S: Final = 5.0
_TOPICS: Final = Topics.below_root()


class Teller(Protocol):
    """What the warden needs of the MQTT client."""

    @property
    def is_connected(self) -> bool: ...

    def send(self, message: Message, /) -> object: ...


class Warden:
    """One thread. At rest it costs nothing: Postgres is asked only while somebody is in quarantine."""

    def __init__(self, database: Database, gate: Gate, limits: Limits, client: Teller, root: str) -> None:
        self._database = database
        self._gate = gate
        self._limits = limits
        self._client = client
        self._prefix = root + "/"
        self._stopping = threading.Event()
        self._is_restored = False
        # What Postgres has not taken yet: counts must not be lost with it.
        self._unsaid: dict[str, Held] = {}
        self._over: set[str] = set()
        self._written: set[str] = set()
        self._told_at: dict[str, float] = {}

    def stop(self) -> None:
        self._stopping.set()

    def run(self) -> None:
        """Work until stopped."""
        while True:
            try:
                self.look(time.monotonic(), datetime.now(UTC))
            except SQLAlchemyError as error:
                log.warning("warden.database_away", error=type(error).__name__)
            if self._stopping.wait(LOOK_EVERY_S):
                return

    def look(self, now: float, at: datetime) -> None:
        """Bring the rows and the gate to agree, and tell the devices."""
        if not self._is_restored:
            self._restore(now, at)
        held, over = self._gate.look(now)
        self._over.update(over)
        for one in held:
            self._over.discard(one.handle)  # quarantined anew before its row was gone
            if (earlier := self._unsaid.get(one.handle)) is not None:
                one.set_aside += earlier.set_aside
                one.last_topic = one.last_topic or earlier.last_topic
            self._unsaid[one.handle] = one
        for handle in self._over:
            self._unsaid.pop(handle, None)
        self._tell(held, now)
        if self._unsaid or self._over:
            self._write(now, at)

    def _write(self, now: float, at: datetime) -> None:
        with self._database.transaction() as session:
            # First what people decided: a row that was written and is gone.
            there = {one.handle for one in quarantines.kept(session)}
            freed = [handle for handle in self._written if handle not in there and handle not in self._over]
            spells = {
                handle: Spell(
                    one.reason,
                    detail(one, self._limits),
                    at + timedelta(seconds=one.until - now),
                    one.set_aside,
                    one.last_topic.removeprefix(self._prefix),
                )
                for handle, one in self._unsaid.items()
                if handle not in freed
            }
            begun = quarantines.note(session, spells, at)
            quarantines.over(session, sorted(self._over))
        for handle in begun:
            log.warning("device.quarantined", handle=handle, reason=self._unsaid[handle].reason)
        for handle in (*self._over, *freed):
            log.info("device.let_go", handle=handle)
            self._told_at.pop(handle, None)
        self._gate.release(freed, now)
        self._written = set(spells)
        self._unsaid.clear()
        self._over.clear()

    def _restore(self, now: float, at: datetime) -> None:
        with self._database.transaction() as session:
            found = quarantines.kept(session)
        for one in found:
            reason: Reason = "flood" if one.reason == "flood" else "garbage"
            self._gate.restore(one.handle, reason, max(0.0, (one.until - at).total_seconds()), now)
        self._written = {one.handle for one in found}
        self._is_restored = True

    def _tell(self, held: list[Held], now: float) -> None:
        for one in held:
            if not one.set_aside or now - self._told_at.get(one.handle, -TELL_EVERY_S) < TELL_EVERY_S:
                continue
            self._told_at[one.handle] = now
            denied = Denied(
                "message",
                one.last_topic,
                f"in quarantine, and set aside: {detail(one, self._limits)}",
                retry_after_s=round(max(1.0, one.until - now), 1),
            )
            if self._client.is_connected:
                self._client.send(Message(_TOPICS.denied(one.handle), encode(denied), qos=0))


def detail(held: Held, limits: Limits) -> str:
    """Why it is in quarantine, in words with the limit that was broken."""
    if held.reason == "flood":
        return (
            f"it sent more than {limits.per_second:,.0f} messages a second for longer than"
            f" {limits.at_once:,.0f} messages on top of that allow"
        )
    return f"more than {limits.garbage_per_minute:,.0f} of its messages in a minute were malformed or not storable"
