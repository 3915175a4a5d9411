"""The HTTP door for brokers that ask over HTTP: EMQX 5, and Mosquitto with the mosquitto-go-auth plugin.

An internal address and a shared secret guard it. Every answer is an explicit allow or deny. The formats are those of
EMQX's HTTP authenticator and authorizer and of mosquitto-go-auth's HTTP back-end.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any, Final, TypeVar
from urllib.parse import parse_qs

import msgspec
import structlog
import uvicorn
from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.responses import JSONResponse

from broker.emqx import emqx_rules
from broker.http_door import Door
from hub.access.decide import Decision
from hub.access.denials import Refusable
from hub.settings import Settings

log = structlog.get_logger(__name__)

MAX_BODY_BYTES: Final = 64 * 1024

# What mosquitto-go-auth asks for, by Mosquitto's own numbers: read, write, both, subscribe.
READ: Final = 1
_VERBS: Final = {READ: ["receive"], 2: ["publish"], 3: ["receive", "publish"], 4: ["subscribe"]}

routes = APIRouter()


class Login(msgspec.Struct):
    """A client that wants in. The client id has to be the username, so it must be sent along."""

    username: str
    password: str
    clientid: str


class EmqxQuestion(msgspec.Struct):
    """A client of EMQX wants to publish or to subscribe."""

    username: str
    clientid: str
    action: str
    topic: str


class GoAuthQuestion(msgspec.Struct):
    """A client of Mosquitto is to read, write or subscribe; `acc` is 1, 2, 3 (both) or 4."""

    username: str
    clientid: str
    topic: str
    acc: int


Q = TypeVar("Q", bound=msgspec.Struct)


def _door(request: Request) -> Door:
    door: Door = request.app.state.door
    return door


TheDoor = Annotated[Door, Depends(_door)]


@routes.post("/emqx/authentication")
async def emqx_authentication(request: Request, door: TheDoor) -> JSONResponse:
    """Whether the client may connect; each of its acts is then to be asked for at /emqx/authorization."""
    return await _emqx_login(door, request, with_acl=False)


@routes.post("/emqx/authentication-with-acl")
async def emqx_authentication_with_acl(request: Request, door: TheDoor) -> JSONResponse:
    """The same with all its grants: faster, and an edit reaches the client only when it connects again."""
    return await _emqx_login(door, request, with_acl=True)


@routes.post("/emqx/authorization")
async def emqx_authorization(request: Request, door: TheDoor) -> JSONResponse:
    """Whether the client may publish or subscribe there."""
    asked = await _read(door, request, EmqxQuestion)
    if isinstance(asked, str) or asked.action not in {"publish", "subscribe"}:
        log.info("http_auth.refused", reason=asked if isinstance(asked, str) else "neither publish nor subscribe")
        return JSONResponse({"result": "deny"})
    decision, principal = await door.judge(asked.username, asked.clientid, [asked.action], asked.topic)
    if not decision:
        action: Refusable = "publish" if asked.action == "publish" else "subscribe"
        door.refuse(asked.username, action, asked.topic, decision.reason, stranger=principal is None)
    return JSONResponse({"result": "allow" if decision else "deny"})


@routes.post("/go-auth/user")
async def go_auth_user(request: Request, door: TheDoor) -> JSONResponse:
    """Whether the client may connect."""
    login = await _read(door, request, Login)
    if isinstance(login, str):
        return _go_auth(Decision(False, login))
    decision, _ = await door.admit(login.username, login.password, login.clientid)
    if not decision:
        door.refuse(login.username, "connect", "", decision.reason, stranger=True)
    return _go_auth(decision)


@routes.post("/go-auth/superuser")
async def go_auth_superuser() -> JSONResponse:
    """Nobody is above the grants."""
    return _go_auth(Decision(False, "nobody is above the grants"))


@routes.post("/go-auth/acl")
async def go_auth_acl(request: Request, door: TheDoor) -> JSONResponse:
    """Whether the client may be delivered, publish, or subscribe to this."""
    asked = await _read(door, request, GoAuthQuestion)
    if isinstance(asked, str):
        return _go_auth(Decision(False, asked))
    verbs = _VERBS.get(asked.acc)
    if verbs is None:
        return _go_auth(Decision(False, "acc is none of 1, 2, 3, 4"))
    decision, principal = await door.judge(asked.username, asked.clientid, verbs, asked.topic)
    # Deliveries that a client may not read are everyday business of a wildcard; only what it asked for counts.
    if not decision and asked.acc != READ:
        action: Refusable = "subscribe" if asked.acc == 4 else "publish"
        door.refuse(asked.username, action, asked.topic, decision.reason, stranger=principal is None)
    return _go_auth(decision)


@routes.get("/ready")
async def ready() -> JSONResponse:
    """For whoever waits for the door to open."""
    return JSONResponse({"ok": True})


def create_app(settings: Settings) -> FastAPI:
    """The ASGI app; raises `Invalid` when there is no shared secret, or one that is too short."""
    door = Door(settings)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        try:
            await door.open()
            yield
        finally:
            await door.close()

    app = FastAPI(title="Marvain HTTP auth", docs_url=None, redoc_url=None, openapi_url=None, lifespan=lifespan)
    app.state.door = door
    app.include_router(routes)
    return app


async def _emqx_login(door: Door, request: Request, *, with_acl: bool) -> JSONResponse:
    login = await _read(door, request, Login)
    if isinstance(login, str):
        log.info("http_auth.refused", reason=login)
        return JSONResponse({"result": "deny"})
    decision, principal = await door.admit(login.username, login.password, login.clientid)
    if not decision or principal is None:
        door.refuse(login.username, "connect", "", decision.reason, stranger=True)
        return JSONResponse({"result": "deny"})
    answer: dict[str, Any] = {"result": "allow", "is_superuser": False}
    if principal.expires_at is not None:
        answer["expire_at"] = int(principal.expires_at.timestamp())
    if with_acl:
        answer["acl"] = list(emqx_rules(principal.grants))
    return JSONResponse(answer)


def _go_auth(decision: Decision) -> JSONResponse:
    """Both the status and the body say it, for the plugin's modes `status` and `json`."""
    body = {"ok": decision.allowed, "error": "" if decision else decision.reason}
    return JSONResponse(body, status_code=200 if decision else 403)


async def _read(door: Door, request: Request, kind: type[Q]) -> Q | str:
    """What was asked, as JSON or as a form; else why it cannot be answered."""
    if not door.is_open_to(request.headers.get("authorization", "")):
        return "the shared secret is missing or wrong"
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            return f"more than {MAX_BODY_BYTES} bytes"
    try:
        if request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
            fields = parse_qs(body.decode(), keep_blank_values=True, strict_parsing=True, max_num_fields=20)
            return msgspec.convert({name: values[0] for name, values in fields.items()}, kind, strict=False)
        return msgspec.json.decode(bytes(body), type=kind)
    except (msgspec.MsgspecError, ValueError, RecursionError) as error:
        return f"not the question that is answered here: {str(error)[:200]}"


class _Server(uvicorn.Server):
    """uvicorn that leaves the signals to its caller and says in our log when it is ready."""

    async def startup(self, sockets: Any = None) -> None:
        """Open the port, then say so."""
        await super().startup(sockets)
        if self.started:
            log.info("http_auth.ready", host=self.config.host, port=self.config.port)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave them alone."""
        yield


async def serve(settings: Settings, stop: asyncio.Event) -> None:
    """Answer until `stop` is set; raises `Invalid`, or OSError when it cannot start."""
    app = create_app(settings)
    # Its access log would hold nothing but addresses; what matters is recorded as denials.
    config = uvicorn.Config(
        app, host=settings.http_auth_host, port=settings.http_auth_port, log_config=None, access_log=False
    )
    server = _Server(config)
    serving = asyncio.create_task(server.serve())
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    server.should_exit = True
    await serving
    if not stop.is_set():
        raise OSError(f"cannot answer at {settings.http_auth_host}:{settings.http_auth_port}")
