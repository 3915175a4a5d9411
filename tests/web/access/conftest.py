"""An agent with a device and people of every role, and another agent that is none of theirs."""

import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass

import httpx
import pytest

from hub import devices, identity, integrations
from hub.access import roles
from hub.access.roles import GrantDraft, RoleDraft
from hub.database import Database
from hub.tables import Agent, User

NewClient = Callable[..., httpx.AsyncClient]
MakeUser = Callable[..., User]
Enter = Callable[[User], str]


@dataclass(frozen=True)
class Foreign:
    """Things of an agent that nobody in these tests is a member of."""

    agent_id: uuid.UUID
    device_id: uuid.UUID
    integration_id: uuid.UUID
    role_id: uuid.UUID
    entry_id: int


MakeRole = Callable[..., uuid.UUID]


@pytest.fixture
def home(database: Database, owner_token: str) -> uuid.UUID:
    """The owner's agent."""
    with database.transaction() as session:
        return identity.find_agent(session).agent_id


@pytest.fixture
def porch(database: Database, home: uuid.UUID) -> uuid.UUID:
    """A device of it."""
    with database.transaction() as session:
        return devices.add(session, home, "Porch", scopes=["events:write"], by="a test").device.device_id


@pytest.fixture
def make_role(database: Database, home: uuid.UUID) -> MakeRole:
    """Makes roles of the owner's agent; grants are (action, filter)."""

    def make(name: str = "Helpers", *grants: tuple[str, str], **bearers: object) -> uuid.UUID:
        given = {"devices": (), "integrations": (), "all_devices": False} | bearers
        draft = RoleDraft(name, "", tuple(GrantDraft(*one) for one in grants), **given)  # type: ignore[arg-type]
        with database.transaction() as session:
            return roles.create(session, home, draft, by="a test", open_topics=()).role.role_id

    return make


@pytest.fixture
def foreign(database: Database, home: uuid.UUID) -> Foreign:
    """Another agent with one of everything."""
    with database.transaction() as session:
        agent = Agent(name="Elsewhere")
        session.add(agent)
        session.flush()
        device = devices.add(session, agent.agent_id, "Secret cellar", scopes=[], by="a test").device
        integration = integrations.add(session, agent.agent_id, "Secret bridge", by="a test").integration
        draft = RoleDraft("Secret role", "", (), (), (), all_devices=False)
        saved = roles.create(session, agent.agent_id, draft, by="a test", open_topics=())
        return Foreign(agent.agent_id, device.device_id, integration.integration_id, saved.role.role_id, saved.entry_id)


@pytest.fixture
def member(new_client: NewClient, make_user: MakeUser, enter: Enter, home: uuid.UUID) -> httpx.AsyncClient:
    """Somebody who may look."""
    return new_client(token=enter(make_user("max@example.org", "member")))


@pytest.fixture
def guest(new_client: NewClient, make_user: MakeUser, enter: Enter, home: uuid.UUID) -> httpx.AsyncClient:
    """Somebody who sees the devices and nothing of access."""
    return new_client(token=enter(make_user("gus@example.org", "guest")))


@pytest.fixture
def save() -> Callable[..., object]:
    """Sends an edit twice, as a person does: first for its preview, then with what the preview handed out."""

    async def send(client: httpx.AsyncClient, path: str, fields: dict[str, object]) -> httpx.Response:
        shown = await client.post(path, data=fields | {"do": "preview"})
        assert shown.status_code == 200, shown.text
        found = re.search(r'name="previewed" value="([0-9a-f]{32})"', shown.text)
        assert found is not None
        return await client.post(path, data=fields | {"do": "save", "previewed": found[1]})

    return send
