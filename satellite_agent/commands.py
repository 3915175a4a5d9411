"""Commands: each is remembered for a day, executed at most once, and answered as often as it is asked."""

import asyncio
import logging
import sqlite3
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import msgspec

from hub_protocol.errors import Malformed
from hub_protocol.messages import CANCEL, Command, Reply
from satellite_agent import threads
from satellite_agent.clock import Clock
from satellite_agent.command_memory import Memory
from satellite_agent.database import transaction
from satellite_agent.outbox import Outbox, OutboxError
from satellite_agent.verbs.table import Table
from satellite_agent.verbs.verb import Job, Verb, VerbError

log = logging.getLogger(__name__)

REMEMBERED_S: Final = 24 * 3600
MAX_AT_ONCE: Final = 64
# So many verbs run in threads at a time; the others wait, and their deadlines go on.
THREADS: Final = 4
# Verbs look at their deadline themselves; one that hangs (a dead network disk) is not waited for any longer than this.
PAST_DEADLINE_S: Final = 0.7
# What the processes of running verbs get when the satellite stops.
_TO_END_S: Final = 1.0
# A verb that takes longer than this is first told as accepted; a quick one just answers.
ACCEPTED_AFTER_S: Final = 0.2
# A command that looks expired before the hub has told its time waits so long for it.
WAIT_FOR_CLOCK_S: Final = 10.0


@dataclass(slots=True)
class _Running:
    """A command on its way; `work` is what its thread does."""

    task: asyncio.Task[None]
    job: Job | None = None
    work: asyncio.Future[Reply] | None = None
    thread: threading.Thread | None = None


class Commands:
    """Takes commands, runs their verbs in threads, and puts every reply into the outbox in the same transaction.

    `wake` is called when there is something new to send.
    """

    def __init__(
        self,
        db: sqlite3.Connection,
        outbox: Outbox,
        verbs: Table,
        clock: Clock,
        wake: Callable[[], None],
    ) -> None:
        self._db = db
        self._outbox = outbox
        self._verbs = verbs
        self._clock = clock
        self._wake = wake
        self._memory = Memory(db)
        self._running: dict[str, _Running] = {}
        self._slots = asyncio.Semaphore(THREADS)

    def recover(self) -> None:
        """Answer what ran when the satellite last stopped: it is not run again, for it may have taken effect."""
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
        if len(self._running) >= MAX_AT_ONCE and verb != CANCEL:
            message = f"{MAX_AT_ONCE} commands run already"
            self._finish(command_id, verb, Reply("rejected", epoch=1, code="busy", message=message), command)
            return
        task = asyncio.create_task(self._carry_out(verb, command_id, command), name=f"command {command_id}")
        self._running[command_id] = _Running(task)
        task.add_done_callback(lambda _: self._running.pop(command_id, None))

    def cancel(self, command_id: str) -> None:
        """End a command that waits or runs; it answers `failed` with the code `cancelled`. Raises `VerbError`."""
        known = self._memory.find(command_id)
        if known is not None and known.reply is not None:
            raise VerbError("not_running", f"it is over: {known.reply.status}")
        running = self._running.get(command_id)
        if running is None or running.job is None:
            raise VerbError("not_running", "no such command is known here")
        log.info("command %s is cancelled", command_id)
        running.job.stop("cancelled", "cancelled while it ran; it may have taken effect in part")
        if running.thread is None and running.work is not None:
            running.work.cancel()  # it waits for a thread, and need not get one

    def forget_old(self) -> None:
        """Forget what is a day past its deadline, by the hub's time: a device's own clock may jump by years."""
        if self._clock.is_known:
            self._memory.forget_before(int(self._clock.now().timestamp()) - REMEMBERED_S)

    async def close(self) -> None:
        """End what still runs, with the programs it started; it is answered at the next start."""
        running = list(self._running.values())
        for one in running:
            if one.job is not None:
                one.job.stop("interrupted", "the satellite stopped")
            one.task.cancel()
        await asyncio.gather(*(one.task for one in running), return_exceptions=True)
        at_work = [one.thread for one in running if one.thread is not None]
        await asyncio.gather(*(asyncio.to_thread(thread.join, _TO_END_S) for thread in at_work))

    async def _carry_out(self, name: str, command_id: str, command: Command) -> None:
        if command.expires_at <= self._clock.now() and not self._clock.is_known:
            await self._clock.known(WAIT_FOR_CLOCK_S)
        verb = self._verbs.find(name)
        reply = await self._execute(name, verb, command_id, command)
        if reply is None:
            return
        is_kept = self._finish(command_id, name, reply, command)
        if is_kept and verb is not None and verb.afterwards is not None and reply.status == "succeeded":
            verb.afterwards(command_id)

    async def _execute(self, name: str, verb: Verb | None, command_id: str, command: Command) -> Reply | None:
        if command.expires_at <= self._clock.now():
            message = f"it came after its deadline {command.expires_at.isoformat()}"
            return Reply("rejected", epoch=1, code="expired", message=message)
        if verb is None:
            return self._no_verb(name)
        try:
            args = msgspec.convert(command.args, verb.args)
        except msgspec.ValidationError as error:
            return Reply("rejected", epoch=1, code="invalid_args", message=str(error)[:500])
        try:
            # On the disk before it runs: after a crash it is not run a second time.
            self._memory.begin(command_id, name, command)
        except sqlite3.Error as error:
            log.error("command %s %s is left alone, it cannot be remembered: %s", name, command_id, error)
            return None
        loop = asyncio.get_running_loop()

        def tell(done: float | None, message: str) -> None:
            loop.call_soon_threadsafe(self._tell_progress, command_id, done, message)

        job = Job((command.expires_at - self._clock.now()).total_seconds(), tell)
        if not verb.in_thread:
            return _run(verb, args, job)
        return await self._work(command_id, job, partial(_run, verb, args, job))

    def _no_verb(self, name: str) -> Reply:
        if self._verbs.knows(name):
            return Reply("rejected", epoch=1, code="switched_off", message=f"{name} is switched off by the config")
        known = ", ".join(sorted(one.name for one in self._verbs.in_force()))
        return Reply("rejected", epoch=1, code="unknown_verb", message=f"this satellite knows {known}"[:500])

    async def _work(self, command_id: str, job: Job, function: Callable[[], Reply]) -> Reply:
        """Let a thread do it, and wait no longer than the command's deadline."""
        running = self._running[command_id]
        running.job = job
        work = running.work = asyncio.ensure_future(self._in_thread(running, function))
        done, _ = await asyncio.wait({work}, timeout=ACCEPTED_AFTER_S)
        if not done:
            self._answer(command_id, Reply("accepted", epoch=1))
            await asyncio.wait({work}, timeout=max(0.0, job.remaining_s) + PAST_DEADLINE_S)
        if work.done() and not work.cancelled():
            return work.result()
        fault = job.fault() or VerbError("deadline", "it did not end at its deadline")
        message = str(fault)
        if not work.done():
            work.cancel()
            if running.thread is not None:
                message = "it did not end at its deadline, and goes on: it may still take effect"
        return Reply("failed", epoch=1, code=fault.code, message=message)

    async def _in_thread(self, running: _Running, function: Callable[[], Reply]) -> Reply:
        """Run it in a thread, of which there are few; one that hangs keeps its place."""
        await self._slots.acquire()
        work = threads.start(function, self._slots.release)
        running.thread = work.thread
        return await work

    def _interrupted(self, command_id: str, verb: str) -> None:
        message = "the satellite stopped while this ran; it may have taken effect"
        self._finish(command_id, verb, Reply("failed", epoch=1, code="interrupted", message=message))

    def _finish(self, command_id: str, verb: str, reply: Reply, command: Command | None = None) -> bool:
        """Remember the reply and put it into the outbox; False when that was not possible."""
        log.info("command %s %s: %s%s", verb, command_id, reply.status, f" ({reply.code})" if reply.code else "")
        for is_last in (False, True):
            try:
                with transaction(self._db):
                    self._outbox.add_reply(command_id, reply)  # first, for it checks that the reply can travel
                    self._memory.finish(command_id, verb, reply, command)
            except Malformed as error:
                failed = Reply("failed", epoch=1, code="bad_result", message=str(error)[:500])
                return reply.code != failed.code and self._finish(command_id, verb, failed, command)
            except (sqlite3.Error, OutboxError) as error:
                if is_last or not self._outbox.make_room():
                    log.error("the reply to %s %s cannot be kept: %s", verb, command_id, error)
                    return False
            else:
                break
        self._wake()
        return True

    def _tell_progress(self, command_id: str, done: float | None, message: str) -> None:
        if command_id in self._running:
            self._answer(command_id, Reply("running", epoch=1, progress=done, message=message[:500]))

    def _answer(self, command_id: str, reply: Reply) -> None:
        try:
            self._outbox.add_reply(command_id, reply)
        except (sqlite3.Error, OutboxError, Malformed) as error:
            log.warning("the reply %s to %s cannot be kept: %s", reply.status, command_id, error)
        else:
            self._wake()


def _run(verb: Verb, args: Any, job: Job) -> Reply:
    try:
        job.check()
        result = verb.run(args, job)
    except VerbError as error:
        return Reply("failed", epoch=1, code=error.code[:120], message=str(error)[:500])
    except Exception as error:
        log.exception("verb %s failed", verb.name)
        return Reply("failed", epoch=1, code="error", message=f"{type(error).__name__}: {error}"[:500])
    if isinstance(result, BaseException):  # an error that is returned is an error all the same
        return Reply("failed", epoch=1, code="error", message=f"{type(result).__name__}: {result}"[:500])
    return Reply("succeeded", epoch=1, result=result)
