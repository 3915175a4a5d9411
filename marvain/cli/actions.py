"""`marvain actions`: what waits for a decision, and deciding it, for whoever owns the hub."""

import uuid
from datetime import UTC, datetime
from typing import Any, Final

import click
import msgspec
from sqlalchemy import text
from sqlmodel import Session

from hub import identity
from hub.actions import deciding, proposing, records
from hub.actions.deciding import Decider
from hub.actions.proposing import Proposal, Proposer
from hub.actions.records import ActionView, Filter
from hub.actions.states import STATUSES
from hub.audit.actors import Actor
from hub.errors import Invalid, NotFound
from marvain.cli.options import BY, agent_option, instance_option, json_option
from marvain.cli.output import show_json, show_table
from marvain.instance import Instance
from marvain.reach import database

_LABEL: Final = Actor(BY, "system")
_OWNER: Final = Decider("cli", _LABEL, "owner")


@click.group()
def actions() -> None:
    """What is to be done, and who says yes."""


@actions.command("list")
@click.option("--status", type=click.Choice(STATUSES), help="Only these. [default: all]")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, records.PAGE_MAX))
@agent_option
@instance_option
@json_option
def listed(status: Any, limit: int, agent: str | None, instance: Instance, *, as_json: bool) -> None:
    """Show the agent's actions, newest first."""
    with database(instance) as opened, opened.transaction() as session:
        found = records.page(session, identity.find_agent(session, agent).agent_id, Filter(status), limit=limit).items
    if as_json:
        show_json([_facts(one) for one in found])
        return
    rows = [(str(one.action_id), one.status, one.risk, one.tool, _short(one.args), one.proposed_by) for one in found]
    show_table(("action", "status", "risk", "tool", "arguments", "proposed by"), rows)


@actions.command()
@click.argument("action", metavar="ACTION")
@instance_option
@json_option
def show(action: str, instance: Instance, *, as_json: bool) -> None:
    """Show one ACTION, by its id, with its timeline."""
    with database(instance) as opened, opened.transaction() as session:
        found = _find(session, action)
    _show(found, as_json=as_json)


@actions.command()
@click.argument("tool")
@click.argument("args", default="{}", metavar="[JSON]")
@click.option("--why", default="", help="The reason that people are shown.")
@click.option("--key", help="Proposed again with it, it is proposed once.")
@agent_option
@instance_option
@json_option
def propose(
    tool: str, args: str, why: str, key: str | None, agent: str | None, instance: Instance, *, as_json: bool
) -> None:
    """Propose what TOOL does with these arguments, a JSON object."""
    try:
        given = msgspec.json.decode(args)
    except msgspec.DecodeError as error:
        raise Invalid(f"is not JSON: {error}", field="args") from None
    if not isinstance(given, dict):
        raise Invalid("are one JSON object, such as {}", field="args")
    with database(instance) as opened, opened.transaction() as session:
        agent_id = identity.find_agent(session, agent).agent_id
        proposal = Proposal(tool, given, why, key=key)
        proposer = Proposer("cli", _LABEL)
        found = proposing.propose(session, agent_id, proposal, proposer=proposer, now=datetime.now(UTC)).action
    _show(found, as_json=as_json)


@actions.command()
@click.argument("action", metavar="ACTION")
@click.option("--reason", default="", help="Kept with the decision.")
@click.option("--digest", help="Refuse unless it is exactly this; otherwise what it is now.")
@instance_option
@json_option
def approve(action: str, reason: str, digest: str | None, instance: Instance, *, as_json: bool) -> None:
    """Say yes to ACTION."""
    with database(instance) as opened, opened.transaction() as session:
        found = _find(session, action)
        done = deciding.approve(
            session,
            found.agent_id,
            found.action_id,
            by=_OWNER,
            digest=digest or found.digest,
            reason=reason,
            now=datetime.now(UTC),
        )
    _show(done, as_json=as_json)


@actions.command()
@click.argument("action", metavar="ACTION")
@click.option("--reason", default="", help="Kept with the decision.")
@instance_option
@json_option
def reject(action: str, reason: str, instance: Instance, *, as_json: bool) -> None:
    """Say no to ACTION."""
    _end(deciding.reject, action, reason, instance, as_json=as_json)


@actions.command()
@click.argument("action", metavar="ACTION")
@click.option("--reason", default="", help="Kept with it.")
@instance_option
@json_option
def cancel(action: str, reason: str, instance: Instance, *, as_json: bool) -> None:
    """Take ACTION back, if it has not begun."""
    _end(deciding.cancel, action, reason, instance, as_json=as_json)


def _end(act: Any, action: str, reason: str, instance: Instance, *, as_json: bool) -> None:
    with database(instance) as opened, opened.transaction() as session:
        found = _find(session, action)
        now = datetime.now(UTC)
        done = act(session, found.agent_id, found.action_id, by=_OWNER, reason=reason, now=now)
    _show(done, as_json=as_json)


def _find(session: Session, given: str) -> ActionView:
    try:
        action_id = uuid.UUID(given)
    except ValueError:
        raise Invalid("is an id, as `marvain actions list` shows them", field="action") from None
    agent_id = session.execute(
        text("SELECT agent_id FROM actions WHERE action_id = :id"), {"id": action_id}
    ).scalar_one_or_none()
    if agent_id is None:
        raise NotFound("there is no such action", field="action")
    return records.find(session, agent_id, action_id)


def _show(one: ActionView, *, as_json: bool) -> None:
    if as_json:
        show_json(_facts(one))
        return
    click.echo(f"{one.action_id}  {one.status}  {one.risk} risk\n{one.tool} {_short(one.args, 2_000)}")
    click.echo(f"digest {one.digest}")
    for step in one.steps:
        note = f": {step.note}" if step.note else ""
        click.echo(f"  {step.at:%Y-%m-%d %H:%M:%S}  {step.step} by {_plain(step.witness)}{_plain(note)}")
    if one.error:
        click.echo(f"error: {_plain(one.error)}")


def _facts(one: ActionView) -> dict[str, Any]:
    facts: dict[str, Any] = msgspec.to_builtins(one)
    return facts


def _short(args: dict[str, Any], most: int = 60) -> str:
    written = msgspec.json.encode(args).decode()
    return _plain(written if len(written) <= most else f"{written[: most - 1]}…")


def _plain(words: str) -> str:
    """Words of others must not steer the terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in words)
