"""`marvain audit`: who changed what, and whether anything of it is missing."""

import re
import sys
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import click
from sqlmodel import Session

from hub import audit as log
from hub import identity
from hub.audit import HUB_CHAIN, KINDS, Anchor, Filter
from hub.errors import Invalid
from marvain.cli.options import BY, instance_option, json_option
from marvain.cli.output import show_json, show_table
from marvain.instance import Instance
from marvain.reach import database
from marvain.refusal import FAULT

_HUB = "hub"
_ANCHOR = re.compile(r"([0-9a-f-]{36}|hub):([0-9]{1,18}):([0-9a-f]{64})")


@click.group()
def audit() -> None:
    """Who changed what; and whether the chain of changes is whole."""


@audit.command(name="list")
@click.option("--agent", metavar="NAME", help=f"An agent's name or id; {_HUB!r} for what concerns the whole hub.")
@click.option("--actor", default="", help="Only by names that hold this.")
@click.option("--kind", type=click.Choice(list(KINDS)), help="Only by such.")
@click.option("--action", default="", help="Only this, as in role.edited; 'role.' for all of a noun.")
@click.option("--subject", default="", help="Only of names that hold this.")
@click.option("--since", type=click.DateTime(), help="Only from then on (UTC).")
@click.option("--until", type=click.DateTime(), help="Only before then (UTC).")
@click.option("--limit", type=click.IntRange(1, 10_000), default=50, show_default=True, help="How many, newest first.")
@instance_option
@json_option
def list_(
    agent: str | None,
    actor: str,
    kind: str | None,
    action: str,
    subject: str,
    since: datetime | None,
    until: datetime | None,
    limit: int,
    instance: Instance,
    *,
    as_json: bool,
) -> None:
    """Show the newest changes."""
    wanted = Filter(
        actor=actor,
        kind=next((one for one in KINDS if one == kind), None),
        action=action,
        subject=subject,
        since=since and since.replace(tzinfo=UTC),
        until=until and until.replace(tzinfo=UTC),
    )
    with database(instance) as opened, opened.transaction() as session:
        chain = _chain(session, agent)
        found = log.entries(session, None if chain == HUB_CHAIN else chain, matching=wanted, limit=limit)
    if as_json:
        names = ("seq", "at", "actor", "actor_kind", "action", "subject", "subject_id", "before", "after", "hash")
        show_json([{name: getattr(entry, name) for name in names} for entry in found])
        return
    rows = [
        (one.seq, f"{one.at:%Y-%m-%d %H:%M:%S}", one.actor, one.action, one.subject, (one.hash or "")[:10])
        for one in found
    ]
    show_table(("SEQ", "WHEN (UTC)", "WHO", "WHAT", "OF", "HASH"), rows)


@audit.command()
@click.option("--agent", metavar="NAME", help=f"Only this chain: an agent's name or id, or {_HUB!r}.")
@instance_option
@json_option
def head(agent: str | None, instance: Instance, *, as_json: bool) -> None:
    """Show where each chain ends. Kept elsewhere, it proves later that nothing was cut off or made anew."""
    with database(instance) as opened, opened.transaction() as session:
        found = log.heads(session, None if agent is None else _chain(session, agent))
    if as_json:
        show_json([{"chain": _name(one.chain), "name": name, "seq": one.seq, "hash": one.hash} for one, name in found])
        return
    for one, _ in found:
        click.echo(f"{_name(one.chain)}:{one.seq}:{one.hash}")


@audit.command()
@click.option("--agent", metavar="NAME", help=f"Only this chain: an agent's name or id, or {_HUB!r}.")
@click.option("--expect", multiple=True, metavar="CHAIN:SEQ:HASH", help="A line of `head`, kept elsewhere; many times.")
@click.option(
    "--expect-file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="A file of such lines."
)
@instance_option
@json_option
def verify(
    agent: str | None, expect: tuple[str, ...], expect_file: Path | None, instance: Instance, *, as_json: bool
) -> None:
    """Look for entries that were altered, removed, cut off or slipped in; exit code 1 when there are."""
    kept = [*expect, *(expect_file.read_text("utf-8").split() if expect_file else [])]
    anchors = [_anchor(line) for line in kept]
    show_progress = sys.stderr.isatty() and not as_json

    def progress(count: int) -> None:
        if show_progress:
            click.echo(f"\r{count:,} entries read …", err=True, nl=False)

    with database(instance) as opened, opened.transaction() as session:
        only = None if agent is None else _chain(session, agent)
        reports = log.verify(session, only, anchors=anchors, progress=progress)
        log.note(session, reports, by=BY, now=datetime.now(UTC))
    if show_progress:
        click.echo("\r", err=True, nl=False)
    if as_json:
        show_json(
            [
                {
                    "chain": _name(report.chain),
                    "name": report.name,
                    "entries": report.entries,
                    "seq": report.seq,
                    "hash": report.hash,
                    "whole": report.is_whole,
                    "faults": report.faults,
                }
                for report in reports
            ]
        )
    else:
        for report in reports:
            verdict = "whole" if report.is_whole else "NOT WHOLE"
            click.echo(
                f"{report.name}: {verdict}, {report.entries:,} entries, ends with {report.hash[:16] or 'nothing'}"
            )
            for fault in report.faults:
                click.echo(f"  entry {fault.seq}: {fault.words}")
    if not all(report.is_whole for report in reports):
        sys.exit(FAULT)


def _chain(session: Session, ref: str | None) -> UUID:
    """The chain of that agent or of the hub; an agent that was deleted is found by its id."""
    if ref == _HUB:
        return HUB_CHAIN
    known = [anchor.chain for anchor, _ in log.heads(session) if str(anchor.chain) == (ref or "").lower()]
    return known[0] if known else identity.find_agent(session, ref).agent_id


def _name(chain: UUID) -> str:
    return _HUB if chain == HUB_CHAIN else str(chain)


def _anchor(line: str) -> Anchor:
    found = _ANCHOR.fullmatch(line.strip())
    if found is None:
        raise Invalid("looks like a line of `marvain audit head`: CHAIN:SEQ:HASH", field="expect")
    try:
        chain = HUB_CHAIN if found[1] == _HUB else UUID(found[1])
    except ValueError:
        raise Invalid("names a chain by the id of its agent, or 'hub'", field="expect") from None
    return Anchor(chain, int(found[2]), found[3])
