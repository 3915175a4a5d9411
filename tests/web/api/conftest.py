"""Callers of the HTTP interface: devices with tokens, people with theirs, and another agent beside the first."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

import httpx
import pytest
from fastapi import FastAPI

from hub import devices, identity
from hub.access import personal_tokens
from hub.database import Database
from hub.tables import Agent, Space, User

MakeUser = Callable[..., User]


@dataclass(frozen=True)
class Place:
    """An agent with a space and a device of its own."""

    agent_id: UUID
    space_id: UUID
    device_id: UUID
    handle: str
    token: str


Bearer = Callable[[str], httpx.AsyncClient]


@pytest.fixture
async def bearer(app: FastAPI):
    """Makes scripts: clients that send a token and nothing else."""
    made = []

    def make(token: str = "", address: str = "192.0.2.9") -> httpx.AsyncClient:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        transport = httpx.ASGITransport(app=app, client=(address, 50_000))
        made.append(httpx.AsyncClient(transport=transport, base_url="http://hub.test", headers=headers))
        return made[-1]

    yield make
    for client in made:
        await client.aclose()


@pytest.fixture
def make_place(database: Database):
    def make(name: str, *, scopes: list[str] | None = None, first: bool = False) -> Place:
        with database.transaction() as session:
            agent = identity.ensure_first_agent(session) if first else Agent(name=name)
            session.add(agent)
            session.flush()
            space = Space(agent_id=agent.agent_id, name=f"{name} hall")
            session.add(space)
            session.flush()
            added = devices.add(
                session, agent.agent_id, f"{name} porch", scopes=["*"] if scopes is None else scopes, by="test"
            )
            session.flush()
            return Place(agent.agent_id, space.space_id, added.device.device_id, added.device.handle, added.token)

    return make


@pytest.fixture
def home(make_place) -> Place:
    """The first agent."""
    return make_place("Home", first=True)


@pytest.fixture
def elsewhere(make_place) -> Place:
    """An agent of other people."""
    return make_place("Elsewhere")


@pytest.fixture
def make_token(database: Database):
    """Makes a personal token of a user."""

    def make(user: User, *scopes: str, for_s: float = 3600) -> str:
        now = datetime.now(UTC)
        with database.transaction() as session:
            given = list(scopes) or ["*"]
            return personal_tokens.create(session, user.user_id, "script", given, now + timedelta(seconds=for_s), now)[
                1
            ]

    return make


@pytest.fixture
def admin(make_user: MakeUser, home: Place) -> User:
    """ben@example.org, an admin of the first agent."""
    return make_user("ben@example.org", "admin", agent_id=home.agent_id)


@pytest.fixture
def script(bearer: Bearer, admin: User, make_token) -> httpx.AsyncClient:
    """The admin's script, which may do what the admin may."""
    return bearer(make_token(admin))
