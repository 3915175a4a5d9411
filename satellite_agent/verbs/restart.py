"""`restart`: starts the satellite's process anew, once the hub has its answer."""

from collections.abc import Callable

import msgspec

from satellite_agent.verbs.verb import Job, Verb


class Config(msgspec.Struct, forbid_unknown_fields=True):
    """`[verbs.restart]` holds nothing: that it stands there opens the verb."""


class Args(msgspec.Struct, forbid_unknown_fields=True):
    """It is this process that restarts, not the machine."""


def verb(_config: Config, restart: Callable[[str], None]) -> Verb:
    """`restart` is called with the command's id when the answer has been written down; it returns at once.

    The answer stands on the disk before, so the command that comes again is answered with it and restarts nothing.
    """

    def run(_args: Args, _job: Job) -> dict[str, bool]:
        return {"restarting": True}

    return Verb("restart", "medium", Args, run, in_thread=False, afterwards=restart)
