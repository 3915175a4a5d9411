"""`say`: hands a text to the command that speaks."""

from typing import Annotated

import msgspec
from msgspec import Meta

from satellite_agent.verbs.text_command import Config, Text, runner
from satellite_agent.verbs.verb import Verb


class Args(msgspec.Struct, forbid_unknown_fields=True):
    """What is said."""

    text: Annotated[Text, Meta(description="What is said aloud.")]


def verb(config: Config) -> Verb:
    """Raises `ValueError` for a command that cannot be."""
    return Verb("say", "medium", Args, runner(config, {"text"}))
