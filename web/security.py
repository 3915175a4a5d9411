"""The outermost layer of HTTP: who may send what from where, what browsers may do with our pages, and no bare faults.

Cross-site requests. The session cookie is SameSite=Lax; beyond that every unsafe method must show where it comes from:
`Sec-Fetch-Site` (same-origin or none) when the browser sends it, and `Origin` with the host that was asked for. Plain
HTTP from another machine has no Sec-Fetch-Site, so Origin counts there. A request with neither is no browser's: it is
let through only without our cookie, since without it there is nothing to misuse. The same holds for WebSockets.
"""

import ipaddress
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hub.errors import Forbidden
from hub.settings import Settings
from hub.sign_in import SESSION_IDLE
from web.errors import answer

SESSION_COOKIE = "marvain_session"
AGENT_COOKIE = "marvain_agent"
MAX_BODY = 1_048_576
_SAFE_METHODS = {"GET", "HEAD", "OPTIONS", "TRACE"}

# connect-src 'self' covers WebSockets to this host and port as well.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; "
    "script-src 'self'; "
    "style-src 'self'; "
    "img-src 'self' data:; "
    "font-src 'self'; "
    "manifest-src 'self'; "
    "connect-src 'self'; "
    "form-action 'self'; "
    "base-uri 'none'; "
    "frame-ancestors 'none'; "
    "object-src 'none'"
)
_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # Not "no-referrer": browsers would then send "Origin: null" with our own forms.
    "Referrer-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=(), payment=(), usb=(), serial=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def is_secure(connection: HTTPConnection, settings: Settings) -> bool:
    """Whether cookies of this connection are for TLS alone."""
    if settings.secure_cookies is not None:
        return settings.secure_cookies
    # Not `connection.url`: that is put together from the Host header, which may be anything.
    return connection.scope["scheme"] in {"https", "wss"}


def came_in_clear(connection: HTTPConnection) -> bool:
    """Whether others in the network could read what is sent and answered: plain HTTP from another machine.

    What a proxy passes on counts as it reached the proxy; one that is not declared makes everybody look local, and
    gives itself away by the headers it adds.
    """
    if connection.scope["scheme"] in {"https", "wss"}:
        return False
    try:
        is_local = ipaddress.ip_address(connection.client.host if connection.client else "").is_loopback
    except ValueError:
        is_local = False
    return not is_local or any(name in connection.headers for name in ("forwarded", "x-forwarded-for", "x-real-ip"))


def session_cookie_name(connection: HTTPConnection, settings: Settings) -> str:
    """The prefix binds the cookie to this very host: no neighbour under the same domain can plant one."""
    return f"__Host-{SESSION_COOKIE}" if is_secure(connection, settings) else SESSION_COOKIE


def set_session_cookie(response: Response, connection: HTTPConnection, settings: Settings, token: str) -> None:
    """Keep the browser signed in until it has been idle for `SESSION_IDLE`."""
    response.set_cookie(
        session_cookie_name(connection, settings),
        token,
        max_age=int(SESSION_IDLE.total_seconds()),
        path="/",
        secure=is_secure(connection, settings),
        httponly=True,
        samesite="lax",
    )


def forget_session_cookie(response: Response, connection: HTTPConnection, settings: Settings) -> None:
    """Remove it, with the same attributes, as browsers ask for `__Host-` cookies."""
    response.delete_cookie(
        session_cookie_name(connection, settings),
        path="/",
        secure=is_secure(connection, settings),
        httponly=True,
        samesite="lax",
    )


def host_of(url: str) -> str:
    """Host and port of an address that somebody sent, in lower case; "" when it has none or is none."""
    try:
        return urlsplit(url).netloc.lower()
    except ValueError:
        return ""


def refusal(headers: Headers, *, has_session: bool) -> str | None:
    """Why a request that changes something is refused for where it comes from; None when it is fine."""
    site = headers.get("sec-fetch-site")
    origin = headers.get("origin")
    if site is not None and site not in {"same-origin", "none"}:
        return "another site sent this"
    if origin is not None and host_of(origin) != headers.get("host", "").lower():
        return "its Origin is not this site"
    if site is None and origin is None and has_session:
        return "it does not say where it comes from (Origin)"
    return None


# A page has some thirty files; what only matters for documents would weigh more there than some of the files.
_FILE_HEADERS = {name: _HEADERS[name] for name in ("X-Content-Type-Options", "Cross-Origin-Resource-Policy")}


class Guard:
    """Wraps the whole app: origin check, body limit, security headers, rolling cookie, and the last catch of faults."""

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._settings = settings

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        connection = HTTPConnection(scope)
        unsafe = scope["type"] == "websocket" or scope["method"] not in _SAFE_METHODS
        has_session = session_cookie_name(connection, self._settings) in connection.cookies
        reason = refusal(connection.headers, has_session=has_session) if unsafe else None
        if scope["type"] == "websocket":
            if reason is None:
                await self._app(scope, receive, send)
            else:
                # Before it is accepted, so the handshake itself is answered with 403.
                await receive()
                await send({"type": "websocket.close", "code": 1008, "reason": reason})
            return
        await self._http(scope, receive, send, reason)

    async def _http(self, scope: Scope, receive: Receive, send: Send, reason: str | None) -> None:
        request = Request(scope, receive)
        started = False

        async def send_guarded(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                self._add_headers(request, message)
            await send(message)

        if reason is not None:
            refused = Forbidden(f"This request was refused because {reason}.")
            await answer(request, refused)(scope, receive, send_guarded)
            return
        try:
            await self._app(scope, _limited(request, receive), send_guarded)
        except Exception as error:  # the last catch: a fault must not leave as a trace or a cut connection
            if started:
                raise
            await answer(request, error)(scope, receive, send_guarded)

    def _add_headers(self, request: Request, message: Message) -> None:
        headers = MutableHeaders(scope=message)
        is_file = request.scope["path"].startswith("/static/")
        for name, value in (_FILE_HEADERS if is_file else _HEADERS).items():
            headers.setdefault(name, value)
        headers.setdefault("Cache-Control", "no-store")
        if request.scope["scheme"] == "https":
            headers.setdefault("Strict-Transport-Security", "max-age=31536000")
        token = getattr(request.state, "renewed_token", None)
        # A sign-out in the same request has set the cookie itself; it wins.
        if token and not any(SESSION_COOKIE in cookie for cookie in headers.getlist("set-cookie")):
            carrier = Response()
            set_session_cookie(carrier, request, self._settings, token)
            headers.append("set-cookie", carrier.headers["set-cookie"])
        agent_id = getattr(request.state, "remember_agent", None)
        if agent_id:
            carrier = Response()
            carrier.set_cookie(AGENT_COOKIE, agent_id, max_age=31_536_000, path="/", httponly=True, samesite="lax")
            headers.append("set-cookie", carrier.headers["set-cookie"])


def _limited(request: Request, receive: Receive) -> Receive:
    """`receive` that counts; also catches what lies about its length or does not tell it."""
    declared = request.headers.get("content-length", "0")
    if not declared.isdecimal():
        raise HTTPException(400, "Content-Length is not a number.")
    if int(declared) > MAX_BODY:
        raise HTTPException(413, f"The request is larger than {MAX_BODY} bytes.")
    received = 0

    async def counted() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > MAX_BODY:
            raise HTTPException(413, f"The request is larger than {MAX_BODY} bytes.")
        return message

    return counted
