"""Commands: each is remembered for a day, executed at most once, and answered as often as it is asked."""

import asyncio
import contextlib
import logging
import sqlite3
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from hub_protocol.errors import Malformed
from hub_protocol.messages import Command, Reply
from satellite_agent.clock import Clock
from satellite_agent.database import transaction
from satellite_agent.outbox import Outbox, OutboxError
from satellite_agent.verbs.verb import Verb, VerbError

log = logging.getLogger(__name__)

REMEMBERED_S: Final = 24 * 3600
MAX_AT_ONCE: Final = 64
# A verb that takes longer than this is first told as accepted; a quick one just answers.
ACCEPTED_AFTER_S: Final = 0.2
# A command that looks expired before the hub has told its time waits so long for it.
WAIT_FOR_CLOCK_S: Final = 10.0


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

    def begin(self, command_id: str, verb: str) -> None:
        self._db.execute(
            "INSERT OR IGNORE INTO command (id, verb, received_at) VALUES (?, ?, ?)",
            (command_id, verb, int(time.time())),
        )

    def finish(self, command_id: str, verb: str, reply: Reply) -> None:
        self.begin(command_id, verb)
        self._db.execute("UPDATE command SET reply = ? WHERE id = ?", (msgspec.json.encode(reply), command_id))

    def unfinished(self) -> list[tuple[str, str]]:
        return self._db.execute("SELECT id, verb FROM command WHERE reply IS NULL").fetchall()

    def forget_old(self) -> None:
        sql = "DELETE FROM command WHERE received_at < ? AND reply IS NOT NULL"
        self._db.execute(sql, (int(time.time()) - REMEMBERED_S,))


class Commands:
    """Takes commands, runs their verbs in threads, and puts every reply into the outbox in the same transaction.

    `wake` is called when there is something new to send.
    """

    def __init__(
        self,
        db: sqlite3.Connection,
        outbox: Outbox,
        verbs: Mapping[str, Verb],
        clock: Clock,
        wake: Callable[[], None],
    ) -> None:
        self._db = db
        self._outbox = outbox
        self._verbs = verbs
        self._clock = clock
        self._wake = wake
        self._memory = Memory(db)
        self._running: dict[str, asyncio.Task[None]] = {}
        self._threads = ThreadPoolExecutor(max_workers=4, thread_name_prefix="verb")

    def recover(self) -> None:
        """Answer what ran when the satellite last stopped: it is not run again, for it may have taken effect."""
        with contextlib.suppress(sqlite3.Error):  # a full disk must not stop the satellite
            self._memory.forget_old()
        for command_id, verb in self._memory.unfinished():
            self._interrupted(command_id, verb)

    def receive(self, verb: str, command_id: str, command: Command) -> None:
        """Take one command from the hub; returns at once."""
        if command_id in self._running:
            log.info("command %s %s came again while it runs", verb, command_id)
            return
        try:
            known = self._memory.find(command_id)
            if known is not None and known.reply is not None:
                log.info("command %s %s came again; it gets its stored reply", verb, command_id)
                self._outbox.add_reply(command_id, known.reply)
                self._wake()
                return
            if known is not None:  # it ran, and its reply could not be kept (a full disk)
                self._interrupted(command_id, verb)
                return
            if not self._outbox.has_room("reply"):
                log.error(
                    "command %s %s is left alone: the outbox is full, its reply could not be kept", verb, command_id
                )
                return
        except (sqlite3.Error, OutboxError) as error:
            log.error("command %s %s is left alone: %s", verb, command_id, error)
            return
        if len(self._running) >= MAX_AT_ONCE:
            message = f"{MAX_AT_ONCE} commands run already"
            self._finish(command_id, verb, Reply("rejected", epoch=1, code="busy", message=message))
            return
        task = asyncio.create_task(self._carry_out(verb, command_id, command), name=f"command {command_id}")
        self._running[command_id] = task
        task.add_done_callback(lambda _: self._running.pop(command_id, None))

    def forget_old(self) -> None:
        self._memory.forget_old()

    async def close(self) -> None:
        """Stop waiting for what still runs; it is answered at the next start."""
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _carry_out(self, name: str, command_id: str, command: Command) -> None:
        if command.expires_at <= self._clock.now() and not self._clock.is_known:
            await self._clock.known(WAIT_FOR_CLOCK_S)
        reply = await self._execute(name, command_id, command)
        if reply is not None:
            self._finish(command_id, name, reply)

    async def _execute(self, name: str, command_id: str, command: Command) -> Reply | None:
        if command.expires_at <= self._clock.now():
            message = f"it came after its deadline {command.expires_at.isoformat()}"
            return Reply("rejected", epoch=1, code="expired", message=message)
        verb = self._verbs.get(name)
        if verb is None:
            known = ", ".join(sorted(self._verbs))
            return Reply("rejected", epoch=1, code="unknown_verb", message=f"this satellite knows {known}"[:500])
        try:
            args = msgspec.convert(command.args, verb.args)
        except msgspec.ValidationError as error:
            return Reply("rejected", epoch=1, code="invalid_args", message=str(error)[:500])
        try:
            # On the disk before it runs: after a crash it is not run a second time.
            self._memory.begin(command_id, name)
        except sqlite3.Error as error:
            log.error("command %s %s is left alone, it cannot be remembered: %s", name, command_id, error)
            return None
        if not verb.in_thread:
            return _run(verb, args)
        work = asyncio.get_running_loop().run_in_executor(self._threads, _run, verb, args)
        done, _ = await asyncio.wait({work}, timeout=ACCEPTED_AFTER_S)
        if not done:
            self._answer(command_id, Reply("accepted", epoch=1))
        return await work

    def _interrupted(self, command_id: str, verb: str) -> None:
        message = "the satellite stopped while this ran; it may have taken effect"
        self._finish(command_id, verb, Reply("failed", epoch=1, code="interrupted", message=message))

    def _finish(self, command_id: str, verb: str, reply: Reply) -> None:
        log.info("command %s %s: %s%s", verb, command_id, reply.status, f" ({reply.code})" if reply.code else "")
        try:
            with transaction(self._db):
                self._outbox.add_reply(command_id, reply)  # first, for it checks that the reply can travel
                self._memory.finish(command_id, verb, reply)
        except Malformed as error:
            failed = Reply("failed", epoch=1, code="bad_result", message=str(error)[:500])
            if reply.code != failed.code:
                self._finish(command_id, verb, failed)
        except (sqlite3.Error, OutboxError) as error:
            log.error("the reply to %s %s cannot be kept: %s", verb, command_id, error)
        else:
            self._wake()

    def _answer(self, command_id: str, reply: Reply) -> None:
        try:
            self._outbox.add_reply(command_id, reply)
        except (sqlite3.Error, OutboxError) as error:
            log.warning("the reply %s to %s cannot be kept: %s", reply.status, command_id, error)
        else:
            self._wake()


def _run(verb: Verb, args: Any) -> Reply:
    try:
        result = verb.run(args)
    except VerbError as error:
        return Reply("failed", epoch=1, code=error.code[:120], message=str(error)[:500])
    except Exception as error:
        log.exception("verb %s failed", verb.name)
        return Reply("failed", epoch=1, code="error", message=f"{type(error).__name__}: {error}"[:500])
    if isinstance(result, BaseException):  # an error that is returned is an error all the same
        return Reply("failed", epoch=1, code="error", message=f"{type(result).__name__}: {result}"[:500])
    return Reply("succeeded", epoch=1, result=result)
