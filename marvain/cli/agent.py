"""`marvain agent`: the agents of an instance."""

import click

from hub import agent_deletion, agents, identity
from hub.errors import NotFound
from marvain.cli.options import BY, instance_option, json_option
from marvain.cli.output import show_json, show_table
from marvain.instance import Instance
from marvain.reach import database


@click.group()
def agent() -> None:
    """Agents: each has its own spaces, devices, people and memory."""


@agent.command("list")
@instance_option
@json_option
def list_(instance: Instance, *, as_json: bool) -> None:
    """List all agents with their spaces."""
    with database(instance) as opened, opened.transaction() as session:
        found = [(agent, identity.spaces_of(session, agent.agent_id)) for agent in identity.list_agents(session)]
        if as_json:
            show_json(
                [
                    {
                        "agent_id": agent.agent_id,
                        "name": agent.name,
                        "about": agent.about,
                        "disabled": agent.disabled,
                        "spaces": [{"space_id": space.space_id, "name": space.name} for space in spaces],
                    }
                    for agent, spaces in found
                ]
            )
            return
        show_table(
            ["AGENT", "STATE", "SPACES", "ID"],
            [
                (
                    agent.name,
                    "off" if agent.disabled else "on",
                    ", ".join(space.name for space in spaces),
                    agent.agent_id,
                )
                for agent, spaces in found
            ],
        )


@agent.command()
@click.argument("name")
@click.option("--owner", required=True, metavar="EMAIL", help="Whose it is; must have an account.")
@click.option("--about", default="", help="What it is for.")
@instance_option
@json_option
def add(name: str, owner: str, about: str, instance: Instance, *, as_json: bool) -> None:
    """Make an agent called NAME, with a space named Home."""
    with database(instance) as opened, opened.transaction() as session:
        person = identity.find_user(session, owner)
        if person is None:
            raise NotFound(f"there is no user {owner!r}", field="owner")
        made = agents.create_for(session, person, name, about, by=BY)
    if as_json:
        show_json({"agent_id": made.agent_id, "name": made.name, "owner": person.email})
    else:
        click.echo(f"{made.name} is there, and {person.email} owns it.")


@agent.command()
@click.argument("ref", metavar="AGENT")
@click.argument("name")
@instance_option
@json_option
def rename(ref: str, name: str, instance: Instance, *, as_json: bool) -> None:
    """Call AGENT (a name or an id) NAME from now on."""
    with database(instance) as opened, opened.transaction() as session:
        found = agents.held(session, identity.find_agent(session, ref).agent_id)
        changed = agents.change(session, found.agent_id, name, found.about, revision=found.revision, by=BY)
    if as_json:
        show_json({"agent_id": changed.agent_id, "name": changed.name})
    else:
        click.echo(f"It is called {changed.name} now.")


@agent.command()
@click.argument("ref", metavar="AGENT")
@instance_option
@json_option
def disable(ref: str, instance: Instance, *, as_json: bool) -> None:
    """Switch AGENT off: its people, devices and integrations are let in no more, at once."""
    _switch(instance, ref, disabled=True, as_json=as_json)


@agent.command()
@click.argument("ref", metavar="AGENT")
@instance_option
@json_option
def enable(ref: str, instance: Instance, *, as_json: bool) -> None:
    """Switch AGENT on again."""
    _switch(instance, ref, disabled=False, as_json=as_json)


@agent.command()
@click.argument("ref", metavar="AGENT")
@click.option("--typed", metavar="NAME", help="Its name once more, instead of being asked for it.")
@instance_option
@json_option
def delete(ref: str, typed: str | None, instance: Instance, *, as_json: bool) -> None:
    """Delete AGENT for good, with all that it has; shows what that is and asks for its name."""
    with database(instance) as opened:
        with opened.transaction() as session:
            found = identity.find_agent(session, ref)
            lost = agent_deletion.losses(session, found.agent_id)
        facts = {name: getattr(lost, name) for name in agent_deletion.Losses.__slots__}
        if typed is None:
            counted = ", ".join(f"{count} {what}" for what, count in facts.items() if count)
            click.echo(f"{found.name} has {counted or 'nothing'}; it cannot be brought back.", err=True)
            typed = click.prompt("Type its name to delete it", err=True)
        with opened.transaction() as session:
            agent_deletion.delete(session, found.agent_id, typed, by=BY)
    if as_json:
        show_json({"agent_id": found.agent_id, "name": found.name, "lost": facts})
    else:
        click.echo(f"{found.name} is deleted; the running hub removes its rows.")


def _switch(instance: Instance, ref: str, *, disabled: bool, as_json: bool) -> None:
    with database(instance) as opened, opened.transaction() as session:
        found = identity.find_agent(session, ref)
        agents.set_disabled(session, found.agent_id, disabled=disabled, by=BY)
    if as_json:
        show_json({"agent_id": found.agent_id, "name": found.name, "disabled": disabled})
    else:
        click.echo(f"{found.name} is switched {'off' if disabled else 'on'}.")
