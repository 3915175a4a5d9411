"""`marvain broker`: what a broker that is not the embedded one must be told."""

import os
import sys
from datetime import UTC, datetime
from pathlib import Path

import click

from broker.mosquitto import accounts
from broker.mosquitto.document import render as render_document
from hub_protocol.topics import DEFAULT_ROOT, check_root
from marvain.cli.options import instance_option
from marvain.instance import Instance
from marvain.reach import database

ADMIN = "marvain_admin"


@click.group()
def broker() -> None:
    """The broker: render its access for Mosquitto."""


@broker.command()
@click.option("--admin", default=ADMIN, show_default=True, metavar="NAME", help="Who may drive the plugin.")
@click.option(
    "--admin-password-file",
    "password_file",
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A file with that one's password; the adapter is given the same file.",
)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Where to write it, readable by its owner alone. [default: standard output]",
)
@instance_option
def render(admin: str, password_file: Path, output: Path | None, instance: Instance) -> None:
    """Write a dynamic-security.json with everybody who may come and what each may do, for Mosquitto to import.

    It holds hashes of all secrets: for a broker that runs elsewhere, and whose plugin cannot be told old secrets.
    """
    password = password_file.read_text(encoding="utf-8").strip()
    if not password:
        raise click.UsageError(f"{password_file} is empty")
    root = check_root(os.environ.get("MARVAIN_ROOT") or DEFAULT_ROOT)
    with database(instance) as opened, opened.transaction() as session:
        found = accounts.load(session, None, root, datetime.now(UTC))
    document = render_document(found.values(), root, {admin: password}) + b"\n"
    if output is None:
        sys.stdout.buffer.write(document)
        return
    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as opened_file:
        opened_file.write(document)
    click.echo(
        f"{output}: {len(found)} accounts and {admin}; copy it to Mosquitto's plugin_opt_config_file, then start it."
    )
