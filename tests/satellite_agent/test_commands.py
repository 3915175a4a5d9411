"""Commands: what fails is told as failed, what ran once never runs again, a slow verb stalls nobody."""

import asyncio
import threading
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from hub_protocol.messages import Command, Reply
from satellite_agent.clock import Clock
from satellite_agent.command_memory import Memory
from satellite_agent.commands import MAX_AT_ONCE, REMEMBERED_S, Commands
from satellite_agent.database import open_database
from satellite_agent.outbox import Outbox
from satellite_agent.verbs.table import Table
from satellite_agent.verbs.verb import Job, Verb, VerbError


class Args(msgspec.Struct, forbid_unknown_fields=True):
    times: int = 1


def raises(_args):
    raise RuntimeError("the motor is stuck")


def raises_with_code(_args):
    raise VerbError("stuck", "the motor is stuck")


def returns_an_error(_args):
    return OSError("the motor is stuck")


def soon(seconds: float = 30) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


def taking_a_job(run):
    code = getattr(run, "__code__", None)  # `list.append` has none
    return run if code and code.co_argcount > 1 else lambda args, _job: run(args)


class Bench:
    """Commands with a table of verbs, and their replies as they wait in the outbox."""

    def __init__(self, db, **verbs):
        self.outbox = Outbox(db)
        self.clock = Clock()
        self.clock.learn(datetime.now(UTC))
        self.changed = asyncio.Event()
        table = Table((), [Verb(name, "low", Args, taking_a_job(run)) for name, run in verbs.items()])
        self.commands = Commands(db, self.outbox, table, self.clock, self.changed.set)

    def replies(self) -> list[tuple[str, Reply]]:
        rows = self.outbox.after("reply", 0, 1000)
        return [(row.id, msgspec.json.decode(row.body, type=Reply)) for row in rows]

    async def wait(self, count: int) -> list[tuple[str, Reply]]:
        async with asyncio.timeout(10):
            while len(self.replies()) < count:
                self.changed.clear()
                await self.changed.wait()
        return self.replies()


@pytest.fixture
def db():
    connection = open_database(None, "porch")
    yield connection
    connection.close()


@pytest.mark.parametrize(
    ("run", "code", "message"),
    [
        (raises, "error", "RuntimeError: the motor is stuck"),
        (raises_with_code, "stuck", "the motor is stuck"),
        (returns_an_error, "error", "OSError: the motor is stuck"),
    ],
)
async def test_an_error_is_an_error(db, run, code, message):
    bench = Bench(db, turn=run)
    bench.commands.receive("turn", "c1", Command(soon()))
    [(reply_id, reply)] = await bench.wait(1)
    assert (reply_id, reply.status, reply.code, reply.message) == ("c1:failed", "failed", code, message)


@pytest.mark.parametrize("result", [object(), "\ud800", "\0", "x" * 70_000])
async def test_a_result_that_cannot_travel_is_a_failure(db, result):
    bench = Bench(db, turn=lambda _: result)
    bench.commands.receive("turn", "c1", Command(soon()))
    [(_, reply)] = await bench.wait(1)
    assert (reply.status, reply.code) == ("failed", "bad_result")


@pytest.mark.parametrize("args", [{"times": "many"}, {"colour": 1}])
async def test_bad_arguments_are_rejected_before_anything_runs(db, args):
    ran = []
    bench = Bench(db, turn=ran.append)
    bench.commands.receive("turn", "c1", Command(soon(), args=args))
    [(_, reply)] = await bench.wait(1)
    assert (reply.status, reply.code, ran) == ("rejected", "invalid_args", [])
    assert next(iter(args)) in reply.message


async def test_a_slow_verb_is_accepted_first_runs_once_and_stalls_nobody(db):
    go, ran = threading.Event(), []

    def slow(args):
        ran.append(args.times)
        assert go.wait(10)
        return ran

    bench = Bench(db, slow=slow, quick=lambda _: "done")
    bench.commands.receive("slow", "c1", Command(soon(), args={"times": 3}))
    await bench.wait(1)
    bench.commands.receive("slow", "c1", Command(soon()))
    bench.commands.receive("quick", "c2", Command(soon()))
    await bench.wait(2)
    go.set()
    replies = await bench.wait(3)
    assert [reply_id for reply_id, _ in replies] == ["c1:accepted", "c2:succeeded", "c1:succeeded"]
    assert ran == [3]
    bench.commands.receive("slow", "c1", Command(soon(-60)))
    assert bench.replies()[-1][1].result == [3]
    assert ran == [3]


async def test_what_was_cut_off_is_answered_and_not_run_again(db):
    Memory(db).begin("c1", "turn", Command(soon()))
    ran = []
    bench = Bench(db, turn=ran.append)
    bench.commands.recover()
    bench.commands.receive("turn", "c1", Command(soon()))
    [(_, reply)] = bench.replies()
    assert (reply.status, reply.code, ran) == ("failed", "interrupted", [])


async def test_what_ran_is_not_run_again_because_its_reply_could_not_be_kept(db):
    ran = []
    bench = Bench(db, count=lambda _args: ran.append(1))
    db.execute(
        "CREATE TEMP TRIGGER full BEFORE UPDATE ON command BEGIN SELECT RAISE(ABORT, 'database or disk is full'); END"
    )
    bench.commands.receive("count", "c1", Command(soon()))
    async with asyncio.timeout(10):
        await asyncio.gather(*(one.task for one in bench.commands._running.values()))
    assert bench.replies() == []
    db.execute("DROP TRIGGER full")
    bench.commands.receive("count", "c1", Command(soon()))
    [(_, reply)] = await bench.wait(1)
    assert (reply.status, reply.code) == ("failed", "interrupted")
    assert ran == [1]


async def test_too_many_at_once_are_rejected(db):
    go = threading.Event()
    bench = Bench(db, slow=lambda _: go.wait(10))
    for number in range(MAX_AT_ONCE + 1):
        bench.commands.receive("slow", f"c{number}", Command(soon()))
    [(reply_id, reply)] = bench.replies()
    assert (reply_id, reply.code) == (f"c{MAX_AT_ONCE}:rejected", "busy")
    go.set()
    await bench.wait(MAX_AT_ONCE + 1)


async def test_a_seeming_lateness_waits_for_the_hubs_time(db):
    bench = Bench(db, turn=lambda _: 1)
    bench.clock = Clock()
    bench.commands._clock = bench.clock
    bench.commands.receive("turn", "c1", Command(soon(-3600)))
    await asyncio.sleep(0)
    assert bench.replies() == []
    bench.clock.learn(datetime.now(UTC) - timedelta(days=1))
    [(_, reply)] = await bench.wait(1)
    assert reply.status == "succeeded"


async def test_commands_are_forgotten_a_day_after_their_deadline_by_the_hubs_time(db):
    bench = Bench(db, turn=lambda _: 1)
    memory = Memory(db)
    for command_id, age in (("old", REMEMBERED_S + 60), ("young", REMEMBERED_S - 60)):
        memory.finish(command_id, "turn", Reply("succeeded", epoch=1), Command(soon(-age)))
    bench.commands._clock = (
        Clock()
    )  # this device's own clock may be anything: as long as it is all there is, it counts not
    bench.commands.forget_old()
    assert memory.find("old") is not None
    bench.commands._clock = bench.clock
    bench.commands.forget_old()
    assert memory.find("old") is None
    assert memory.find("young") is not None


async def test_a_clock_that_jumps_a_year_ahead_runs_nothing_twice(db):
    ran = []
    bench = Bench(db, count=lambda _: ran.append(1))
    bench.commands.receive("count", "c1", Command(soon(600)))
    await bench.wait(1)
    db.execute("UPDATE command SET received_at = 0")  # it was 1970 here when the command came
    bench.commands.forget_old()
    bench.commands.receive("count", "c1", Command(soon(600)))
    assert ran == [1]
    assert bench.replies()[-1][1].status == "succeeded"


# --- deadlines, progress, cancelling --------------------------------------------------------------------------------


async def test_a_verb_that_looks_is_ended_at_its_deadline(db):
    bench = Bench(db, slow=lambda _args, job: job.wait(60))
    bench.commands.receive("slow", "c1", Command(soon(0.5)))
    replies = await bench.wait(2)
    assert [(reply.status, reply.code) for _, reply in replies] == [("accepted", ""), ("failed", "deadline")]


async def test_a_verb_that_hangs_is_not_waited_for_and_its_late_end_changes_nothing(db):
    go, ended = threading.Event(), threading.Event()

    def hang(_args):
        go.wait(10)
        ended.set()

    bench = Bench(db, hang=hang)
    bench.commands.receive("hang", "c1", Command(soon(0.3)))
    replies = await bench.wait(2)
    assert replies[-1][1].code == "deadline"
    assert "it may still take effect" in replies[-1][1].message
    go.set()
    await asyncio.to_thread(ended.wait, 10)
    await asyncio.sleep(0)
    assert bench.replies() == replies


async def test_a_running_command_is_cancelled_and_says_so(db):
    began = threading.Event()

    def slow(_args, job):
        began.set()
        job.wait(60)

    bench = Bench(db, slow=slow)
    bench.commands.receive("slow", "c1", Command(soon()))
    await asyncio.to_thread(began.wait, 10)
    bench.commands.cancel("c1")
    replies = await bench.wait(1)
    assert (replies[-1][0], replies[-1][1].code) == ("c1:failed", "cancelled")
    with pytest.raises(VerbError, match="it is over: failed"):
        bench.commands.cancel("c1")
    with pytest.raises(VerbError, match="no such command"):
        bench.commands.cancel("c2")


async def test_what_waits_for_a_thread_is_cancelled_without_running(db):
    go, ran = threading.Event(), []
    bench = Bench(db, slow=lambda _: go.wait(10), quick=lambda _: ran.append(1))
    for number in range(4):
        bench.commands.receive("slow", f"s{number}", Command(soon()))
    bench.commands.receive("quick", "c1", Command(soon()))
    await bench.wait(5)  # all are accepted, and four run
    bench.commands.cancel("c1")
    replies = await bench.wait(6)
    assert (replies[-1][0], replies[-1][1].code, ran) == ("c1:failed", "cancelled", [])
    go.set()
    await bench.wait(10)
    assert ran == []


async def test_progress_is_told_and_not_too_often(db):
    def climb(_args, job):
        for step in range(50):
            job.progress(step / 50, f"step {step}")
        return "up"

    bench = Bench(db, climb=climb)
    bench.commands.receive("climb", "c1", Command(soon()))
    replies = await bench.wait(2)
    assert [(reply_id, reply.progress, reply.message) for reply_id, reply in replies] == [
        ("c1:running", 0.0, "step 0"),
        ("c1:succeeded", None, ""),
    ]


async def test_the_end_of_the_satellite_ends_what_runs(db):
    began, ended = threading.Event(), threading.Event()

    def slow(_args, job):
        began.set()
        try:
            job.wait(60)
        finally:
            ended.set()

    bench = Bench(db, slow=slow)
    bench.commands.receive("slow", "c1", Command(soon()))
    await asyncio.to_thread(began.wait, 10)
    await bench.commands.close()
    assert ended.is_set()
    bench.commands.recover()
    assert bench.replies()[-1][1].code == "interrupted"


# --- the table of verbs ----------------------------------------------------------------------------------------------


def test_what_was_not_opened_cannot_be_left_on():
    table = Table([Verb("ping", "low", Args, raises)], [Verb("turn", "low", Args, raises)])
    table.narrow(["turn", "explode"])
    assert [verb.name for verb in table.announced()] == ["ping", "turn"]
    table.narrow([])
    assert table.find("turn") is None
    assert table.knows("turn")
    assert table.find("ping") is not None
    table.narrow(None)
    assert table.find("turn") is not None


async def test_what_is_switched_off_is_rejected(db):
    bench = Bench(db, turn=lambda _: 1)
    bench.commands._verbs.narrow([])
    bench.commands.receive("turn", "c1", Command(soon()))
    [(_, reply)] = await bench.wait(1)
    assert (reply.status, reply.code) == ("rejected", "switched_off")


def test_a_job_says_why_it_ends():
    job = Job(60)
    job.check()
    job.stop("cancelled", "no more")
    job.stop("deadline", "later")
    with pytest.raises(VerbError, match="no more"):
        job.wait(60)
    with pytest.raises(VerbError, match="deadline"):
        Job(-1).check()
