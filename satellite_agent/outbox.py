"""The outbox: events and replies stay on disk, in order, until the hub's receipt names them."""

import secrets
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

import msgspec

from hub_protocol.catalogue import decode, encode
from hub_protocol.errors import Malformed
from hub_protocol.messages import MAX_SAFE_INTEGER, Event, Reply
from hub_protocol.topics import Topics, check_level
from satellite_agent.database import transaction
from satellite_agent.reserve import Reserve

Kind = Literal["event", "reply"]

MAX_ROWS: Final = 100_000
MAX_BYTES: Final = 256 * 1024 * 1024
KEPT_REFUSED: Final = 1_000
# Replies may go past the bound by this much, so that a backlog of events does not make the device deaf to commands.
_ROOM_FOR_REPLIES: Final = 1_000


class OutboxError(Exception):
    """The message could not be kept, so it was not taken; the message says why."""


class DiskFull(OutboxError):
    """The disk took no more."""


@dataclass(frozen=True, slots=True)
class Row:
    """One message that waits: `name` is the event's type or the command's id; `body` lacks its epoch and seq."""

    seq: int
    id: str
    kind: Kind
    name: str
    body: bytes


class Outbox:
    """Rows of the table `outbox`. It is bounded: when it is full a new message is refused, never an old one dropped.

    On a full disk `relieve` gives up what is worth less, and says whether there was any of it. `reserve` is for what
    makes the outbox smaller in the end, receipts and replies: events must not use it up.
    """

    def __init__(
        self,
        db: sqlite3.Connection,
        *,
        max_rows: int = MAX_ROWS,
        max_bytes: int = MAX_BYTES,
        relieve: Callable[[], bool] = lambda: False,
        reserve: Reserve | None = None,
    ) -> None:
        self._db = db
        self._relieve = relieve
        self._reserve = reserve
        self._max_rows = max_rows
        self._max_bytes = max_bytes
        self._rows = self._bytes = 0
        self._count()

    @property
    def backlog(self) -> int:
        return self._rows

    def add_event(self, event_type: str, payload: dict[str, Any], *, at: datetime, space: str | None = None) -> str:
        """Keep an event and return its id. Raises `BadName`, `Malformed` for a bad one and `OutboxError` when full."""
        check_level(event_type, "event type")
        event = Event(id=new_id(), epoch=MAX_SAFE_INTEGER, seq=MAX_SAFE_INTEGER, payload=payload, at=at, space=space)
        body = _checked("event", event)
        try:
            self._add(event.id, "event", event_type, body)
        except DiskFull:
            if not self._relieve():
                raise
            self._add(event.id, "event", event_type, body)
        return event.id

    def add_reply(self, command_id: str, reply: Reply) -> str:
        """Keep a reply and return its id; a reply already waiting is sent again in its new place."""
        body = _checked("reply", msgspec.structs.replace(reply, epoch=MAX_SAFE_INTEGER))
        reply_id = f"{command_id}:{reply.status}"
        try:
            with transaction(self._db):
                self.drop([reply_id])
                self._add(reply_id, "reply", command_id, body)
        except OutboxError:
            self._count()  # what was dropped has come back
            raise
        return reply_id

    def has_room(self, kind: Kind) -> bool:
        if kind == "reply":
            return self._rows < self._max_rows + _ROOM_FOR_REPLIES
        return self._rows < self._max_rows and self._bytes < self._max_bytes

    def after(self, kind: Kind, seq: int, limit: int) -> list[Row]:
        """The next rows of a kind after `seq`, oldest first."""
        found = self._db.execute(
            "SELECT seq, id, kind, name, body FROM outbox WHERE kind = ? AND seq > ? ORDER BY seq LIMIT ?",
            (kind, seq, limit),
        )
        return [Row(*row) for row in found]

    def redate(self, seq: int, at: datetime) -> None:
        """An event that waits happened at another time than it says."""
        row = self.at(seq)
        if row is not None and row.kind == "event":
            event = msgspec.json.decode(row.body, type=Event)
            body = encode(msgspec.structs.replace(event, at=at))
            self._db.execute("UPDATE outbox SET body = ? WHERE seq = ?", (body, seq))
            self._bytes += len(body) - len(row.body)

    def seq_of(self, message_id: str) -> int:
        """The place of a message that waits."""
        return int(self._db.execute("SELECT seq FROM outbox WHERE id = ?", (message_id,)).fetchone()[0])

    def at(self, seq: int) -> Row | None:
        row = self._db.execute("SELECT seq, id, kind, name, body FROM outbox WHERE seq = ?", (seq,)).fetchone()
        return Row(*row) if row else None

    def drop(self, ids: Iterable[str]) -> list[int]:
        """Forget what the hub has stored; returns the seqs that were there."""
        wanted = list(ids)
        try:
            dropped = self._delete(wanted)
        except sqlite3.OperationalError as error:
            # Without this a full disk could not even be told that there is less to keep.
            if error.sqlite_errorcode != sqlite3.SQLITE_FULL or self._db.in_transaction or not self.make_room():
                raise
            dropped = self._delete(wanted)
        self._rows -= len(dropped)
        self._bytes -= sum(size for _, size in dropped)
        return [seq for seq, _ in dropped]

    def make_room(self) -> bool:
        """Find room on a full disk for a receipt or a reply; False when there is none."""
        return self._relieve() or (self._reserve is not None and self._reserve.release())

    def set_aside(self, message_id: str, reason: str) -> list[int]:
        """The hub will never take this message: keep it apart with the reason; returns the seqs that were there."""
        with transaction(self._db):
            self._db.execute(
                "INSERT INTO refused SELECT seq, id, kind, name, body, ? FROM outbox WHERE id = ?", (reason, message_id)
            )
            self._db.execute(
                "DELETE FROM refused WHERE seq NOT IN (SELECT seq FROM refused ORDER BY seq DESC LIMIT ?)",
                (KEPT_REFUSED,),
            )
            return self.drop([message_id])

    def replies_to(self, command_id: str) -> list[str]:
        """The ids of the replies to a command that still wait."""
        sql = "SELECT id FROM outbox WHERE kind = 'reply' AND name = ?"
        return [row[0] for row in self._db.execute(sql, (command_id,))]

    def _delete(self, ids: list[str]) -> list[tuple[int, int]]:
        found: list[tuple[int, int]] = []
        with transaction(self._db):
            for message_id in ids:
                sql = "DELETE FROM outbox WHERE id = ? RETURNING seq, length(body)"
                found.extend(self._db.execute(sql, (message_id,)).fetchall())
        return found

    def _add(self, message_id: str, kind: Kind, name: str, body: bytes) -> None:
        if not self.has_room(kind):
            raise OutboxError(f"the outbox is full ({self._rows} messages wait for the hub)")
        try:
            self._db.execute(
                "INSERT INTO outbox (id, kind, name, body) VALUES (?, ?, ?, ?)", (message_id, kind, name, body)
            )
        except sqlite3.OperationalError as error:  # a full or broken disk
            kind_of_error = DiskFull if error.sqlite_errorcode == sqlite3.SQLITE_FULL else OutboxError
            raise kind_of_error(f"the outbox cannot be written: {error}") from None
        self._rows += 1
        self._bytes += len(body)

    def _count(self) -> None:
        sql = "SELECT count(*), coalesce(sum(length(body)), 0) FROM outbox"
        self._rows, self._bytes = self._db.execute(sql).fetchone()


def wire(row: Row, topics: Topics, handle: str, epoch: int) -> tuple[str, bytes]:
    """Topic and payload of a row in a connection: it goes out with the epoch of now, whenever it was written."""
    if row.kind == "event":
        event = msgspec.json.decode(row.body, type=Event)
        return topics.event(handle, row.name), encode(msgspec.structs.replace(event, epoch=epoch, seq=row.seq))
    reply = msgspec.json.decode(row.body, type=Reply)
    return topics.reply(handle, row.name), encode(msgspec.structs.replace(reply, epoch=epoch))


def new_id() -> str:
    """A UUIDv7 (RFC 9562): 48 bits of milliseconds, then random bits."""
    value = (time.time_ns() // 1_000_000 & (1 << 48) - 1) << 80 | secrets.randbits(80)
    value = value & ~(0xF << 76) | 0x7 << 76
    return str(uuid.UUID(int=value & ~(0x3 << 62) | 0x2 << 62))


def _checked(kind: Kind, message: Event | Reply) -> bytes:
    # Decoding what we just encoded asks the hub's own rules, with the largest epoch and seq it may ever get.
    try:
        body = encode(message)
    except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError) as error:
        raise Malformed("payload" if kind == "event" else "result", f"cannot be written as JSON: {error}") from None
    decode(kind, body)
    return body
