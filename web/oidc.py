"""Sign-in by an OpenID Connect provider: to it, and back from it. Passwords go on working whatever becomes of it."""

from urllib.parse import urlsplit

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.responses import RedirectResponse

from hub import foreign_identities, identity, sign_in
from hub.database import Database
from hub.errors import Forbidden, Invalid, NotFound, Throttled
from hub.settings import Settings
from web.dependencies import Now, WebSettings
from web.oidc_provider import Provider, ProviderAway
from web.security import is_secure, session_cookie_name, set_session_cookie
from web.templating import local_path, redirect, render

router = APIRouter(include_in_schema=False)
OIDC_COOKIE = "marvain_oidc"
_START = "/devices"
_CALLBACK = "/sign-in/oidc/callback"


def install(app: FastAPI) -> None:
    """Give the app its provider, and the sign-in page the button; raises `Invalid` for settings that cannot be."""
    settings: Settings = app.state.settings
    configured = bool(settings.oidc_issuer)
    if configured:
        _check(settings)
    app.state.oidc = Provider(settings) if configured else None
    app.state.templates.globals["oidc_label"] = settings.oidc_label if configured else ""


@router.get("/sign-in/oidc")
def start(request: Request, settings: WebSettings, now: Now, next: str = "") -> Response:  # noqa: A002
    """Off to the provider, with what the way back is told by in a cookie."""
    provider, database = _provider(request), _database(request)
    scheme = "https" if is_secure(request, settings) else "http"
    redirect_uri = f"{scheme}://{request.headers.get('host', '')}{_CALLBACK}"
    behind = local_path(next, _START)
    try:
        with database.transaction() as session:
            begun = foreign_identities.begin(session, redirect_uri, behind, now)
        address = provider.address(begun, redirect_uri)
    except (ProviderAway, Throttled) as error:
        return _back(request, behind, error.message, 503)
    response = RedirectResponse(address, status_code=303)
    response.set_cookie(
        _cookie_name(request, settings),
        begun.token,
        max_age=int(foreign_identities.LIFETIME.total_seconds()),
        path="/",
        secure=is_secure(request, settings),
        httponly=True,
        samesite="lax",
    )
    return response


@router.get(_CALLBACK)
def callback(
    request: Request,
    settings: WebSettings,
    now: Now,
    state: str = "",
    code: str = "",
    error: str = "",
) -> Response:
    """Back from the provider: a session, or the sign-in page with what was wrong."""
    response = _come_back(request, settings, now, state, code, error)
    response.delete_cookie(
        _cookie_name(request, settings),
        path="/",
        secure=is_secure(request, settings),
        httponly=True,
        samesite="lax",
    )
    return response


def _come_back(request: Request, settings: Settings, now: Now, state: str, code: str, error: str) -> Response:
    provider, database = _provider(request), _database(request)
    # Used up in a transaction of its own: whatever comes next, this answer counts once.
    with database.transaction() as session:
        token = request.cookies.get(_cookie_name(request, settings), "")
        under_way = foreign_identities.take(session, token, state, now)
    if under_way is None:
        return _back(request, _START, "This sign-in did not begin in this browser, or took too long. Try again.", 400)
    if error or not code:
        return _back(
            request, under_way.behind, "The provider did not sign you in. Try again, or use your password.", 401
        )
    try:
        # No transaction is open while the provider is waited for.
        claims = provider.claims(code, under_way, now)
        with database.transaction() as session:
            user = foreign_identities.user_of(session, claims, now)
            before = sign_in.resume(session, request.cookies.get(session_cookie_name(request, settings), ""), now)
            if before is not None:
                sign_in.sign_out(session, before.session_id)
            address = request.client.host if request.client is not None else ""
            browser = request.headers.get("user-agent", "")
            started = sign_in.start_session(session, user, address, browser, now, way=claims.issuer)
    except Forbidden as refused:
        return _back(request, under_way.behind, refused.message, 403)
    except ProviderAway as away:
        return _back(request, under_way.behind, away.message, 503)
    response = redirect(request, under_way.behind)
    set_session_cookie(response, request, settings, started)
    return response


def _check(settings: Settings) -> None:
    parts = urlsplit(settings.oidc_issuer)
    is_near = parts.hostname in {"localhost", "127.0.0.1", "::1"}
    if not parts.hostname or (parts.scheme != "https" and not (parts.scheme == "http" and is_near)):
        raise Invalid("MARVAIN_OIDC_ISSUER is an https:// address (http:// on this machine alone)", field="oidc_issuer")
    if not settings.oidc_client_id:
        raise Invalid("MARVAIN_OIDC_ISSUER is set without MARVAIN_OIDC_CLIENT_ID", field="oidc_client_id")


def _provider(request: Request) -> Provider:
    provider: Provider | None = request.app.state.oidc
    if provider is None:
        raise NotFound("Sign-in by OpenID Connect is not set up on this hub.")
    return provider


def _database(request: Request) -> Database:
    database: Database = request.app.state.database
    return database


def _cookie_name(request: Request, settings: Settings) -> str:
    return f"__Host-{OIDC_COOKIE}" if is_secure(request, settings) else OIDC_COOKIE


def _back(request: Request, behind: str, problem: str, status_code: int) -> Response:
    with _database(request).transaction() as session:
        waiting = not identity.has_owner(session)
    shown = {"behind": behind, "email": "", "problem": problem, "waiting": waiting}
    return render(request, "sign_in.html", status_code=status_code, **shown)
