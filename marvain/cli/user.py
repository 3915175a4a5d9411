"""`marvain user`: people who sign in."""

import sys
from datetime import UTC, datetime
from uuid import UUID

import click
from sqlmodel import Session, col, select

from hub import identity, sign_in
from hub.errors import Conflict
from hub.tables import AgentMembership, User
from marvain.cli.options import agent_option, instance_option, json_option
from marvain.cli.output import show_json
from marvain.instance import Instance
from marvain.reach import database


@click.group()
def user() -> None:
    """People: add them, or give them a new way in."""


@user.command()
@click.argument("email")
@click.option("--name", default="", help="How the browser greets them.")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input instead of making a link.")
@agent_option
@click.option(
    "--role",
    type=click.Choice(["owner", "admin", "member", "guest"]),
    help="Their role in the agent. [default: owner while the agent has none, else member]",
)
@instance_option
@json_option
def add(
    email: str,
    name: str,
    agent: str | None,
    role: str | None,
    instance: Instance,
    *,
    password_stdin: bool,
    as_json: bool,
) -> None:
    """Add a person; shows a one-time link with which EMAIL chooses a password."""
    password = sys.stdin.readline().rstrip("\r\n") if password_stdin else None
    now = datetime.now(UTC)
    with database(instance) as opened, opened.transaction() as session:
        home = identity.find_agent(session, agent)
        person = identity.create_user(session, email, name, password)
        given = _join(session, home.agent_id, person, role)
        link = None
        if password is None:
            running, last = instance.running(), instance.last_ports()
            base = running.web if running else f"http://127.0.0.1:{last.web or 8000}"
            link = f"{base}/invite/{sign_in.invite_link(session, person, now)}"
        facts = {
            "user_id": person.user_id,
            "email": person.email,
            "agent_id": home.agent_id,
            "agent": home.name,
            "role": given,
            "link": link,
        }
    if as_json:
        show_json(facts)
        return
    click.echo(f"{person.email} is {given} of {home.name}.")
    if link is not None:
        click.echo(f"Give them this link, it works once:\n\n  {link}\n")


def _join(session: Session, agent_id: UUID, person: User, role: str | None) -> str:
    owner = session.exec(
        select(AgentMembership.user_id).where(
            AgentMembership.agent_id == agent_id,
            AgentMembership.role == "owner",
            col(AgentMembership.revoked_at).is_(None),
        )
    ).first()
    membership = session.get(AgentMembership, (agent_id, person.user_id))
    if membership is not None and membership.revoked_at is None and role in {None, membership.role}:
        return membership.role
    role = role or ("owner" if owner is None else "member")
    if role == "owner" and owner not in {None, person.user_id}:
        raise Conflict("the agent has an owner already", field="role")
    if membership is None:
        membership = AgentMembership(agent_id=agent_id, user_id=person.user_id, role=role)
    membership.role = role
    membership.revoked_at = None
    session.add(membership)
    session.flush()
    return role
