"""Commands: what fails is told as failed, what ran once never runs again, a slow verb stalls nobody."""

import asyncio
import threading
from datetime import UTC, datetime, timedelta

import msgspec
import pytest

from hub_protocol.messages import Command, Reply
from satellite_agent.clock import Clock
from satellite_agent.commands import MAX_AT_ONCE, Commands, Memory
from satellite_agent.database import open_database
from satellite_agent.outbox import Outbox
from satellite_agent.verbs.registry import VERBS
from satellite_agent.verbs.verb import Verb, VerbError


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


class Bench:
    """Commands with a table of verbs, and their replies as they wait in the outbox."""

    def __init__(self, db, **verbs):
        self.outbox = Outbox(db)
        self.clock = Clock()
        self.clock.learn(datetime.now(UTC))
        self.changed = asyncio.Event()
        table = {name: Verb(name, "low", Args, run) for name, run in verbs.items()}
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
    Memory(db).begin("c1", "turn")
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
        await asyncio.gather(*bench.commands._running.values())
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


async def test_commands_are_forgotten_after_a_day_and_not_before(db):
    memory = Memory(db)
    for command_id, age in (("old", 86_500), ("young", 86_000)):
        memory.finish(command_id, "ping", Reply("succeeded", epoch=1))
        db.execute("UPDATE command SET received_at = received_at - ? WHERE id = ?", (age, command_id))
    memory.forget_old()
    assert memory.find("old") is None
    assert memory.find("young") is not None


def test_every_verb_stands_under_its_own_name():
    assert all(name == verb.name for name, verb in VERBS.items())
    assert VERBS["ping"].announced().args_schema["properties"] == {}
