"""`cancel`: ends another command that waits or runs here."""

from collections.abc import Callable
from typing import Annotated

import msgspec
from msgspec import Meta

from hub_protocol.messages import CANCEL, Name
from satellite_agent.verbs.verb import Job, Verb


class Args(msgspec.Struct, forbid_unknown_fields=True):
    """Which one."""

    command_id: Annotated[Name, Meta(description="The command that is to end.")]


def verb(cancel: Callable[[str], None]) -> Verb:
    """`cancel` takes a command's id, and raises `VerbError` when there is nothing to end."""

    def run(args: Args, _job: Job) -> dict[str, str]:
        cancel(args.command_id)
        return {"command_id": args.command_id, "state": "ending"}

    return Verb(name=CANCEL, risk="low", args=Args, run=run, in_thread=False)
