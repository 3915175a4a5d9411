"""`ping`: proves that the satellite itself answers, not only its connection."""

import msgspec

from satellite_agent.verbs.verb import Verb


class Args(msgspec.Struct):
    """A ping needs no arguments."""


def run(_args: Args) -> dict[str, bool]:
    return {"pong": True}


VERB = Verb(name="ping", risk="low", args=Args, run=run)
