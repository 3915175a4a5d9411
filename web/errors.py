"""The one place where a refusal becomes an HTTP answer: a page for people, a toast for htmx, problem JSON for the rest.

Problem JSON is RFC 9457's: type, title, status, detail, and `field` where one input is meant. No answer ever holds a
trace; an unexpected fault shows a reference that stands in the log beside the trace.
"""

import secrets
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import quote, urlsplit

import structlog
from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import DataError, DBAPIError, IntegrityError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from hub.errors import Conflict, Forbidden, HubError, Invalid, NotFound, Throttled, Unauthenticated
from web.templating import local_path, render, toast

log = structlog.get_logger(__name__)

_STATUS: dict[type[HubError], int] = {
    Invalid: 422,
    Unauthenticated: 401,
    Forbidden: 403,
    NotFound: 404,
    Conflict: 409,
    Throttled: 429,
}
_HINTS = {
    401: "Sign in and try again.",
    403: "Ask an owner or admin of the agent if you need this.",
    404: "It may have been removed, or it belongs to an agent that you are not a member of.",
    409: "Something changed in the meantime. Look at the page again, then decide.",
    429: "Wait a little, then try again.",
    500: "Nothing that you typed was saved. Try again; if it happens again, look for the reference in the hub's log.",
    503: "The hub's database is not reachable right now. This page works again as soon as it is back.",
}


@dataclass(frozen=True)
class Problem:
    """What went wrong, in the words for the person who asked."""

    status: int
    detail: str
    field: str | None = None
    retry_after_s: float | None = None
    reference: str = ""

    @property
    def title(self) -> str:
        """The status in words."""
        try:
            return HTTPStatus(self.status).phrase
        except ValueError:
            return "Error"


def describe(error: Exception) -> Problem:
    """The problem that an exception stands for; what nobody foresaw is logged and becomes a bare 500."""
    if isinstance(error, HubError):
        status = next((code for kind, code in _STATUS.items() if isinstance(error, kind)), 400)
        return Problem(status, error.message, error.field, getattr(error, "retry_after_s", None))
    if isinstance(error, RequestValidationError):
        return _describe_validation(error)
    if isinstance(error, HTTPException):
        detail = {404: "There is nothing at this address.", 405: "This address does not answer that method."}
        return Problem(error.status_code, detail.get(error.status_code, str(error.detail)))
    if isinstance(error, DataError):
        return Problem(422, "A value holds characters or a size that cannot be stored.")
    if isinstance(error, IntegrityError):
        # A constraint caught what two requests at once got past; the name helps whoever reads the log.
        log.info("web.constraint", constraint=getattr(getattr(error.orig, "diag", None), "constraint_name", None))
        return Problem(409, "Somebody else changed this at the same moment.")
    away = isinstance(error, OperationalError | InterfaceError | PoolTimeoutError)
    if away or (isinstance(error, DBAPIError) and error.connection_invalidated):
        log.warning("web.database_away", error=type(error).__name__)
        return Problem(503, "The database did not answer.", retry_after_s=2)
    reference = secrets.token_hex(4)
    log.error("web.fault", reference=reference, exc_info=error)
    return Problem(500, "Something went wrong on this side.", reference=reference)


def answer(request: Request, error: Exception) -> Response:
    """The whole answer to a request that ended in `error`."""
    problem = describe(error)
    response = _answer(request, problem)
    if problem.retry_after_s is not None:
        response.headers["Retry-After"] = str(max(1, round(problem.retry_after_s)))
    response.headers["Cache-Control"] = "no-store"
    return response


def _answer(request: Request, problem: Problem) -> Response:
    if request.headers.get("hx-request") == "true":
        if problem.status == HTTPStatus.UNAUTHORIZED:
            return Response(status_code=401, headers={"HX-Redirect": _sign_in_url(_page_behind(request))})
        response = Response(status_code=problem.status, headers={"HX-Reswap": "none"})
        return toast(response, problem.detail, level="error")
    is_api = request.scope["path"].startswith(("/v1/", "/api/"))
    if not is_api and "text/html" in request.headers.get("accept", ""):
        if problem.status == HTTPStatus.UNAUTHORIZED:
            return RedirectResponse(_sign_in_url(_page_behind(request)), status_code=303)
        hint = _HINTS.get(problem.status, "")
        return render(request, "error.html", status_code=problem.status, problem=problem, hint=hint)
    body: dict[str, object] = {
        "type": "about:blank",
        "title": problem.title,
        "status": problem.status,
        "detail": problem.detail,
    }
    if problem.field:
        body["field"] = problem.field
    if problem.reference:
        body["reference"] = problem.reference
    headers = {"WWW-Authenticate": "Bearer"} if problem.status == HTTPStatus.UNAUTHORIZED else None
    return JSONResponse(body, status_code=problem.status, media_type="application/problem+json", headers=headers)


def _page_behind(request: Request) -> str:
    """The page that a person was on: the address asked for, or the one whose form or script asked."""
    if request.method in {"GET", "HEAD"} and request.headers.get("hx-request") != "true":
        query = request.scope["query_string"].decode("latin-1")
        return str(request.scope["path"]) + (f"?{query}" if query else "")
    try:
        behind = urlsplit(request.headers.get("hx-current-url") or request.headers.get("referer") or "/")
    except ValueError:
        return "/"
    return local_path(behind.path + (f"?{behind.query}" if behind.query else ""))


def _sign_in_url(behind: str) -> str:
    return "/sign-in" if behind in {"", "/"} else f"/sign-in?next={quote(behind, safe='/')}"


def _describe_validation(error: RequestValidationError) -> Problem:
    first = error.errors()[0]
    # ("body", "name") or ("body", 12) where the JSON itself is broken; only names are worth saying.
    field = next((part for part in reversed(first.get("loc", ())) if isinstance(part, str)), "")
    if field in {"", "body", "query", "path"}:
        return Problem(422, f"The request is not understood: {first.get('msg', 'it is malformed')}.")
    return Problem(422, f"{field}: {first.get('msg', 'it is malformed')}.", field)


def install(app: FastAPI) -> None:
    """Translate all errors of `app`; what no handler catches is caught by `web.security.Guard`, with the same words."""

    def handle(request: Request, error: Exception) -> Response:
        return answer(request, error)

    for kind in (HubError, HTTPException, RequestValidationError, DBAPIError, PoolTimeoutError):
        app.add_exception_handler(kind, handle)
