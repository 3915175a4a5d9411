"""Arguments with places for facts: `{{event.payload.angle}}`. A tiny closed grammar; what devices say is data."""

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

from hub.errors import Invalid

PLACES_MAX: Final = 50
TEXT_MAX: Final = 8_000
_PLACE: Final = re.compile(r"\{\{\s*([A-Za-z0-9_.-]{1,200})\s*\}\}")
ROOTS: Final = ("event", "device", "presence", "telemetry", "time", "automation")


class Missing(Exception):
    """A place names a fact that is not there; the message says which."""


def places(template: Any) -> Iterator[str]:
    """The paths that a template names."""
    if isinstance(template, str):
        yield from _PLACE.findall(template)
    elif isinstance(template, Mapping):
        for value in template.values():
            yield from places(value)
    elif isinstance(template, list):
        for value in template:
            yield from places(value)


def check(template: Mapping[str, Any], field: str) -> None:
    """Raises `Invalid` for braces that are no place, or places of which nothing can ever be known."""
    found = list(places(template))
    if len(found) > PLACES_MAX:
        raise Invalid(f"have at most {PLACES_MAX} places", field=field)
    for path in found:
        if path.partition(".")[0] not in ROOTS:
            raise Invalid(f"{{{{{path}}}}} begins with none of {', '.join(ROOTS)}", field=field)
    for text in _texts(template):
        if "{{" in _PLACE.sub("", text) or "}}" in _PLACE.sub("", text):
            raise Invalid("has braces that are no place, as in {{event.payload.angle}}", field=field)


def fill(template: Any, facts: Mapping[str, Any]) -> Any:
    """The template with its places filled. A text that is one place alone keeps the type of its fact.

    Raises `Missing`.
    """
    if isinstance(template, str):
        whole = _PLACE.fullmatch(template.strip())
        if whole is not None:
            return look_up(facts, whole[1])
        filled = _PLACE.sub(lambda found: _as_text(look_up(facts, found[1])), template)
        return filled if len(filled) <= TEXT_MAX else filled[:TEXT_MAX]
    if isinstance(template, Mapping):
        return {name: fill(value, facts) for name, value in template.items()}
    if isinstance(template, list):
        return [fill(value, facts) for value in template]
    return template


def fill_args(args: Mapping[str, Any], facts: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a tool with their places filled: a number becomes a text where the tool takes a text.

    Raises `Missing`.
    """
    properties = schema.get("properties", {})
    filled: dict[str, Any] = {}
    for name, value in args.items():
        found = fill(value, facts)
        is_text = isinstance(properties.get(name), Mapping) and properties[name].get("type") == "string"
        filled[name] = _as_text(found) if is_text and isinstance(found, int | float) else found
    return filled


def look_up(facts: Mapping[str, Any], path: str) -> Any:
    """The fact at the end of a path; raises `Missing`."""
    here: Any = facts
    for level in path.split("."):
        if isinstance(here, Mapping) and level in here:
            here = here[level]
        elif isinstance(here, list) and level.isascii() and level.isdigit() and int(level) < len(here):
            here = here[int(level)]
        else:
            raise Missing(f"there is no {path}")
    return here


def _as_text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value) if isinstance(value, str | int | float) else "…"


def _texts(template: Any) -> Iterator[str]:
    if isinstance(template, str):
        yield template
    elif isinstance(template, Mapping):
        for value in template.values():
            yield from _texts(value)
    elif isinstance(template, list):
        for value in template:
            yield from _texts(value)
