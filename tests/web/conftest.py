"""The real web app, over ASGI for what an answer holds and over a real port for browsers."""

import threading
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import UTC, datetime

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from hub import identity, passwords, sign_in
from hub.database import Database
from hub.settings import Settings
from hub.tables import AgentMembership, User
from web.api.pace import Pace
from web.app import create_app
from web.security import SESSION_COOKIE

ORIGIN = "http://hub.test"
PASSWORD = "three quiet satellites"
NewClient = Callable[..., httpx.AsyncClient]
MakeUser = Callable[..., User]


@pytest.fixture
def settings(database_url: str) -> Settings:
    """The web's settings on this test's database."""
    return Settings(database_url=database_url)


@pytest.fixture(scope="session")
def built() -> FastAPI:
    """The app with its routes and templates, which take longer to make than most tests last; nobody's database."""
    return create_app(Settings(database_url="postgresql://nobody@localhost/none"))


@pytest.fixture
def app(settings: Settings, built: FastAPI) -> Iterator[FastAPI]:
    """The app on this test's database, with its pool closed at the end."""
    if settings != built.state.settings.model_copy(update={"database_url": settings.database_url}):
        app = create_app(settings)
        yield app
        app.state.database.close()
        return
    before, routes = dict(built.state._state), list(built.router.routes)
    built.state.settings = settings
    built.state.database = Database(settings.database_url, application_name="marvain web")
    built.state.pace = Pace(settings)
    yield built
    built.state.database.close()
    built.dependency_overrides.clear()
    built.state._state = before
    built.router.routes[:] = routes


@pytest.fixture
async def new_client(app: FastAPI) -> AsyncIterator[NewClient]:
    """Makes clients that behave like a browser on our pages: HTML asked for, Origin sent, no redirects followed."""
    made: list[httpx.AsyncClient] = []

    def make(*, token: str = "", base_url: str = ORIGIN, headers: dict[str, str] | None = None) -> httpx.AsyncClient:
        client = httpx.AsyncClient(
            transport=httpx.ASGITransport(app=app, client=("192.0.2.7", 50_000)),
            base_url=base_url,
            headers={"Accept": "text/html", "Origin": base_url} if headers is None else headers,
            cookies={SESSION_COOKIE: token} if token else None,
        )
        made.append(client)
        return client

    yield make
    for client in made:
        await client.aclose()


@pytest.fixture
def client(new_client: NewClient) -> httpx.AsyncClient:
    """A browser that is not signed in."""
    return new_client()


@pytest.fixture(scope="session")
def password_hash() -> str:
    """Of PASSWORD, made once: it is made to be slow."""
    return passwords.hash_new(PASSWORD)


@pytest.fixture
def make_user(database: Database, password_hash: str) -> MakeUser:
    """Makes users; with a role they belong to the first agent, or to `agent_id`."""

    def make(email: str = "ann@example.org", role: str | None = None, *, agent_id: object = None) -> User:
        with database.transaction() as session:
            user = identity.find_user(session, email) or identity.create_user(session, email)
            if user.password_hash is None:
                user.password_hash = password_hash
                session.add(user)
            if role is not None:
                home = agent_id or identity.ensure_first_agent(session).agent_id
                session.add(AgentMembership(agent_id=home, user_id=user.user_id, role=role))
            return user

    return make


@pytest.fixture
def enter(database: Database) -> Callable[[User], str]:
    """Starts sessions: the token that the user's browser would hold."""

    def start(user: User) -> str:
        with database.transaction() as session:
            known = session.get_one(User, user.user_id)
            return sign_in.start_session(session, known, "192.0.2.7", "Firefox on Linux", datetime.now(UTC))

    return start


@pytest.fixture
def owner_token(make_user: MakeUser, enter: Callable[[User], str]) -> str:
    """The session of ann@example.org, who owns the first agent."""
    return enter(make_user(role="owner"))


@pytest.fixture
def owner(new_client: NewClient, owner_token: str) -> httpx.AsyncClient:
    """The owner's browser."""
    return new_client(token=owner_token)


@pytest.fixture
def served(app: FastAPI) -> Iterator[str]:
    """The app on a port of this machine; its address."""
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_config=None, ws="websockets-sansio"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    started = threading.Event()
    while not server.started:
        assert thread.is_alive()
        started.wait(0.02)
    port = server.servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(10)
