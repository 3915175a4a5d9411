"""`marvain doctor`: look at every part and say what to do."""

import sys
from dataclasses import asdict

import click

from marvain import examination
from marvain.cli.options import instance_option, json_option
from marvain.cli.output import show_json
from marvain.instance import Instance
from marvain.refusal import FAULT

_MARKS = {True: ("ok", "green"), False: ("FAULT", "red"), None: ("note", "yellow")}


@click.command()
@instance_option
@json_option
def doctor(instance: Instance, *, as_json: bool) -> None:
    """Check each part of the instance; exit code 1 when something is wrong."""
    findings = list(examination.examine(instance))
    healthy = all(finding.ok is not False for finding in findings)
    if as_json:
        show_json({"ok": healthy, "checks": [asdict(finding) for finding in findings]})
    else:
        for finding in findings:
            word, colour = _MARKS[finding.ok]
            mark = click.style(word.ljust(5), fg=colour) if sys.stdout.isatty() else word.ljust(5)
            click.echo(f"{mark}  {finding.part.ljust(10)}  {finding.found}")
            if finding.to_do:
                click.echo(f"{'':19}→ {finding.to_do}")
    if not healthy:
        sys.exit(FAULT)
