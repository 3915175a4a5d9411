"""The flags that most commands of `marvain-satellite` know."""

from collections.abc import Callable
from pathlib import Path

import click


def shared(command: Callable[..., None]) -> Callable[..., None]:
    """The flags that all commands know; each is also a variable MARVAIN_SATELLITE_<NAME> and a key of the TOML file."""
    options = (
        click.option(
            "--hub", metavar="URL", help="Address of the hub: mqtt://host:1883, mqtts://, ws://host/mqtt, wss://."
        ),
        click.option(
            "--token",
            metavar="TOKEN",
            help="The device's token. Other users of this machine can see it in `ps`: prefer --token-file or the "
            "variable MARVAIN_SATELLITE_TOKEN.",
        ),
        click.option("--token-file", metavar="FILE", help="A file that holds the token alone."),
        click.option(
            "--ca-file", metavar="FILE", help="Certificate authority for mqtts:// and wss:// (default: the system's)."
        ),
        click.option("--mqtt-version", metavar="VERSION", help="3.1.1 (default) or 5."),
        click.option("--root", metavar="TOPIC", help="Root of the hub's topics (default: marvain/v1)."),
        click.option("--state-dir", metavar="DIR", help="Where epoch, outbox and control socket are kept."),
        click.option("--heartbeat", metavar="SECONDS", help="Until the hub says otherwise (default: 15)."),
        click.option("--log-level", metavar="LEVEL", help="debug, info (default), warning or error."),
        click.option(
            "--config",
            type=click.Path(path_type=Path, dir_okay=False),
            help="TOML file with any of these settings (or MARVAIN_SATELLITE_CONFIG).",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command
