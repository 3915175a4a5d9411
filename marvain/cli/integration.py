"""`marvain integration`: Home Assistant, Node-RED and the like, with credentials of their own."""

import uuid

import click
from sqlmodel import Session

from hub import identity, integrations
from hub.access import roles
from hub.errors import NotFound
from hub.integration_scopes import ROLES, SCOPES, change, view
from hub.tables import Agent
from marvain.cli.options import BY, agent_option, instance_option, json_option
from marvain.cli.output import ago, show_json, show_table
from marvain.instance import Instance
from marvain.reach import broker_address, database


@click.group()
def integration() -> None:
    """Integrations: add, list, rotate, revoke, and what they may ask."""


@integration.command()
@click.argument("name")
@agent_option
@click.option("--role", "names", multiple=True, metavar="NAME", help="A role that it bears; may be repeated.")
@click.option("--handle", metavar="H", help="Its name on the wire, after ext_. [default: made of NAME]")
@instance_option
@json_option
def add(
    name: str, agent: str | None, names: tuple[str, ...], handle: str | None, instance: Instance, *, as_json: bool
) -> None:
    """Register an integration called NAME; shows its token, this once."""
    with database(instance) as opened, opened.transaction() as session:
        owner = identity.find_agent(session, agent)
        borne = [_role(session, owner, one) for one in names]
        new = integrations.add(session, owner.agent_id, name, by=BY, handle=handle, roles=borne)
        username = integrations.username_of(new.integration)
    _show_token(instance, username, str(new.integration.integration_id), new.token, as_json=as_json)


@integration.command("list")
@agent_option
@instance_option
@json_option
def list_(agent: str | None, instance: Instance, *, as_json: bool) -> None:
    """List the integrations of an agent and their roles."""
    with database(instance) as opened, opened.transaction() as session:
        found = integrations.list_integrations(session, identity.find_agent(session, agent).agent_id)
    if as_json:
        show_json(found)
        return
    show_table(
        ["USERNAME", "NAME", "TOKEN", "ROLES"],
        [
            (
                view.username,
                view.name,
                "revoked" if view.revoked_at else ago(view.token_created_at),
                ", ".join(name for _, name in view.roles),
            )
            for view in found
        ],
    )


@integration.command()
@click.argument("handle")
@click.option("--scope", "scopes", multiple=True, help=f"May be given twice: {', '.join(SCOPES)}. [default: none]")
@click.option("--decides-as", default="member", show_default=True, type=click.Choice(ROLES))
@instance_option
@json_option
def scopes(handle: str, scopes: tuple[str, ...], decides_as: str, instance: Instance, *, as_json: bool) -> None:
    """Let the integration HANDLE ask exactly this of the hub, and decide as that role."""
    with database(instance) as opened, opened.transaction() as session:
        found = integrations.by_handle(session, handle)
        change(session, found.agent_id, found.integration_id, scopes, decides_as, by=BY)
        now, role = view(session, found.agent_id, found.integration_id)
    if as_json:
        show_json({"scopes": now, "decides_as": role})
    else:
        click.echo(f"{', '.join(now) or 'nothing'}, as {role}")


@integration.command()
@click.argument("handle")
@instance_option
@json_option
def rotate(handle: str, instance: Instance, *, as_json: bool) -> None:
    """Give the integration HANDLE a new token; the old one is worthless at once."""
    with database(instance) as opened, opened.transaction() as session:
        found = integrations.by_handle(session, handle)
        token = integrations.rotate(session, found.agent_id, found.integration_id, by=BY)
        username = integrations.username_of(found)
    _show_token(instance, username, str(found.integration_id), token, as_json=as_json)


@integration.command()
@click.argument("handle")
@click.option("--reason", default="", help="Told to the integration and shown in the browser.")
@instance_option
@json_option
def revoke(handle: str, reason: str, instance: Instance, *, as_json: bool) -> None:
    """End the integration HANDLE for good: it is disconnected at once and cannot come back."""
    with database(instance) as opened, opened.transaction() as session:
        found = integrations.by_handle(session, handle)
        integrations.revoke(session, found.agent_id, found.integration_id, by=BY, reason=reason)
        username = integrations.username_of(found)
    if as_json:
        show_json({"username": username, "integration_id": found.integration_id, "revoked_at": found.revoked_at})
    else:
        click.echo(f"{username} is revoked.")


def _role(session: Session, owner: Agent, name: str) -> uuid.UUID:
    known = roles.list_roles(session, owner.agent_id)
    for role in known:
        if role.name.casefold() == name.casefold() or str(role.role_id) == name.lower():
            return role.role_id
    there_are = ", ".join(role.name for role in known) or "none yet"
    raise NotFound(f"there is no role {name!r} in {owner.name}; there are: {there_are}", field="role")


def _show_token(instance: Instance, username: str, integration_id: str, token: str, *, as_json: bool) -> None:
    if as_json:
        show_json({"username": username, "integration_id": integration_id, "token": token})
        return
    scheme, host, port = broker_address(instance)
    click.echo(f"username   {username}\nclient id  {username}\npassword   {token}\n")
    click.echo(f"The password is not shown again. The broker is at {scheme}://{host}:{port}.")
