"""`marvain user`: people who sign in."""

import sys
from datetime import UTC, datetime

import click
from sqlmodel import Session

from hub import accounts, identity, members, sign_in
from hub.errors import NotFound
from hub.tables import User
from marvain.cli.options import BY, agent_option, instance_option, json_option
from marvain.cli.output import ago, show_json, show_table
from marvain.instance import Instance
from marvain.reach import database


@click.group()
def user() -> None:
    """People: add them, give them a new way in, change what they are to an agent."""


@user.command("list")
@instance_option
@json_option
def list_(instance: Instance, *, as_json: bool) -> None:
    """List all people with what they are to which agent."""
    with database(instance) as opened, opened.transaction() as session:
        found = accounts.overview(session, datetime.now(UTC))
    if as_json:
        show_json(found)
        return
    show_table(
        ["E-MAIL", "NAME", "STATE", "SEEN", "BROWSERS", "AGENTS"],
        [
            (
                one.email or one.user_id,
                one.display_name,
                "disabled" if one.disabled else "active" if one.can_sign_in else "invited",
                ago(one.last_seen),
                one.sessions,
                ", ".join(f"{agent} ({role})" for agent, role in one.agents),
            )
            for one in found
        ],
    )


@user.command()
@click.argument("email")
@instance_option
@json_option
def disable(email: str, instance: Instance, *, as_json: bool) -> None:
    """Let nobody in as EMAIL any more, in no agent; ends their browsers, pages and tokens at once."""
    _switch(instance, email, disabled=True, as_json=as_json)


@user.command()
@click.argument("email")
@instance_option
@json_option
def enable(email: str, instance: Instance, *, as_json: bool) -> None:
    """Let EMAIL in again, with the password and the tokens of before."""
    _switch(instance, email, disabled=False, as_json=as_json)


@user.command()
@click.argument("email")
@click.option("--end", is_flag=True, help="Sign all of them out.")
@instance_option
@json_option
def sessions(email: str, instance: Instance, *, end: bool, as_json: bool) -> None:
    """List the browsers in which EMAIL is signed in."""
    with database(instance) as opened, opened.transaction() as session:
        person = _person(session, email)
        found = sign_in.sessions_of(session, person.user_id, datetime.now(UTC))
        shown = [
            {"session_id": one.session_id, "address": one.address, "browser": one.user_agent, "seen": one.last_seen_at}
            for one in found
        ]
        if end:
            sign_in.end_sessions(session, person.user_id, f"ended by the {BY}", by=BY)
    if as_json:
        show_json(shown)
        return
    show_table(["SEEN", "ADDRESS", "BROWSER"], [(ago(one.last_seen_at), one.address, one.user_agent) for one in found])
    if end:
        click.echo("All of them are signed out.")


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
    with database(instance) as opened, opened.transaction() as session:
        home = identity.find_agent(session, agent)
        person = identity.create_user(session, email, name, password, by=BY)
        given = identity.join(session, home.agent_id, person, role, by=BY)
        link = _link(session, instance, person) if password is None else None
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


@user.command()
@click.argument("email")
@instance_option
@json_option
def reset(email: str, instance: Instance, *, as_json: bool) -> None:
    """Show a one-time link with which EMAIL chooses a new password; the old one works until then."""
    with database(instance) as opened, opened.transaction() as session:
        person = _person(session, email)
        link = _link(session, instance, person)
    if as_json:
        show_json({"user_id": person.user_id, "email": person.email, "link": link})
        return
    click.echo(f"Give {person.email} this link, it works once:\n\n  {link}\n")


@user.command()
@click.argument("email")
@click.argument("role", type=click.Choice(["owner", "admin", "member", "guest", "blocked"]))
@agent_option
@instance_option
@json_option
def role(email: str, role: str, agent: str | None, instance: Instance, *, as_json: bool) -> None:
    """Make EMAIL's part in the agent ROLE; the owner stays owner until somebody else is made it."""
    with database(instance) as opened, opened.transaction() as session:
        home, person = identity.find_agent(session, agent), _person(session, email)
        if role == "blocked":
            members.block(session, home.agent_id, person.user_id, by_user_id=None, by=BY)
        else:
            members.set_role(session, home.agent_id, person.user_id, role, by_user_id=None, by=BY)
    if as_json:
        show_json({"user_id": person.user_id, "email": person.email, "agent_id": home.agent_id, "role": role})
    else:
        click.echo(f"{person.email} is {role} of {home.name}.")


@user.command()
@click.argument("email")
@agent_option
@instance_option
@json_option
def remove(email: str, agent: str | None, instance: Instance, *, as_json: bool) -> None:
    """End EMAIL's membership of the agent; the account stays."""
    with database(instance) as opened, opened.transaction() as session:
        home, person = identity.find_agent(session, agent), _person(session, email)
        members.remove(session, home.agent_id, person.user_id, by_user_id=None, by=BY)
    if as_json:
        show_json({"user_id": person.user_id, "email": person.email, "agent_id": home.agent_id})
    else:
        click.echo(f"{person.email} is no member of {home.name} any more.")


def _switch(instance: Instance, email: str, *, disabled: bool, as_json: bool) -> None:
    with database(instance) as opened, opened.transaction() as session:
        person = _person(session, email)
        accounts.set_disabled(session, person, disabled=disabled, by=BY)
    if as_json:
        show_json({"user_id": person.user_id, "email": person.email, "disabled": disabled})
    else:
        click.echo(f"{person.email} is {'disabled' if disabled else 'enabled'}.")


def _person(session: Session, email: str) -> User:
    person = identity.find_user(session, email)
    if person is None:
        raise NotFound(f"there is no user {email!r}", field="email")
    return person


def _link(session: Session, instance: Instance, person: User) -> str:
    running, last = instance.running(), instance.last_ports()
    base = running.web if running else f"http://127.0.0.1:{last.web or 8000}"
    return f"{base}/invite/{sign_in.invite_link(session, person, datetime.now(UTC), by=BY)}"
