"""`marvain device send`, `config` and `tag`: telling a device what to do, how to be set, and which words it shares."""

import time
import uuid
from datetime import UTC, datetime
from typing import Any

import click
import msgspec

from hub import commands, device_config, devices, tags
from hub.commands import CommandView
from hub.database import Database
from hub.device_config import ConfigView
from hub.errors import Invalid
from marvain.cli.options import BY, instance_option, json_option
from marvain.cli.output import show_json, show_table
from marvain.instance import Instance
from marvain.reach import database


@click.command()
@click.argument("handle")
@click.argument("verb")
@click.argument("args", default="{}", metavar="[JSON]")
@click.option("--within", "ttl_s", default=60.0, show_default=True, type=click.FloatRange(5, 86_400), help="Seconds.")
@click.option("--wait", "is_waited", is_flag=True, help="Until it is over; exit 1 unless it succeeded.")
@instance_option
@json_option
def send(
    handle: str, verb: str, args: str, ttl_s: float, instance: Instance, *, is_waited: bool, as_json: bool
) -> None:
    """Tell the device HANDLE to do VERB, with its arguments as a JSON object."""
    given = _object(args, "args")
    with database(instance) as opened:
        with opened.transaction() as session:
            found = devices.by_handle(session, handle)
            now = datetime.now(UTC)
            command = commands.request(session, found, verb, given, by=BY, ttl_s=ttl_s, now=now)
            agent_id, command_id = found.agent_id, command.command_id
        view = _follow(opened, agent_id, command_id, ttl_s if is_waited else 0.0)
    if as_json:
        show_json(view)
    else:
        told = f" ({view.message})" if view.message else ""
        click.echo(f"{verb} {view.status}{told}  {view.command_id}")
        if view.result is not None:
            click.echo(msgspec.json.format(msgspec.json.encode(view.result)).decode())
    if is_waited and view.status != "succeeded":
        raise click.ClickException(f"{handle} did not succeed in {verb}: {view.status}")


@click.group()
def config() -> None:
    """How a device is to be set, and how it says that it is."""


@config.command("get")
@click.argument("handle")
@instance_option
@json_option
def get(handle: str, instance: Instance, *, as_json: bool) -> None:
    """Show what is wanted of the device HANDLE and what it reports, key by key."""
    with database(instance) as opened, opened.transaction() as session:
        found = device_config.view(session, devices.by_handle(session, handle).device_id)
    _show(found, as_json=as_json)


@config.command("set")
@click.argument("handle")
@click.argument("values", nargs=-1, required=True, metavar="KEY=VALUE...")
@click.option(
    "--replace", "is_whole", is_flag=True, help="Want these alone; otherwise the other keys stay as they are."
)
@instance_option
@json_option
def set_(handle: str, values: tuple[str, ...], instance: Instance, *, is_whole: bool, as_json: bool) -> None:
    """Want these values of the device HANDLE: KEY=VALUE, or one JSON object.

    A VALUE is JSON or else text; without one, the key is taken away.
    """
    given = _object(values[0], "values") if values[0].lstrip().startswith("{") else dict(_pair(one) for one in values)
    with database(instance) as opened, opened.transaction() as session:
        device = devices.by_handle(session, handle)
        before = device_config.view(session, device.device_id)
        wanted = ({} if is_whole else before.desired) | given
        wanted = {key: value for key, value in wanted.items() if value is not None}
        found = device_config.set_desired(session, device, wanted, by=BY, expected_rev=before.desired_rev)
    _show(found, as_json=as_json)


@click.command()
@click.argument("handle")
@click.option("--add", "added", multiple=True, metavar="TAG", help="May be repeated.")
@click.option("--remove", "removed", multiple=True, metavar="TAG", help="May be repeated.")
@instance_option
@json_option
def tag(handle: str, added: tuple[str, ...], removed: tuple[str, ...], instance: Instance, *, as_json: bool) -> None:
    """Show the tags of the device HANDLE, after adding and removing some."""
    with database(instance) as opened, opened.transaction() as session:
        device = devices.by_handle(session, handle)
        tags.change_many(session, device.agent_id, [device.device_id], add=added, remove=removed, by=BY)
        found = tags.of_devices(session, [device.device_id]).get(device.device_id, [])
    if as_json:
        show_json({"handle": handle, "tags": found})
    else:
        click.echo(" ".join(found) or f"{handle} has no tags")


def _follow(opened: Database, agent_id: uuid.UUID, command_id: uuid.UUID, ttl_s: float) -> CommandView:
    """The command when it is over, or as it stands after so many seconds."""
    give_up_at = time.monotonic() + (ttl_s + 3 if ttl_s else 0)
    while True:
        with opened.transaction() as session:
            view = commands.get(session, agent_id, command_id)
        if view.finished_at is not None or time.monotonic() >= give_up_at:
            return view
        time.sleep(0.05)


def _show(found: ConfigView, *, as_json: bool) -> None:
    rows = device_config.differences(found)
    if as_json:
        show_json({"config": found, "state": found.state, "differences": rows})
        return
    click.echo(f"revision {found.desired_rev}, {found.state}")
    if rows:
        show_table(
            ["KEY", "WANTED", "REPORTED", "STATE"],
            [
                (
                    row.key,
                    _text(row.wanted) if row.is_wanted else "",
                    _text(row.reported) if row.is_reported else "",
                    f"{row.state}: {row.why}" if row.why else row.state,
                )
                for row in rows
            ],
        )


def _pair(text: str) -> tuple[str, Any]:
    key, is_pair, value = text.partition("=")
    if not is_pair:
        raise Invalid(f"{text[:80]!r} is not KEY=VALUE", field="values")
    if not value:
        return key, None
    try:
        return key, msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return key, value


def _object(text: str, field: str) -> dict[str, Any]:
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise Invalid(f"is not JSON: {str(error)[:120]}", field=field) from None
    if not isinstance(value, dict):
        raise Invalid('is one JSON object, such as {"times": 3}', field=field)
    return value


def _text(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
