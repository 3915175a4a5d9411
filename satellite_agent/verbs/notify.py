"""`notify`: hands a text, and what stands above it, to the command that shows them."""

from typing import Annotated

import msgspec
from msgspec import Meta

from satellite_agent.verbs.text_command import Config, Text, runner
from satellite_agent.verbs.verb import Verb


class Args(msgspec.Struct, forbid_unknown_fields=True):
    """What is shown."""

    text: Annotated[Text, Meta(description="What is shown.")]
    title: Annotated[str, Meta(max_length=120, description="What stands above it.")] = ""


def verb(config: Config) -> Verb:
    """Raises `ValueError` for a command that cannot be."""
    return Verb("notify", "low", Args, runner(config, {"text", "title"}))
