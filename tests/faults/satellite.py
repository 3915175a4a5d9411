"""The satellite as it is, but for a `ping` that leaves a line behind: so executions can be counted from outside."""

import os
import sys
from dataclasses import replace
from typing import Any

import msgspec

from satellite_agent.verbs import ping


class Args(msgspec.Struct):
    n: int = 0


def noting(args: Args, *_rest: Any) -> dict[str, bool]:
    line = f"{args.n}\n".encode()
    descriptor = os.open(os.environ["FAULTS_EXECUTED"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(descriptor, line)
    os.close(descriptor)
    return {"pong": True}


ping.VERB = replace(ping.VERB, args=Args, run=noting)

if __name__ == "__main__":
    from satellite_agent.__main__ import main

    sys.exit(main())
