"""Every route, asked with ids of another agent, or of one that is switched off: not found, and nothing changed.

Made from the route table itself.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
from fastapi import FastAPI
from fastapi.routing import RouteContext, iter_route_contexts
from sqlalchemy import text

from hub import (
    agents,
    batches,
    claims,
    commands,
    dead_letters,
    devices,
    enrolment,
    identity,
    integrations,
    schedules,
    tags,
)
from hub.access import personal_tokens
from hub.actions import proposing
from hub.actions.proposing import Proposal, Proposer
from hub.audit.actors import Actor
from hub.automations import records as automations
from hub.claims import ClaimDraft
from hub.database import Database
from hub.enrolment import Statement
from hub.policies import records as policies
from hub.settings import Settings
from hub.tables import Agent, AgentMembership, Role, Space, UserSession
from web.api.description import describe
from web.app import create_app

# Ids in paths that are not an agent's: with the reason why this test has nothing to say about them.
NOT_AN_AGENTS = {
    "build": "a file of the product",
    "name": "a file of the product",
    "what": "a word of ours",
    "stream": "a name within a device, whose id stands before it, or is the caller's own",
    "token": "a one-time link is its own secret; tests/web/test_login.py",
    "own_enrolment_id": "who bears its secret belongs to no agent yet; tests/web/api/test_enrol.py",
}
# What every request may touch: that somebody was here.
TOUCHED = {"user_sessions", "users", "personal_tokens", "idempotency_keys", "sign_in_brakes", "broker_sessions"}


def _routes() -> list[RouteContext]:
    app = create_app(Settings(database_url="postgresql://nobody@localhost/none"))
    return [one for one in iter_route_contexts(app.routes) if "{" in (one.path or "") and one.methods]


ROUTES = [
    (method, route.path)
    for route in _routes()
    for method in sorted(route.methods)
    if not set(re.findall(r"{(\w+)", route.path)) <= set(NOT_AN_AGENTS)
]


@dataclass(frozen=True)
class Others:
    """What another agent has, by the names that paths have for it, and the token of its device."""

    agent_id: UUID
    token: str
    ids: dict[str, str]


@pytest.fixture
def others(database: Database) -> Others:
    """One of everything, of an agent that nobody here belongs to."""
    now = datetime.now(UTC)
    with database.transaction() as session:
        agent = Agent(name="Elsewhere")
        session.add(agent)
        session.flush()
        space = Space(agent_id=agent.agent_id, name="Cellar")
        session.add(space)
        eve = identity.create_user(session, "eve@example.org", "", "three loud satellites")
        session.add(AgentMembership(agent_id=agent.agent_id, user_id=eve.user_id, role="owner"))
        session.flush()
        added = devices.add(session, agent.agent_id, "Their porch", scopes=["*"], by="eve", space_id=space.space_id)
        device = added.device
        integration = integrations.add(session, agent.agent_id, "Their Node-RED", by="eve").integration
        role = Role(agent_id=agent.agent_id, name="Their role")
        session.add(role)
        tags.set_tags(session, device, ["theirs"], by="eve")
        plan = batches.plan(session, agent.agent_id, batches.Wish("command", "theirs", {}, "ping"))
        batch = batches.send(session, agent.agent_id, plan, by="eve", now=now)
        command = commands.request(session, device, "ping", {}, by="eve", ttl_s=600, now=now)
        codes = [
            claims.create(session, agent.agent_id, ClaimDraft(), by="eve", user_id=None, now=now) for _ in range(2)
        ]
        asked = enrolment.ask(session, codes[1].code, Statement("Their mast"), address="192.0.2.50", now=now)
        assert isinstance(asked, enrolment.Standing)
        token, _ = personal_tokens.create(session, eve.user_id, "theirs", ["*"], now + timedelta(days=1), now)
        browser = UserSession(user_id=eve.user_id, token_hash="0" * 64, expires_at=now + timedelta(days=1))
        session.add(browser)
        session.flush()
        dead_letters.park(session, "d/theirs", b"{}", "no", now, direction="out", handle=device.handle)
        parked = session.execute(text("SELECT dead_letter_id FROM dead_letters")).scalar_one()
        proposal = Proposal("schedule", {"tool": "send_message", "args": {"text": "Their"}, "cron": "0 7 * * *"})
        proposer = Proposer(f"user:{eve.user_id}", Actor("eve", "person"))
        action = proposing.propose(session, agent.agent_id, proposal, proposer=proposer, now=now).action
        schedules.start(
            session, agent.agent_id, action.action_id, at=None, cron="0 7 * * *", zone="UTC", times=None, now=now
        )
        [schedule] = schedules.listed(session, agent.agent_id)
        rule = automations.Draft("Their rule", "event", {"type": "x"}, "send_message", {"text": "Their"})
        automation = automations.create(session, agent.agent_id, rule, by="eve", now=now)
        draft = policies.Draft("Their policy", "send_message", ("messages:send",))
        policy = policies.create(session, agent.agent_id, draft, by="eve", now=now)
        channel_id = session.execute(
            text(
                "INSERT INTO notify_channels (agent_id, name, host, sealed, added_by) "
                "VALUES (:agent, 'theirs', 'example.org', '', 'eve') RETURNING channel_id"
            ),
            {"agent": agent.agent_id},
        ).scalar_one()
        return Others(
            agent.agent_id,
            added.token,
            {
                "agent_id": str(agent.agent_id),
                "own_id": str(agent.agent_id),
                "space_id": str(space.space_id),
                "device_id": str(device.device_id),
                "integration_id": str(integration.integration_id),
                "role_id": str(role.role_id),
                "user_id": str(eve.user_id),
                "command_id": str(command.command_id),
                "claim_id": str(codes[0].claim.claim_id),
                "enrolment_id": str(asked.enrolment_id),
                "batch_id": str(batch.batch_id),
                "token_id": str(token.token_id),
                "session_id": str(browser.session_id),
                "username": device.handle,
                "stream": "warmth",
                "dead_letter_id": str(parked),
                "action_id": str(action.action_id),
                "schedule_id": str(schedule.schedule_id),
                "what": "approve",
                "automation_id": str(automation.automation_id),
                "policy_id": str(policy.policy_id),
                "channel_id": str(channel_id),
            },
        )


def everything(database: Database) -> dict[str, str]:
    """What stands in each table, as one digest of it."""
    with database.transaction() as session:
        tables = session.execute(text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")).scalars()
        digest = "SELECT md5(coalesce(string_agg(row::text, ';' ORDER BY row::text), '')) FROM {} AS row"
        return {
            table: session.execute(text(digest.format(table))).scalar_one() for table in sorted(set(tables) - TOUCHED)
        }


def switch_off(database: Database, others: Others) -> None:
    """Make the visitor an admin of it, and switch it off."""
    with database.transaction() as session:
        session.execute(
            text(
                "INSERT INTO agent_memberships (agent_id, user_id, role)"
                " SELECT :agent, user_id, 'admin' FROM users WHERE email = 'ann@example.org'"
            ),
            {"agent": others.agent_id},
        )
        agents.set_disabled(session, others.agent_id, disabled=True, by="eve")


def body_for(document: dict[str, Any], method: str, path: str) -> dict[str, Any]:
    """A JSON body that the description calls good, so that the ids are what is judged."""
    operation = document["paths"].get(path, {}).get(method.lower(), {})
    schema = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema")
    return _example(schema, document["components"]["schemas"]) if schema else {}


def _example(schema: dict[str, Any], known: dict[str, Any]) -> Any:
    if "$ref" in schema:
        schema = known[schema["$ref"].rsplit("/", 1)[1]]
    if "anyOf" in schema:
        return _example(schema["anyOf"][0], known)
    for given in ("const", "default", "enum", "examples"):
        if given in schema:
            return schema[given][0] if isinstance(schema[given], list) and given != "default" else schema[given]
    if "properties" in schema:
        properties = schema["properties"]
        return {name: _example(properties[name], known) for name in schema.get("required", [])}
    formats = {
        "date-time": (datetime.now(UTC) + timedelta(hours=1)).isoformat(),
        "uuid": "00000000-0000-4000-8000-000000000000",
    }
    plain = {
        "object": {},
        "array": [],
        "string": formats.get(schema.get("format", ""), "x" * schema.get("minLength", 1)),
    }
    return plain.get(schema.get("type", "object"), schema.get("minimum", 1))


@pytest.mark.parametrize("standing", ["a stranger", "an admin of an agent that is off"])
async def test_ids_of_another_agent_are_not_found(
    app: FastAPI, owner: httpx.AsyncClient, others: Others, database: Database, standing: str
) -> None:
    """Each route in turn in one world: nothing of what they do may be seen in it at the end."""
    if standing != "a stranger":
        switch_off(database, others)
    document = describe(app)
    before = everything(database)
    wrong = []
    for method, path in ROUTES:
        unknown = set(re.findall(r"{(\w+)", path)) - set(others.ids) - set(NOT_AN_AGENTS)
        assert not unknown, f"say in `others` what another agent's {', '.join(unknown)} is"
        address = re.sub(r"{(\w+)(:\w+)?}", lambda found: others.ids[found[1]], path)
        is_api = path.startswith(("/v1/", "/api/"))
        for agent in ({}, {"agent": str(others.agent_id)}):
            body = {"json": body_for(document, method, path)} if is_api and method not in {"GET", "DELETE"} else {}
            typed = {"name": "Their porch"} if method == "DELETE" else {}
            answer = await owner.request(method, address, params=agent | typed, **body)
            if answer.status_code != 404 or "Their" in answer.text:
                wrong.append((method, path, agent, answer.status_code, answer.text[:300]))
    assert wrong == []
    after = everything(database)
    assert [table for table in before if before[table] != after[table]] == []


async def test_an_agent_that_is_off_is_on_no_page(
    app: FastAPI, owner: httpx.AsyncClient, others: Others, database: Database
) -> None:
    switch_off(database, others)
    pages = {
        route.path
        for route in iter_route_contexts(app.routes)
        if "GET" in (route.methods or ()) and "{" not in route.path
    }
    assert len(pages) > 20
    for path in sorted(pages):
        for agent in ({}, {"agent": str(others.agent_id)}):
            answer = await owner.get(path, params=agent)
            assert answer.status_code < 500, path
            assert "Their" not in answer.text, path
            assert "Elsewhere" not in answer.text, path


async def test_a_device_of_an_agent_that_is_off_is_let_in_nowhere(
    app: FastAPI, new_client: Any, others: Others, database: Database
) -> None:
    device = new_client(headers={"Authorization": f"Bearer {others.token}"})
    assert (await device.get("/v1/me")).status_code == 200
    switch_off(database, others)
    before = everything(database)
    document = describe(app)
    asked = 0
    for route in iter_route_contexts(app.routes):
        # The description is anybody's, and enrolling begins without a token.
        if route.path.startswith(("/v1/", "/api/")) and not route.path.startswith(("/v1/enrol", "/api/openapi")):
            address = re.sub(r"{(\w+)(:\w+)?}", lambda found: others.ids[found[1]], route.path)
            for method in sorted(route.methods or ()):
                body = {"json": body_for(document, method, route.path)} if method not in {"GET", "DELETE"} else {}
                answer = await device.request(method, address, **body)
                assert answer.status_code == 401, (method, route.path, answer.text)
                asked += 1
    assert asked > 30
    assert everything(database) == before


def test_there_is_something_to_ask() -> None:
    assert len(ROUTES) > 25
