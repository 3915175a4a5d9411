"""`marvain device claim`, `pending`, `approve`, `reject`: devices that fetch their own token."""

import sys
from datetime import UTC, datetime
from uuid import UUID

import click
import segno

from hub import claims, devices, enrolment_decisions, enrolment_records, identity
from hub.claims import ClaimDraft
from hub.enrolment_decisions import Approval
from hub.errors import Invalid
from marvain.cli.options import BY, agent_option, instance_option, json_option
from marvain.cli.output import ago, show_json, show_table
from marvain.instance import Instance
from marvain.reach import database

WEB = "http://127.0.0.1:8000"


@click.command()
@agent_option
@click.option("--name", metavar="NAME", help="What the device will be called. [default: what it calls itself]")
@click.option("--handle", metavar="H", help="Its name on the wire. [default: made of the name]")
@click.option("--space", metavar="NAME", help="The space where it stands; a name or an id.")
@click.option("--scope", "scopes", multiple=True, metavar="X", help="What it may do; may be repeated.")
@click.option("--for", "of", metavar="HANDLE", help="For the device HANDLE that is there: it gets a new token.")
@click.option("--minutes", default=claims.MINUTES, show_default=True, type=click.IntRange(1, claims.MINUTES_MAX))
@click.option("--approve", is_flag=True, help="Whoever has the code gets a token at once, without anybody's word.")
@click.option("--hub", metavar="URL", help="The web address that the device will use, for the picture.")
@instance_option
@json_option
def claim(
    *,
    agent: str | None,
    name: str | None,
    handle: str | None,
    space: str | None,
    scopes: tuple[str, ...],
    of: str | None,
    minutes: int,
    approve: bool,
    hub: str | None,
    instance: Instance,
    as_json: bool,
) -> None:
    """Make a claim code, with which one device fetches its own token; shown this once."""
    if of and (name or handle or space or scopes):
        raise Invalid("a device that is there keeps its name, handle, space and scopes", field="for")
    with database(instance) as opened, opened.transaction() as session:
        known = devices.by_handle(session, of) if of else None
        agent_id = known.agent_id if known else identity.find_agent(session, agent).agent_id
        draft = ClaimDraft(
            name=name,
            handle=handle,
            space_id=identity.find_space(session, agent_id, space).space_id if space else None,
            scopes=tuple(scopes or devices.DEFAULT_SCOPES),
            device_id=known.device_id if known else None,
            needs_approval=not approve,
            minutes=minutes,
        )
        made = claims.create(session, agent_id, draft, by=BY, user_id=None, now=datetime.now(UTC))
    running = instance.running()
    address = (hub or (running.web if running else WEB)).rstrip("/")
    link = f"{address}/enrol#code={made.code}"
    if as_json:
        show_json(
            {"claim_id": made.claim.claim_id, "code": made.code, "url": link, "expires_at": made.claim.expires_at}
        )
        return
    if sys.stdout.isatty():
        segno.make(link, error="m", micro=False).terminal(compact=True)
    click.echo(f"code  {made.code}\nurl   {link}\n")
    click.echo(f"Good for one device, within {minutes} minutes. It is not shown again. On the device:\n")
    click.echo(f"  marvain-satellite enrol --hub {address} --code {made.code}\n")
    if not approve:
        click.echo("Then compare the three words and let it in, on the Devices page or with:\n")
        click.echo("  marvain device pending")


@click.command()
@agent_option
@instance_option
@json_option
def pending(agent: str | None, instance: Instance, *, as_json: bool) -> None:
    """List the devices that ask to join."""
    with database(instance) as opened, opened.transaction() as session:
        agent_id = identity.find_agent(session, agent).agent_id
        found = enrolment_records.waiting(session, agent_id, datetime.now(UTC))
    if as_json:
        show_json(found)
        return
    show_table(
        ["ID", "WORDS", "NAME", "HARDWARE", "ADDRESS", "ASKED"],
        [(one.enrolment_id, one.phrase, one.called, one.hardware, one.address, ago(one.asked_at)) for one in found],
    )


@click.command()
@click.argument("enrolment_id", type=click.UUID)
@agent_option
@click.option("--name", metavar="NAME", help="What people call it. [default: as its code or itself says]")
@click.option("--handle", metavar="H", help="Its name on the wire. [default: made of the name]")
@click.option("--space", metavar="NAME", help="The space where it stands. [default: as its code says]")
@click.option("--scope", "scopes", multiple=True, metavar="X", help="What it may do. [default: as its code says]")
@instance_option
@json_option
def approve(
    *,
    enrolment_id: UUID,
    agent: str | None,
    name: str | None,
    handle: str | None,
    space: str | None,
    scopes: tuple[str, ...],
    instance: Instance,
    as_json: bool,
) -> None:
    """Let the device of ENROLMENT_ID in; compare its three words first (`marvain device pending`)."""
    with database(instance) as opened, opened.transaction() as session:
        agent_id = identity.find_agent(session, agent).agent_id
        view = enrolment_records.find(session, agent_id, enrolment_id)
        place = identity.find_space(session, agent_id, space).space_id if space else view.space_id
        wanted = Approval(name, handle, place, scopes or None)
        device = enrolment_decisions.approve(session, agent_id, enrolment_id, wanted, by=BY, now=datetime.now(UTC))
    if as_json:
        show_json({"handle": device.handle, "device_id": device.device_id})
    else:
        click.echo(f"{device.handle} is approved; it fetches its token by itself.")


@click.command()
@click.argument("enrolment_id", type=click.UUID)
@agent_option
@click.option("--reason", default="", help="Told to the device.")
@instance_option
@json_option
def reject(enrolment_id: UUID, agent: str | None, reason: str, instance: Instance, *, as_json: bool) -> None:
    """Send the device of ENROLMENT_ID away."""
    with database(instance) as opened, opened.transaction() as session:
        agent_id = identity.find_agent(session, agent).agent_id
        enrolment_decisions.reject(session, agent_id, enrolment_id, by=BY, now=datetime.now(UTC), reason=reason)
    if as_json:
        show_json({"enrolment_id": enrolment_id, "state": "rejected"})
    else:
        click.echo("It is rejected and is told so.")
