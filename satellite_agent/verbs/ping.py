"""`ping`: proves that the satellite itself answers, not only its connection."""

import msgspec

from satellite_agent.verbs.verb import Job, Verb


class Args(msgspec.Struct):
    """A ping needs no arguments."""


def run(_args: Args, _job: Job) -> dict[str, bool]:
    return {"pong": True}


# Not in a thread: verbs that hang could have taken all of them.
VERB = Verb(name="ping", risk="low", args=Args, run=run, in_thread=False)
