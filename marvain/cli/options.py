"""The options that every command takes, and what they become."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from marvain.instance import Instance, default_folder

AnyCommand = TypeVar("AnyCommand", bound=Callable[..., Any])
BY = "command line"


def _to_instance(_context: click.Context, _option: click.Parameter, value: Path | None) -> Instance:
    return Instance(value or default_folder())


def instance_option(command: AnyCommand) -> AnyCommand:
    """`--data DIR` → `instance`."""
    return click.option(
        "--data",
        "instance",
        type=click.Path(file_okay=False, path_type=Path),
        callback=_to_instance,
        metavar="DIR",
        help="The data folder of the instance. [default: $MARVAIN_DATA, or a folder of your user's own]",
    )(command)


def json_option(command: AnyCommand) -> AnyCommand:
    """`--json` → `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="JSON on standard output; errors as JSON on stderr.")(
        command
    )


def agent_option(command: AnyCommand) -> AnyCommand:
    """`--agent A` → `agent`, a name or an id."""
    return click.option("--agent", metavar="NAME", help="The agent's name or id; not needed while there is only one.")(
        command
    )
