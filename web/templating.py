"""Templates: escaping always on, and what every page's frame needs (who is here, which agent, where one can go)."""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import quote, urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from web.assets import Assets

TOAST_COOKIE = "marvain_toast"
_ROLES: Final = ("guest", "member", "admin", "owner")


@dataclass(frozen=True)
class Entry:
    """One line of the navigation; `icon` is a name in templates/icons.html. `lowest` is the role that sees it."""

    label: str
    path: str
    icon: str
    lowest: Literal["guest", "member", "admin"] = "guest"


# A further page of the product is one line here.
NAVIGATION = (
    Entry("Devices", "/devices", "device"),
    Entry("Remotes", "/remotes", "remote"),
    Entry("Events", "/events", "event"),
    Entry("Actions", "/actions", "action", "member"),
    Entry("Spaces", "/spaces", "space"),
    Entry("People", "/people", "people", "member"),
    Entry("Access", "/access", "shield", "member"),
    Entry("Integrations", "/integrations", "key", "member"),
    Entry("Audit", "/audit", "clock", "member"),
    Entry("Dead letters", "/dead-letters", "alert", "admin"),
)


def _iso(at: datetime | None) -> str:
    """A time as RFC 3339 in UTC, for `datetime` attributes; "" for none."""
    return "" if at is None else at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _browser(user_agent: str) -> str:
    """A user agent in a few words ("Firefox on Linux"); its beginning where it is none that we know."""
    # In this order: they all claim to be Safari, and most claim to be Chrome.
    browsers = {"Edg": "Edge", "OPR/": "Opera", "Firefox/": "Firefox", "Chrome/": "Chrome", "Safari/": "Safari"}
    systems = {
        "Android": "Android",
        "iPhone": "iPhone",
        "iPad": "iPad",
        "Windows": "Windows",
        "Mac OS": "macOS",
        "CrOS": "ChromeOS",
        "Linux": "Linux",
    }
    browser = next((name for sign, name in browsers.items() if sign in user_agent), "")
    system = next((name for sign, name in systems.items() if sign in user_agent), "")
    return f"{browser} on {system}" if browser and system else browser or user_agent[:40] or "unknown"


def build_environment(assets: Assets) -> Environment:
    """The one Jinja environment: every template is escaped, whatever its name, and a missing name is an error."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(asset=assets.url)
    environment.filters.update(iso=_iso, browser=_browser)
    return environment


def local_url(request: Request, path: str, **query: Any) -> str:
    """A local address that keeps to the agent being looked at, where there is more than one to choose from."""
    current = getattr(request.state, "agent", None)
    if current is not None and len(current.choices) > 1:
        query.setdefault("agent", current.agent_id)
    return f"{path}?{urlencode(query)}" if query else path


def render(request: Request, name: str, *, status_code: int = 200, **context: Any) -> HTMLResponse:
    """A page or a fragment; the frame's values come from what the request's dependencies found out."""
    environment: Environment = request.app.state.templates
    state = request.state
    visitor = getattr(state, "visitor", None)
    current = getattr(state, "agent", None)

    def url(path: str, **query: Any) -> str:
        return local_url(request, path, **query)

    role = "guest" if current is None else current.role
    frame = {
        "request": request,
        "visitor": visitor,
        "current": current,
        "url": url,
        "navigation": [entry for entry in NAVIGATION if _ROLES.index(entry.lowest) <= _ROLES.index(role)],
    }
    html = environment.get_template(name).render(frame | context)
    return HTMLResponse(html, status_code=status_code)


def toast(response: Response, message: str, *, level: str = "info") -> Response:
    """Let the page that htmx patches show `message` beside what it shows; level: info | good | error."""
    response.headers["HX-Trigger"] = json.dumps({"marvain:toast": {"message": message, "level": level}})
    return response


def redirect(request: Request, path: str, *, message: str = "", level: str = "good") -> Response:
    """Go to a local page (303, or HX-Redirect for htmx); `message` is shown there once, as a toast."""
    response: Response
    if request.headers.get("hx-request") == "true":
        response = Response(status_code=204, headers={"HX-Redirect": path})
    else:
        response = RedirectResponse(path, status_code=303)
    if message:
        # Read and removed by toast.js, which shows it as text; nothing is kept on this side for it.
        value = quote(json.dumps({"message": message, "level": level}))
        response.set_cookie(TOAST_COOKIE, value, max_age=60, samesite="lax", path="/")
    return response


def local_path(candidate: str, default: str = "/") -> str:
    """`candidate` when it is a path on this very site, else `default`: a sign-in never sends anyone elsewhere."""
    if not candidate.startswith("/") or candidate.startswith("//"):
        return default
    # Browsers read a backslash as a slash and drop tabs and line ends, so "/\\evil" and "/\t/evil" would leave.
    if "\\" in candidate or any(ord(letter) < 0x21 or ord(letter) == 0x7F for letter in candidate):
        return default
    return candidate
