"""`marvain device`: satellites and other devices."""

import os
import time
from datetime import UTC, datetime

import click

from hub import commands, device_views, devices, identity, one_hub
from hub.errors import Conflict
from hub_protocol.topics import DEFAULT_ROOT, Topics
from marvain.cli import claim, device_commands
from marvain.cli.options import BY, agent_option, instance_option, json_option
from marvain.cli.output import ago, show_json, show_table
from marvain.instance import Instance
from marvain.reach import broker_address, database


@click.group()
def device() -> None:
    """Devices: add, list, ping, rotate, revoke; send commands, set, tag; claim codes, and devices that ask to join."""


for more in (device_commands.send, device_commands.config, device_commands.tag):
    device.add_command(more)


@device.command()
@click.argument("name")
@agent_option
@click.option("--space", metavar="NAME", help="The space where it stands; a name or an id.")
@click.option("--scope", "scopes", multiple=True, metavar="X", help="What it may do; may be repeated.")
@click.option("--handle", metavar="H", help="Its name on the wire. [default: made of NAME]")
@instance_option
@json_option
def add(
    name: str,
    agent: str | None,
    space: str | None,
    scopes: tuple[str, ...],
    handle: str | None,
    instance: Instance,
    *,
    as_json: bool,
) -> None:
    """Register a device called NAME; shows its token, this once."""
    with database(instance) as opened, opened.transaction() as session:
        owner = identity.find_agent(session, agent)
        place = identity.find_space(session, owner.agent_id, space) if space else None
        new = devices.add(
            session,
            owner.agent_id,
            name,
            scopes=list(scopes or devices.DEFAULT_SCOPES),
            space_id=place.space_id if place else None,
            handle=handle,
            by=BY,
        )
    _show_token(instance, new.device.handle, str(new.device.device_id), new.token, as_json=as_json)


@device.command("list")
@agent_option
@instance_option
@json_option
def list_(agent: str | None, instance: Instance, *, as_json: bool) -> None:
    """List the devices of an agent and how they are."""
    with database(instance) as opened, opened.transaction() as session:
        found = device_views.overview(session, identity.find_agent(session, agent).agent_id)
    if as_json:
        show_json(found)
        return
    show_table(
        ["HANDLE", "NAME", "PRESENCE", "HEARD", "SPACE", "WHY"],
        [
            (
                view.handle,
                view.name,
                "revoked" if view.revoked_at else view.presence,
                ago(view.last_heard_at),
                view.space_name,
                view.revoked_reason if view.revoked_at else view.why,
            )
            for view in found
        ],
    )


@device.command()
@click.argument("handle")
@click.option("--reason", default="", help="Told to the device and shown in the browser.")
@instance_option
@json_option
def revoke(handle: str, reason: str, instance: Instance, *, as_json: bool) -> None:
    """End the device HANDLE for good: it is disconnected at once and cannot come back."""
    with database(instance) as opened, opened.transaction() as session:
        found = devices.by_handle(session, handle)
        devices.revoke(session, found, by=BY, reason=reason)
    if as_json:
        show_json({"handle": handle, "device_id": found.device_id, "revoked_at": found.revoked_at})
    else:
        click.echo(f"{handle} is revoked.")


@device.command()
@click.argument("handle")
@instance_option
@json_option
def rotate(handle: str, instance: Instance, *, as_json: bool) -> None:
    """Give the device HANDLE a new token; the old one is worthless at once."""
    with database(instance) as opened, opened.transaction() as session:
        found = devices.by_handle(session, handle)
        token = devices.rotate(session, found, by=BY)
    _show_token(instance, handle, str(found.device_id), token, as_json=as_json)


@device.command()
@click.argument("handle")
@click.option("--timeout", default=10.0, show_default=True, type=click.FloatRange(0.1, 300), help="Seconds to wait.")
@instance_option
@json_option
def ping(handle: str, timeout: float, instance: Instance, *, as_json: bool) -> None:
    """Ask the device HANDLE for a sign of life and show the round-trip time."""
    with database(instance) as opened:
        with opened.transaction() as session:
            if not one_hub.works(session):
                raise Conflict("no hub is running, so nothing can be sent; start it with `marvain up`")
            found = devices.by_handle(session, handle)
            command = commands.request(session, found, "ping", {}, by=BY, ttl_s=timeout, now=datetime.now(UTC))
            agent_id, command_id = found.agent_id, command.command_id
        deadline = time.monotonic() + timeout + 2
        while True:
            with opened.transaction() as session:
                view = commands.get(session, agent_id, command_id)
            if view.finished_at is not None or time.monotonic() > deadline:
                break
            time.sleep(0.05)
    if as_json:
        show_json(view)
    elif view.rtt_ms is not None and view.status == "succeeded":
        click.echo(f"{handle} answered in {view.rtt_ms:.0f} ms")
    if view.status != "succeeded":
        raise click.ClickException(
            f"{handle} did not answer: {view.status}{f' ({view.message})' if view.message else ''}"
        )


def _show_token(instance: Instance, handle: str, device_id: str, token: str, *, as_json: bool) -> None:
    if as_json:
        show_json({"handle": handle, "device_id": device_id, "token": token})
        return
    scheme, host, port = broker_address(instance)
    click.echo(f"handle  {handle}\ntoken   {token}\n")
    click.echo("The token is not shown again. Start the satellite with:\n")
    click.echo(f"  marvain-satellite run --hub {scheme}://{host}:{port} --token {token}\n")
    topic = Topics(os.environ.get("MARVAIN_ROOT") or DEFAULT_ROOT).event(handle, "door_open")
    click.echo("or send an event by hand:\n")
    click.echo(f"  mosquitto_pub -h {host} -p {port} -i {handle} -u {handle} -P '{token}' -q 1 \\")
    click.echo(f"""    -t {topic} -m '{{"id": "by-hand-1", "epoch": 1, "payload": {{"angle": 12}}}}'""")


for command in (claim.claim, claim.pending, claim.approve, claim.reject):
    device.add_command(command)
