"""Which commands this satellite has seen, and what it answered: rows of the table `command`."""

import sqlite3
import time
from dataclasses import dataclass

import msgspec

from hub_protocol.messages import Command, Reply


@dataclass(frozen=True, slots=True)
class Remembered:
    """A command seen before; `reply` is None while it runs."""

    reply: Reply | None


class Memory:
    """Rows of the table `command`."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def find(self, command_id: str) -> Remembered | None:
        row = self._db.execute("SELECT reply FROM command WHERE id = ?", (command_id,)).fetchone()
        if row is None:
            return None
        return Remembered(msgspec.json.decode(row[0], type=Reply) if row[0] is not None else None)

    def begin(self, command_id: str, verb: str, command: Command | None) -> None:
        self._db.execute(
            "INSERT OR IGNORE INTO command (id, verb, received_at, expires_at) VALUES (?, ?, ?, ?)",
            (command_id, verb, int(time.time()), int(command.expires_at.timestamp()) if command else 0),
        )

    def finish(self, command_id: str, verb: str, reply: Reply, command: Command | None = None) -> None:
        self.begin(command_id, verb, command)
        self._db.execute("UPDATE command SET reply = ? WHERE id = ?", (msgspec.json.encode(reply), command_id))

    def unfinished(self) -> list[tuple[str, str]]:
        return self._db.execute("SELECT id, verb FROM command WHERE reply IS NULL").fetchall()

    def forget_before(self, before: int) -> None:
        """Forget answered commands whose deadline passed before this second: the hub's time, as the deadline is."""
        sql = (
            "DELETE FROM command WHERE reply IS NOT NULL AND "
            "CASE expires_at WHEN 0 THEN received_at ELSE expires_at END < ?"
        )
        self._db.execute(sql, (before,))
