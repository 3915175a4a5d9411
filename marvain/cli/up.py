"""`marvain up`: run an instance until Ctrl-C."""

import os
import sys

import click

from marvain.cli.options import instance_option
from marvain.console import Console
from marvain.instance import Instance, Ports
from marvain.supervisor import Wishes
from marvain.supervisor import up as run_instance

_PORT = click.IntRange(1, 65_535)


@click.command()
@instance_option
@click.option(
    "--host", default="127.0.0.1", show_default=True, metavar="H", help="Bind web and broker to this address."
)
@click.option("--web-port", type=_PORT, envvar="MARVAIN_WEB_PORT", help="[default: 8000, or the next free one]")
@click.option("--mqtt-port", type=_PORT, envvar="MARVAIN_MQTT_PORT", help="[default: 1883, or the next free one]")
@click.option("--ws-port", type=_PORT, envvar="MARVAIN_WS_PORT", help="[default: 1884, or the next free one]")
@click.option("--no-demo", is_flag=True, help="Without the demo satellite on this machine.")
def up(
    instance: Instance, host: str, web_port: int | None, mqtt_port: int | None, ws_port: int | None, *, no_demo: bool
) -> None:
    """Start database, broker, hub and web here and run them until Ctrl-C."""
    level = os.environ.get("MARVAIN_LOG_LEVEL", "INFO").upper()
    if level not in {"DEBUG", "INFO", "WARNING", "ERROR"}:
        raise click.UsageError("MARVAIN_LOG_LEVEL is one of DEBUG, INFO, WARNING, ERROR")
    console = Console(as_json=os.environ.get("MARVAIN_LOG_FORMAT") == "json", level=level)
    wishes = Wishes(
        host=host,
        asked=Ports(web=web_port, mqtt=mqtt_port, ws=ws_port),
        demo=not no_demo,
        database_url=os.environ.get("MARVAIN_DATABASE_URL") or None,
    )
    sys.exit(run_instance(instance, wishes, console))
