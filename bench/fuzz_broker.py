"""Fuzzes the embedded broker in one process: well-formed, spoilt and random packets from clients that come and go.

    python bench/fuzz_broker.py [--seconds 600] [--seed 1] [--store] [--keep FOLDER] [FILE …]

Plays of chance, and changes of plays that were played before. What breaks a rule is made shorter, printed and, with
`--keep`, written to a file; a file named on the command line is played again. With `--store` what is to be kept goes
to a folder on the disk, and must be found there afterwards as it was in memory.
"""

import argparse
import asyncio
import logging
import random
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path

import structlog

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.fuzz_play import perform


def complaint(data: bytes, loop: asyncio.AbstractEventLoop, *, store: bool = False) -> str:
    """What is wrong with this play, and where; "" when nothing is."""
    try:
        if store:
            with tempfile.TemporaryDirectory() as folder:
                perform(data, loop, Path(folder))
        else:
            perform(data, loop)
    except Exception as error:  # noqa: BLE001 - any of them is a finding
        frame = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__}: {error} ({Path(frame.filename).name}:{frame.lineno})"
    return ""


def shortened(data: bytes, complain: Callable[[bytes], str], seconds: float = 30.0) -> bytes:
    """A shorter play that is wrong in the same place."""
    where = complain(data).rpartition("(")[2]
    deadline = time.monotonic() + seconds
    size = len(data) // 2
    while size and time.monotonic() < deadline:
        at, smaller = 0, False
        while at < len(data) and time.monotonic() < deadline:
            less = data[:at] + data[at + size :]
            if complain(less).rpartition("(")[2] == where:
                data, smaller = less, True
            else:
                at += size
        if not smaller:
            size //= 2
    return data


def play_of_chance(chance: random.Random, pool: list[bytes]) -> bytes:
    """Random bytes, or a change of an earlier play, or two of them in one."""
    if not pool or chance.random() < 0.3:
        return chance.randbytes(chance.choice((50, 200, 600, 1_500)))
    data = bytearray(chance.choice(pool))
    if chance.random() < 0.2:
        other = chance.choice(pool)
        cut = chance.randrange(len(data))
        data[cut:] = other[chance.randrange(len(other)) :]
    for _ in range(chance.choice((1, 2, 5, 20))):
        at = chance.randrange(len(data)) if data else 0
        how = chance.random()
        if how < 0.5:
            data[at : at + 1] = chance.randbytes(1)
        elif how < 0.75:
            data[at:at] = chance.randbytes(chance.randrange(1, 12))
        else:
            del data[at : at + chance.randrange(1, 12)]
    return bytes(data) or b"\0"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--store", action="store_true")
    parser.add_argument("--keep", type=Path)
    parser.add_argument("files", nargs="*", type=Path)
    options = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    loop = asyncio.new_event_loop()
    complain = partial(complaint, loop=loop, store=options.store)
    found: dict[str, bytes] = {}
    for path in options.files:
        found[complain(path.read_bytes()) or "nothing is wrong"] = path.read_bytes()
    chance, pool, count = random.Random(options.seed), [], 0
    deadline = time.monotonic() + (0 if options.files else options.seconds)
    while time.monotonic() < deadline:
        data = play_of_chance(chance, pool)
        count += 1
        wrong = complain(data)
        where = wrong.rpartition("(")[2]
        if wrong and where not in {known.rpartition("(")[2] for known in found}:
            short = shortened(data, complain)
            found[complain(short)] = short
            print(f"{wrong}\n  {len(short)} bytes: {short.hex()}", flush=True)
            if options.keep:
                options.keep.mkdir(parents=True, exist_ok=True)
                (options.keep / f"{len(found)}.play").write_bytes(short)
        elif not wrong and len(data) < 3_000:
            pool.append(data)
            if len(pool) > 500:
                pool.pop(chance.randrange(len(pool)))
    for wrong in found if options.files else ():
        print(wrong)
    print(f"{count} plays, {len(found)} different findings")
    loop.close()
    return 1 if any(wrong != "nothing is wrong" for wrong in found) else 0


if __name__ == "__main__":
    sys.exit(main())
