"""`marvain agent`: the agents of an instance."""

import click

from hub import identity
from marvain.cli.options import instance_option, json_option
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
                        "spaces": [{"space_id": space.space_id, "name": space.name} for space in spaces],
                    }
                    for agent, spaces in found
                ]
            )
            return
        show_table(
            ["AGENT", "SPACES", "ID"],
            [(agent.name, ", ".join(space.name for space in spaces), agent.agent_id) for agent, spaces in found],
        )
