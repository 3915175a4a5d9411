"""Writes what the code says of itself: the wire (protocol.md, asyncapi.json) and HTTP (http.md, openapi.json).

`--check` only compares.
"""

import argparse
import json
import re
import sys
from functools import cache
from pathlib import Path
from typing import Any, Final

import msgspec
from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.routing import RouteContext

from hub.access.permissions import PERMISSIONS
from hub.access.scopes import VOCABULARY
from hub.settings import Settings
from hub_protocol import PROTOCOL_VERSION
from hub_protocol.catalogue import CATALOGUE, FEEDS, Entry
from hub_protocol.topics import DEFAULT_ROOT, HANDLE_PATTERN, LEVEL_PATTERN
from web.api.description import api_routes, describe
from web.app import create_app

DOCS: Final = Path(__file__).parent
_REFERENCE: Final = "#/components/schemas/{name}"
_PLACEHOLDERS: Final = {
    "handle": "the device's name on the wire",
    "type": "what happened, such as door_open",
    "stream": "what is measured, such as temperature",
    "verb": "what to do, such as ping",
    "command_id": "made by the hub, unique",
    "op": "the operation asked for, such as events",
    "request_id": "made by the device; stands in the answer's topic",
    "agent_id": "the agent whose members may listen",
    "feed": "one of " + ", ".join(FEEDS),
    "integration": "the integration's name on the wire",
    "what": "`propose`, or the id of the action that is decided on",
    "which": "the request's id, made by the integration; or `approve` or `reject`",
}


def protocol_page() -> str:
    """The Markdown page: the template with its tables filled in."""
    page = (DOCS / "protocol.in.md").read_text(encoding="utf-8")
    values = {
        "version": str(PROTOCOL_VERSION),
        "level": LEVEL_PATTERN,
        "handle": HANDLE_PATTERN,
        "topics": _topic_table(),
        "feeds": ", ".join(f"`{feed}`" for feed in FEEDS),
        "messages": _message_tables(),
    }
    return _filled(page, values)


def http_page() -> str:
    """The Markdown page on HTTP: the template with its tables filled in."""
    page = (DOCS / "http.in.md").read_text(encoding="utf-8")
    values = {"routes": _route_table(), "permissions": _permission_table(), "scopes": _scope_table()}
    return _filled(page, values)


@cache
def openapi() -> dict[str, Any]:
    """The OpenAPI 3.1 document of /v1 and /api. Nothing is connected to for it."""
    return describe(_app())


@cache
def _app() -> FastAPI:
    return create_app(Settings(database_url="postgresql://nobody@localhost/none"))


def _filled(page: str, values: dict[str, str]) -> str:
    return re.sub(r"\{\{(\w+)\}\}", lambda found: values[found[1]], page)


def asyncapi() -> dict[str, Any]:
    """The AsyncAPI 3.0 document, from the hub's point of view: it receives what devices send."""
    payloads, schemas = _schemas()
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Marvain wire protocol",
            "version": f"{PROTOCOL_VERSION}.0.0",
            "description": f"All channels stand below the root {DEFAULT_ROOT} unless the hub is set up otherwise.",
        },
        "defaultContentType": "application/json",
        "servers": {
            "broker": {
                "host": "localhost:1883",
                "protocol": "mqtt",
                "protocolVersion": "3.1.1",
                "security": [{"$ref": "#/components/securitySchemes/token"}],
            }
        },
        "channels": {entry.kind: _channel(entry) for entry in CATALOGUE},
        "operations": {entry.kind: _operation(entry) for entry in CATALOGUE},
        "components": {
            "messages": {
                entry.kind: {
                    "name": entry.kind,
                    "summary": entry.about,
                    "payload": payload,
                }
                for entry, payload in zip(CATALOGUE, payloads, strict=True)
            },
            "schemas": schemas,
            "securitySchemes": {
                "token": {"type": "userPassword", "description": "User name: the handle. Password: the device's token."}
            },
        },
    }


def documents() -> dict[Path, str]:
    return {
        DOCS / "protocol.md": protocol_page(),
        DOCS / "asyncapi.json": json.dumps(asyncapi(), indent=2, ensure_ascii=False) + "\n",
        DOCS / "http.md": http_page(),
        DOCS / "openapi.json": json.dumps(openapi(), indent=2, ensure_ascii=False) + "\n",
    }


def _schemas() -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """What each row of the catalogue carries, in its order, and the schemas that this refers to, by name."""
    found = msgspec.json.schema_components([entry.message for entry in CATALOGUE], ref_template=_REFERENCE)
    # The look-ahead serves Python alone; in JSON Schema `$` is the end already.
    payloads, schemas = json.loads(json.dumps(found).replace(r"$(?!\\n)", "$"))
    return payloads, schemas


def _channel(entry: Entry) -> dict[str, Any]:
    names = re.findall(r"\{(\w+)\}", entry.template)
    channel: dict[str, Any] = {
        "address": f"{DEFAULT_ROOT}/{entry.template}",
        "description": entry.about,
        "messages": {entry.kind: {"$ref": f"#/components/messages/{entry.kind}"}},
    }
    if names:
        channel["parameters"] = {name: {"description": _PLACEHOLDERS[name]} for name in names}
    return channel


def _operation(entry: Entry) -> dict[str, Any]:
    return {
        "action": "receive" if entry.direction.endswith(" to hub") else "send",
        "channel": {"$ref": f"#/channels/{entry.kind}"},
        "messages": [{"$ref": f"#/channels/{entry.kind}/messages/{entry.kind}"}],
        "bindings": {"mqtt": {"qos": entry.qos, "retain": entry.retain, "bindingVersion": "0.2.0"}},
    }


def _topic_table() -> str:
    rows = ["| Topic below the root | From → to | QoS | Retained | At most | |", "|---|---|---|---|---|---|"]
    for entry in CATALOGUE:
        topic = entry.template.replace("{", "<").replace("}", ">")
        way = entry.direction.replace(" to ", " → ")
        retained = "yes" if entry.retain else "no"
        rows.append(f"| `{topic}` | {way} | {entry.qos} | {retained} | {entry.max_bytes:,} bytes | {entry.about} |")
    return "\n".join(rows)


def _route_table() -> str:
    rows = ["| Request | Needs | |", "|---|---|---|"]
    for route in api_routes(_app()):
        about = " ".join((route.description or "").split("\n\n")[0].split())
        rows += [f"| `{method} {route.path}` | {_needs(route)} | {about} |" for method in sorted(route.methods or ())]
    return "\n".join(rows)


def _needs(route: RouteContext) -> str:
    scopes = [one for one in _scopes(route.dependant) if one]
    return " ".join(f"`{one}`" for one in scopes) or "a token"


def _scopes(dependant: Dependant) -> list[str]:
    return [getattr(dependant.call, "scope", ""), *(one for inner in dependant.dependencies for one in _scopes(inner))]


def _permission_table() -> str:
    rows = ["| Permission | Lowest role | |", "|---|---|---|"]
    rows += [f"| `{one.name}` | {one.role} | {one.about} |" for one in PERMISSIONS.values()]
    return "\n".join(rows)


def _scope_table() -> str:
    rows = ["| Scope | |", "|---|---|"]
    rows += [f"| `{one.name}` | {one.about} |" for one in VOCABULARY.values()]
    return "\n".join(rows)


def _message_tables() -> str:
    parts = []
    payloads, schemas = _schemas()
    for name, schema in sorted(schemas.items()):
        reference = {"$ref": _REFERENCE.format(name=name)}
        carried = zip(CATALOGUE, payloads, strict=True)
        kinds = ", ".join(f"`{entry.kind}`" for entry, one in carried if reference in (one, *one.get("anyOf", [])))
        required = schema.get("required", [])
        rows = ["| Field | Required | Type | |", "|---|---|---|---|"]
        for field, rule in schema["properties"].items():
            needed = "yes" if field in required else "no"
            kind = _type(rule).replace("|", "\\|")
            rows.append(f"| `{field}` | {needed} | {kind} | {_note(rule, required=field in required)} |")
        about = " ".join(schema["description"].split())
        parts.append(f"### {name}\n\n{about}{f' Kind: {kinds}.' if kinds else ''}\n\n" + "\n".join(rows))
    return "\n\n".join(parts)


def _type(rule: dict[str, Any]) -> str:
    if "anyOf" in rule:
        return " or ".join(_type(one) for one in rule["anyOf"])
    if "enum" in rule:
        return ", ".join(f"`{value}`" for value in rule["enum"])
    if "$ref" in rule:
        return str(rule["$ref"]).rsplit("/", 1)[1]
    kind = str(rule.get("type", "any JSON value"))
    if kind == "array":
        return f"list of {_type(rule['items'])}"
    if kind == "object" and "additionalProperties" in rule:
        return f"object of {_type(rule['additionalProperties'])}"
    return "time" if rule.get("format") == "date-time" else kind


def _note(rule: dict[str, Any], *, required: bool) -> str:
    notes = [str(rule["description"])] if "description" in rule else []
    for one in (rule, *rule.get("anyOf", [])):
        low, high = one.get("minimum"), one.get("maximum")
        if low is not None or high is not None:
            notes.append(f"{low} to {high}")
        if "maxLength" in one:
            notes.append(f"at most {one['maxLength']} characters")
        if "maxItems" in one:
            notes.append(f"at most {one['maxItems']}")
        if "pattern" in one:
            notes.append(f"`{one['pattern']}`")
    default = rule.get("default")
    if not required and default not in (None, "", {}, []):
        notes.append(f"default {json.dumps(default)}")
    return "; ".join(notes)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a document is out of date")
    check = parser.parse_args().check
    stale = [path for path, text in documents().items() if not path.exists() or path.read_text("utf-8") != text]
    for path in stale:
        if check:
            sys.stderr.write(f"{path.name} is out of date; run python docs/generate.py\n")
        else:
            path.write_text(documents()[path], encoding="utf-8")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
