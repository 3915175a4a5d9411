"""The interface against its own description, by schemathesis: no fault, no answer that is not described."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
import requests
import schemathesis
import uvicorn
from databases import drop
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from sqlalchemy import make_url

from hub import devices, identity
from hub.access import personal_tokens
from hub.database import Database
from hub.settings import Settings
from hub.tables import AgentMembership
from web.api.description import describe
from web.app import create_app

DOCUMENT = describe(create_app(Settings(database_url="postgresql://nobody@localhost/none")))
METHODS = {"get", "post", "put", "patch", "delete"}
OPERATIONS = [
    pytest.param(path, method, id=f"{method.upper()} {path}")
    for path, item in DOCUMENT["paths"].items()
    for method in item
    if method in METHODS
]
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


@dataclass(frozen=True)
class Running:
    """The app on a port, with tokens of an owner and of a device."""

    url: str
    tokens: tuple[str, str]
    ids: dict[str, str]


@pytest.fixture(scope="module")
def running(postgres_url: str, migrated_template: str) -> Iterator[Running]:
    name = f"test_{migrated_template}"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(migrated_template))
        )
    url = make_url(postgres_url).set(database=name).render_as_string(hide_password=False)
    database = Database(url)
    now = datetime.now(UTC)
    with database.transaction() as session:
        agent = identity.ensure_first_agent(session)
        user = identity.create_user(session, "ann@example.org", "Ann", "three quiet satellites")
        session.add(AgentMembership(agent_id=agent.agent_id, user_id=user.user_id, role="owner"))
        session.flush()
        _, personal = personal_tokens.create(session, user.user_id, "all", ["*"], now + timedelta(days=1), now)
        added = devices.add(session, agent.agent_id, "Porch", scopes=["*"], by="ann")
        (space,) = identity.spaces_of(session, agent.agent_id)
        ids = {"device_id": str(added.device.device_id), "space_id": str(space.space_id)}
    app = create_app(Settings(database_url=url, http_requests_per_minute=1_000_000))
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_config=None, ws="websockets-sansio"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    pause = threading.Event()
    while not server.started:
        assert thread.is_alive()
        pause.wait(0.02)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield Running(f"http://127.0.0.1:{port}", (personal, added.token), ids)
    server.should_exit = True
    thread.join(10)
    database.close()
    app.state.database.close()
    drop(postgres_url, name)


@pytest.mark.parametrize(("path", "method"), OPERATIONS)
def test_it_does_what_its_description_says(running: Running, path: str, method: str) -> None:
    operation = schemathesis.openapi.from_dict(DOCUMENT)[path][method]

    @given(case=operation.as_strategy(), known=st.booleans(), as_person=st.integers(0, 9))
    @settings(max_examples=25, database=None, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
    def ask(case: Any, known: bool, as_person: int) -> None:  # noqa: FBT001
        for name, value in running.ids.items():
            if known and name in (case.path_parameters or {}):
                case.path_parameters[name] = value
        token = running.tokens[0 if as_person else 1]
        with requests.Session() as session:
            headers = {"Authorization": f"Bearer {token}"}
            case.call_and_validate(base_url=running.url, session=session, headers=headers, checks=CHECKS)

    ask()


def test_every_operation_says_what_it_is_for() -> None:
    for path, item in DOCUMENT["paths"].items():
        for method, operation in item.items():
            assert operation.get("description"), f"{method} {path}"
            assert {"401", "403", "404", "409", "422", "429"} <= set(operation["responses"]), f"{method} {path}"


def test_every_field_of_a_body_has_a_type_or_an_example() -> None:
    bodies = {
        media["schema"]["$ref"].rsplit("/", 1)[1]
        for item in DOCUMENT["paths"].values()
        for operation in item.values()
        for media in operation.get("requestBody", {}).get("content", {}).values()
        if "$ref" in media["schema"]
    }
    assert bodies
    for name in bodies:
        assert DOCUMENT["components"]["schemas"][name].get("additionalProperties") is False, f"{name} takes anything"


def test_the_running_hub_tells_its_description(running: Running) -> None:
    answer = requests.get(f"{running.url}/api/openapi.json", timeout=20)
    assert answer.json() == DOCUMENT
