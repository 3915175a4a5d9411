"""The description of the HTTP interface as OpenAPI 3.1, of the routes below /v1 and /api alone."""

from typing import Any, Final

from fastapi import APIRouter, FastAPI, Request
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse
from fastapi.routing import RouteContext, iter_route_contexts

from web.api.problems import ProblemBody

PREFIXES: Final = ("/v1/", "/api/")
ABOUT: Final = """What devices and people's scripts use. `/v1` is for both, `/api` for people.

Send a token as `Authorization: Bearer …`: a device's, or a personal one from the account page. A page in a browser that
is signed in needs none. Refusals are problem JSON (RFC 9457). A POST that creates something takes an `Idempotency-Key`.
People who belong to several agents say which is meant with `?agent=`."""

router = APIRouter()


@router.get("/api/openapi.json", include_in_schema=False)
def openapi(request: Request) -> JSONResponse:
    """The description itself; it is no secret."""
    return JSONResponse(describe(request.app))


def describe(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document of this app."""
    document = get_openapi(title="Marvain", version="1", description=ABOUT, routes=api_routes(app))
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    schemas["ProblemBody"] = ProblemBody.model_json_schema(ref_template="#/components/schemas/{model}")
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    return document


def api_routes(app: FastAPI) -> list[RouteContext]:
    """The routes that are described, in their order."""
    routes = [one for one in iter_route_contexts(app.routes) if (one.path or "").startswith(PREFIXES)]
    return [one for one in routes if one.include_in_schema]
