"""`config`: changes how the satellite is set, until the hub's next config."""

import re
from collections.abc import Callable
from typing import Any, Final

import msgspec

from hub_protocol.messages import CONFIG_KEY_PATTERN
from satellite_agent.config import Settable
from satellite_agent.verbs.verb import Job, Verb, VerbError

_KEY: Final = re.compile(CONFIG_KEY_PATTERN)


class Args(msgspec.Struct, forbid_unknown_fields=True):
    """The keys to change; null sets one back to its default."""

    values: dict[str, Any]


def verb(settable_of: Callable[[], Settable]) -> Verb:
    """The verb for one satellite. It touches the satellite's own state, so it runs where that lives."""

    def run(args: Args, _job: Job) -> dict[str, Any]:
        settable = settable_of()
        for key in args.values:
            if not _KEY.fullmatch(key):
                raise VerbError("invalid_config", f"{key[:80]!r} is no key: 1 to 63 of a-z 0-9 _ .")
        verdict = settable.change(args.values)
        if not verdict.ok:
            raise VerbError("invalid_config", "; ".join(f"{key} {why}" for key, why in verdict.refused.items()))
        return {"rev": settable.rev, "reported": verdict.reported}

    return Verb(name="config", risk="medium", args=Args, run=run, in_thread=False)
