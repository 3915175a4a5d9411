"""Hands a text to a configured command, as one argument or on its standard input: what `say` and `notify` share."""

from collections.abc import Callable
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta

from satellite_agent import process
from satellite_agent.process import Limits
from satellite_agent.verbs.output import text_of
from satellite_agent.verbs.template import Template
from satellite_agent.verbs.verb import Job, VerbError

_LIMITS_OF_OUTPUT: Final = 2_000

Text = Annotated[str, Meta(min_length=1, max_length=1_000)]


class Config(msgspec.Struct, forbid_unknown_fields=True):
    """`[verbs.say]`, `[verbs.notify]`: where the command has no place `{text}`, it gets the text on standard input."""

    command: list[str]
    timeout_s: Annotated[float, Meta(gt=0, le=600)] = 60.0


def runner(config: Config, known: set[str]) -> Callable[[Any, Job], dict[str, Any]]:
    """What a verb runs whose arguments are these texts. Raises `ValueError` for a command that cannot be."""
    template = Template.parse(config.command)
    if unknown := template.names - known:
        raise ValueError(f"command: knows {', '.join(sorted(known))}, not {', '.join(sorted(unknown))}")

    def run(args: Any, job: Job) -> dict[str, Any]:
        values = {name: _plain(getattr(args, name)) for name in known}
        try:
            words = template.fill(values)
        except ValueError as error:
            raise VerbError("invalid_args", f"text {error}; put -- before its place in the config") from None
        is_argument = "text" in template.names
        limits = Limits(config.timeout_s, _LIMITS_OF_OUTPUT)
        done = process.run(words, job, limits, stdin=b"" if is_argument else values["text"].encode() + b"\n")
        if done.exit_code != 0:
            said, _ = text_of(done.stderr)
            raise VerbError(f"exit_{done.exit_code}", f"{words[0]} ended with {done.exit_code}: {said.strip()[-300:]}")
        return {"took_s": done.took_s}

    return run


def _plain(text: str) -> str:
    """Without control characters, which would steer a terminal or a speech program."""
    return "".join(sign if sign.isprintable() else " " for sign in text)
