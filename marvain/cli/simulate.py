"""`marvain simulate`: a fleet of satellites that are none, to see how Marvain does with many."""

import asyncio
import contextlib
import json
import signal
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import click

from hub_protocol.topics import DEFAULT_ROOT
from marvain.cli.options import BY, instance_option, json_option
from marvain.cli.output import show_json
from marvain.instance import Instance, write_private
from marvain.reach import broker_address, database
from marvain.simulation import fleet
from marvain.simulation.fleet import Figures
from marvain.simulation.satellite import Counts

SATELLITES_MAX = 20_000


@click.command()
@click.option("--satellites", default=50, show_default=True, type=click.IntRange(1, SATELLITES_MAX), metavar="N")
@click.option(
    "--rate",
    default=10.0,
    show_default=True,
    type=click.FloatRange(0, 100_000),
    metavar="R",
    help="Events a second, of all together.",
)
@click.option("--seconds", type=click.FloatRange(0.1), metavar="S", help="End after so long. [default: at Ctrl-C]")
@click.option(
    "--heartbeat", "heartbeat_s", default=15.0, show_default=True, type=click.FloatRange(1, 3_600), metavar="S"
)
@click.option("--remove", is_flag=True, help="Delete the fleet with all that it has, and do nothing else.")
@instance_option
@json_option
def simulate(
    satellites: int,
    rate: float,
    seconds: float | None,
    heartbeat_s: float,
    instance: Instance,
    *,
    remove: bool,
    as_json: bool,
) -> None:
    """Run a fleet of satellites that say hello, beat, measure, report events and answer commands.

    They are devices of an agent of their own, which stays for the next time; `--remove` deletes it.
    """
    keep = instance.secrets / "simulated-fleet"
    with database(instance) as opened:
        if remove:
            gone = fleet.remove(opened, by=BY)
            keep.unlink(missing_ok=True)
            if as_json:
                show_json({"removed": gone})
            else:
                click.echo(f"{gone} satellites are gone with all that they had." if gone else "There is no fleet.")
            return
        kept = _kept(keep)
        tokens = fleet.make(opened, satellites, kept, by=BY)
    write_private(keep, json.dumps(kept | tokens))
    scheme, host, port = broker_address(instance)
    if scheme != "mqtt":
        raise click.UsageError("the fleet speaks plain MQTT; let the broker listen without TLS on this machine")
    if not as_json:
        click.echo(f"{satellites} satellites of the agent “{fleet.NAME}” dial {host}:{port}; Ctrl-C ends them.")
    counts = asyncio.run(_drive(tokens, host, port, rate, seconds, heartbeat_s, _silent if as_json else _show))
    facts = {name: value for name, value in asdict(counts).items() if name != "waits"}
    if as_json:
        show_json(facts)
    else:
        click.echo(
            f"{counts.events} events, {counts.receipts} of them stored, {counts.samples} samples,"
            f" {counts.heartbeats} heartbeats, {counts.commands} commands."
        )


async def _drive(
    tokens: dict[str, str],
    host: str,
    port: int,
    rate: float,
    seconds: float | None,
    heartbeat_s: float,
    told: Callable[[Figures], None],
) -> Counts:
    counts = Counts()
    driving = asyncio.create_task(
        fleet.drive(
            tokens,
            host,
            port,
            DEFAULT_ROOT,
            rate=rate,
            seconds=seconds,
            heartbeat_s=heartbeat_s,
            counts=counts,
            told=told,
        )
    )
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, driving.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await driving
    return counts


def _show(figures: Figures) -> None:
    line = (
        f"{figures.connected} connected, {figures.events_per_s:,.0f} events/s, {figures.receipts_per_s:,.0f} receipts/s"
    )
    if figures.p50_ms is not None and figures.p99_ms is not None:
        line += f", stored after {figures.p50_ms:.0f} ms (p99 {figures.p99_ms:.0f} ms)"
    click.echo(line)


def _silent(_figures: Figures) -> None:
    """With --json the end alone is told."""


def _kept(file: Path) -> dict[str, str]:
    try:
        return {str(handle): str(token) for handle, token in json.loads(file.read_text(encoding="utf-8")).items()}
    except (FileNotFoundError, ValueError, AttributeError):
        return {}
