"""`marvain migrate`: bring the database to this version's schema, show what that would do, or undo it."""

import click

from hub import migrations
from marvain.cli.options import instance_option, json_option
from marvain.cli.output import show_json
from marvain.instance import Instance
from marvain.reach import database_url


@click.command()
@click.option("--dry-run", is_flag=True, help="Do all of it, show what it did, and roll it back.")
@click.option("--adopt", is_flag=True, help="Only mark what a database of an earlier system has already.")
@click.option("--rollback-to", metavar="N", help="Undo all steps after step N, such as 012.")
@instance_option
@json_option
def migrate(instance: Instance, rollback_to: str | None, *, dry_run: bool, adopt: bool, as_json: bool) -> None:
    """Apply the steps of the schema that the database lacks; `marvain up` does this by itself.

    A running instance whose schema is rolled back has to be stopped first.
    """
    if sum([dry_run, adopt, rollback_to is not None]) > 1:
        raise click.UsageError("--dry-run, --adopt and --rollback-to exclude each other")
    if rollback_to is not None and (running := instance.running()) is not None:
        raise click.UsageError(f"Marvain is running (process {running.pid}); stop it before a rollback")
    with database_url(instance, make=True) as url:
        if dry_run:
            plan = migrations.plan(url)
            _show({"adopt": plan.adopt, "apply": plan.apply, "notes": plan.notes}, as_json=as_json)
        elif adopt:
            _show({"adopted": migrations.adopt(url)}, as_json=as_json)
        elif rollback_to is not None:
            instance.note_schema(None)
            _show({"rolled_back": migrations.rollback(url, rollback_to)}, as_json=as_json)
        else:
            _show({"applied": migrations.migrate(url)}, as_json=as_json)


def _show(facts: dict[str, list[str]], *, as_json: bool) -> None:
    if as_json:
        show_json(facts)
        return
    lines = [f"{what.replace('_', ' ')}: {step}" for what, steps in facts.items() for step in steps]
    click.echo("\n".join(lines) or "Nothing to do.")
