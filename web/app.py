"""The web app: one object per process, made from settings."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request, Response
from fastapi.responses import RedirectResponse
from starlette.middleware.gzip import GZipMiddleware

from hub.database import Database
from hub.settings import Settings
from web import api, errors, live, login, oidc
from web.api.pace import Pace
from web.assets import Assets
from web.pages import (
    access_denials,
    access_history,
    access_overview,
    access_roles,
    access_scopes,
    access_sessions,
    access_try,
    account_tokens,
    actions,
    agent_retention,
    agents,
    audit,
    automations,
    batches,
    dead_letters,
    device_commands,
    device_config,
    device_page,
    device_proxy,
    device_tags,
    device_telemetry,
    devices,
    enrolment,
    events,
    integration_roles,
    integrations,
    join,
    people,
    policies,
    remotes,
    spaces,
    tools,
)
from web.security import Guard
from web.templating import build_environment


def create_app(settings: Settings) -> FastAPI:
    """Everything that answers HTTP; owns one connection pool, closed when the app shuts down."""
    database = Database(settings.database_url, application_name="marvain web")

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        database.close()

    app = FastAPI(
        title="Marvain", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False
    )
    assets = Assets()
    app.state.settings = settings
    app.state.database = database
    app.state.assets = assets
    app.state.templates = build_environment(assets)
    app.state.pace = Pace(settings)
    oidc.install(app)
    errors.install(app)

    @app.get("/")
    def home() -> Response:
        return RedirectResponse("/devices", status_code=303)

    @app.get("/healthz")
    def health() -> dict[str, str]:
        """That this process answers; says nothing of the parts behind it."""
        return {"status": "ok"}

    @app.api_route("/static/{build}/{name:path}", methods=["GET", "HEAD"])
    def static(request: Request, build: str, name: str) -> Response:
        return assets.answer(request, build, name)

    @app.get("/favicon.ico")
    def favicon(request: Request) -> Response:
        return assets.answer(request, "", "img/logo.svg")

    app.include_router(login.router)
    app.include_router(oidc.router)
    app.include_router(account_tokens.router)
    app.include_router(live.router)
    # Before the devices: "claim" is no device's id.
    app.include_router(enrolment.router)
    app.include_router(enrolment.public)
    app.include_router(devices.router)
    app.include_router(device_telemetry.router)
    app.include_router(device_proxy.router)
    app.include_router(remotes.router)
    app.include_router(events.router)
    app.include_router(actions.router)
    app.include_router(tools.router)
    app.include_router(automations.router)
    app.include_router(policies.router)
    for page in (access_overview, access_roles, access_scopes, access_try, access_denials, access_sessions):
        app.include_router(page.router)
    for page in (device_tags, device_commands, device_config, batches):
        app.include_router(page.router)
    # Behind all that have a name of their own below /devices.
    app.include_router(device_page.router)
    app.include_router(access_history.router)
    app.include_router(spaces.router)
    app.include_router(people.router)
    app.include_router(join.router)
    app.include_router(agents.router)
    app.include_router(agent_retention.router)
    app.include_router(audit.router)
    app.include_router(dead_letters.router)
    app.include_router(integrations.router)
    app.include_router(integration_roles.router)
    app.include_router(api.router)

    # The last one added is the outermost: the guard sees everything first and its headers stand on every answer.
    app.add_middleware(GZipMiddleware, minimum_size=1024, compresslevel=5)
    app.add_middleware(Guard, settings=settings)
    return app
