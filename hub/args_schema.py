"""The schema by which a device's verb describes its arguments: hostile until read, then a validator and form fields.

Whatever a device sends here costs little: sizes are bounded, nothing is fetched, `$ref` is written out once and never
recurses, and patterns are matched in linear time.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Literal

import jsonschema_rs
import msgspec

MAX_BYTES: Final = 16_384
MAX_DEPTH: Final = 24
MAX_NODES: Final = 1_000
MAX_FIELDS: Final = 40
MAX_CHOICES: Final = 200
_MESSAGE_MAX: Final = 200
# Linear in the length of the text; what would need more memory than this is no pattern.
_PATTERNS: Final = jsonschema_rs.RegexOptions(size_limit=256 * 1024, dfa_size_limit=1024 * 1024)
# Below these stand names of the device's choice, not keywords; below those values that are no schemas.
_NAMES: Final = frozenset({"properties", "patternProperties", "dependentSchemas", "$defs", "definitions"})
_VALUES: Final = frozenset({"const", "enum", "default", "examples", "required", "dependentRequired"})
# These say where a schema is and what dialect it speaks; ours is one and stands nowhere.
_DROPPED: Final = frozenset({"$schema", "$id", "$anchor", "$dynamicAnchor", "$vocabulary", "$comment"})
_KINDS: Final = ("string", "integer", "number", "boolean")


class Unusable(ValueError):
    """The schema breaks a rule of this hub; the message says which, for people."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with one argument; `field` is its path below the arguments, "" for all of them."""

    field: str
    message: str


@dataclass(frozen=True, slots=True)
class FormField:
    """One argument as a form asks for it; `json` is for what no plain input can hold."""

    name: str
    kind: Literal["string", "integer", "number", "boolean", "choice", "json"]
    required: bool
    title: str
    about: str = ""
    default: Any = None
    choices: tuple[Any, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    max_length: int | None = None


def faults(schema: Mapping[str, Any], args: Mapping[str, Any]) -> list[Fault]:
    """What these arguments break of the schema, at most ten; raises `Unusable` when the schema itself is wrong."""
    found = []
    for error in _validator(_key(schema)).iter_errors(dict(args)):
        path = ".".join(str(part) for part in error.instance_path)
        missing = getattr(error.kind, "property", None)
        if type(error.kind).__name__ == "Required" and isinstance(missing, str):
            found.append(Fault(f"{path}.{missing}" if path else missing, "is required"))
        else:
            message = error.message
            found.append(Fault(path, message if len(message) <= _MESSAGE_MAX else f"{message[:_MESSAGE_MAX]}…"))
        if len(found) == 10:
            break
    return found


def form_fields(schema: Mapping[str, Any]) -> list[FormField] | None:
    """The arguments one by one; None when they are not a plain list of properties. Raises `Unusable`."""
    key = _key(schema)
    _validator(key)
    written: dict[str, Any] = msgspec.json.decode(_written_out(key))
    known = {"type", "properties", "required", "title", "description", "additionalProperties", "$defs", "definitions"}
    if written.get("type", "object") != "object" or set(written) - known:
        return None
    properties = written.get("properties", {})
    free = written.get("additionalProperties", "properties" not in written)
    if free not in (False, True) or (free and not properties and "properties" not in written):
        return None
    if len(properties) > MAX_FIELDS:
        return None
    required = written.get("required", [])
    if any(name not in properties for name in required):
        return None
    return [_field(name, rule, required=name in required) for name, rule in properties.items()]


def check(schema: Mapping[str, Any]) -> None:
    """Raises `Unusable` when nobody can be held to this schema."""
    _validator(_key(schema))


def _field(name: str, rule: Any, *, required: bool) -> FormField:
    rule = rule if isinstance(rule, dict) else {}
    title = rule.get("title") or name
    about = rule.get("description", "")
    common: dict[str, Any] = {"name": name, "required": required, "title": title, "about": about}
    common["default"] = rule.get("default")
    kind, choices = rule.get("type"), rule.get("enum")
    if isinstance(choices, list) and 0 < len(choices) <= MAX_CHOICES and all(_is_plain(one) for one in choices):
        return FormField(kind="choice", choices=tuple(choices), **common)
    if kind not in _KINDS or {"anyOf", "oneOf", "allOf", "const", "enum"} & set(rule):
        return FormField(kind="json", **common)
    return FormField(
        kind=kind,
        minimum=rule.get("minimum"),
        maximum=rule.get("maximum"),
        max_length=rule.get("maxLength"),
        **common,
    )


def _is_plain(value: Any) -> bool:
    return isinstance(value, str | int | float | bool) and len(str(value)) <= 200


def _key(schema: Mapping[str, Any]) -> bytes:
    try:
        key = msgspec.json.encode(dict(schema))
    except (RecursionError, msgspec.MsgspecError, ValueError):
        raise Unusable("is nested too deeply") from None
    if len(key) > MAX_BYTES:
        raise Unusable(f"is larger than {MAX_BYTES} bytes")
    return key


@lru_cache(maxsize=256)
def _written_out(key: bytes) -> bytes:
    """The same schema without references."""
    whole = msgspec.json.decode(key)
    written = _Writer(whole).write(whole, 0, ())
    return msgspec.json.encode(written)


@lru_cache(maxsize=256)
def _validator(key: bytes) -> jsonschema_rs.Draft202012Validator:
    written = msgspec.json.decode(_written_out(key))
    try:
        return jsonschema_rs.Draft202012Validator(written, pattern_options=_PATTERNS, offline=True)
    except (ValueError, jsonschema_rs.ReferencingError) as error:
        told = getattr(error, "message", None) or str(error)
        raise Unusable(f"is not a JSON Schema: {told.partition(chr(10))[0][:_MESSAGE_MAX]}") from None


class _Writer:
    """Copies a schema with every `$ref` replaced by what it refers to."""

    def __init__(self, whole: dict[str, Any]) -> None:
        self._whole = whole
        self._nodes = 0

    def write(self, node: Any, depth: int, opened: tuple[str, ...]) -> Any:
        self._count(depth)
        if not isinstance(node, dict):
            return node
        copy: dict[str, Any] = {}
        for word, value in node.items():
            if word in {"$dynamicRef", "$recursiveRef", "$recursiveAnchor"}:
                raise Unusable(f"uses {word}")
            if word in _DROPPED or word in {"$ref", "$defs", "definitions"}:
                continue
            copy[word] = self._below(word, value, depth + 1, opened)
        if isinstance(node.get("$ref"), str):
            reference: str = node["$ref"]
            if reference in opened:
                raise Unusable(f"refers to itself by {reference[:80]!r}")
            target = self.write(self._find(reference), depth + 1, (*opened, reference))
            if not copy:
                return target
            copy = {"allOf": [target, copy]}
        return copy

    def _below(self, word: str, value: Any, depth: int, opened: tuple[str, ...]) -> Any:
        if word in _VALUES:
            return value
        if word in _NAMES and isinstance(value, dict):
            return {name: self.write(one, depth, opened) for name, one in value.items()}
        if isinstance(value, list):
            return [self.write(one, depth, opened) for one in value]
        return self.write(value, depth, opened)

    def _find(self, reference: str) -> Any:
        levels = reference.split("/")
        if len(levels) != 3 or levels[0] != "#" or levels[1] not in {"$defs", "definitions"}:
            raise Unusable(f"refers to {reference[:80]!r}; only its own $defs can be referred to")
        holder = self._whole.get(levels[1])
        name = levels[2].replace("~1", "/").replace("~0", "~")
        if not isinstance(holder, dict) or name not in holder:
            raise Unusable(f"refers to {reference[:80]!r}, which is not there")
        return holder[name]

    def _count(self, depth: int) -> None:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise Unusable(f"has more than {MAX_NODES} parts")
        if depth > MAX_DEPTH:
            raise Unusable("is nested too deeply")
