"""What the forms of automations and policies share: arguments with places, rows of conditions, reading them back."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

import msgspec
from starlette.datastructures import FormData

from hub import args_schema
from hub.args_schema import FormField
from hub.automations import template
from hub.automations.conditions import OPERATORS
from hub.errors import HubError, Invalid
from hub.tools.tool import Tool
from hub.verbs import Verb
from web.pages import command_form
from web.pages.command_form import VerbForm
from web.pages.typed_form import text_of

ROWS: Final = 4
COMPARISONS: Final = {name: name.replace("_", " ") for name in OPERATORS}


@dataclass(frozen=True, slots=True)
class Row:
    """A condition as it is typed."""

    path: str = ""
    comparison: str = "equals"
    value: str = ""


@dataclass(frozen=True, slots=True)
class Typed:
    """A form as it is shown: texts by the names of inputs, rows of conditions, and what is wrong by field."""

    values: Mapping[str, str]
    many: Mapping[str, list[str]] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    errors: Mapping[str, str] = field(default_factory=dict)

    def get(self, name: str, default: str = "") -> str:
        """What an input holds."""
        return self.values.get(name, default)

    def has(self, name: str, value: str) -> bool:
        """Whether one of several is ticked."""
        return value in self.many.get(name, [])

    def trouble(self, names: Iterable[str]) -> str:
        """What is wrong with one of these fields, or with something inside it."""
        for name in names:
            for key, told in self.errors.items():
                if key == name or key.startswith(f"{name}."):
                    return told
        return ""


def typed(form: FormData, error: HubError | None = None) -> Typed:
    """The form as it came in."""
    many: dict[str, list[str]] = {}
    for name, value in form.multi_items():
        if isinstance(value, str):
            many.setdefault(name, []).append(value)
    rows = [Row(text_of(form, f"path.{n}"), text_of(form, f"is.{n}"), text_of(form, f"value.{n}")) for n in range(ROWS)]
    errors = {error.field or "form": error.message} if error is not None else {}
    return Typed(command_form.typed_values(form), many, rows, errors)


def sentence(conditions: list[Any]) -> str:
    """The conditions in words; values as JSON, for 1 is not "1"."""
    told = ((row["path"], COMPARISONS[row["is"]], msgspec.json.encode(row["value"]).decode()) for row in conditions)
    return "".join(f", if {' '.join(one)}" for one in told)


def rows_of(conditions: list[Any]) -> list[Row]:
    """Stored conditions as rows of a form, with empty ones behind."""
    rows = [Row(one["path"], one["is"], _shown(one["value"])) for one in conditions[:ROWS]]
    return rows + [Row()] * (ROWS - len(rows))


def read_conditions(form: FormData) -> tuple[dict[str, Any], ...]:
    """The rows that were filled."""
    found = []
    for number in range(ROWS):
        path = text_of(form, f"path.{number}", most=300).strip()
        if path:
            value = _value(text_of(form, f"value.{number}", most=2_000))
            found.append({"path": path, "is": text_of(form, f"is.{number}", most=40), "value": value})
    return tuple(found)


def args_form(tool: Tool, values: Mapping[str, str], errors: Mapping[str, str]) -> VerbForm:
    """The arguments of a tool, in inputs that take places as well."""
    form = command_form.of_verb(_verb(tool), values, errors)
    if form.fields is None:
        return form
    loose = [one if one.kind in ("choice", "json") else _loose(one) for one in form.fields]
    return replace(form, fields=loose)


def shown_args(tool: Tool, args: Mapping[str, Any]) -> dict[str, str]:
    """Stored arguments as the inputs hold them."""
    fields = args_schema.form_fields(tool.schema)
    if fields is None:
        return {"args": command_form.as_json(dict(args))}
    shown = {}
    for one in fields:
        if one.name not in args:
            shown[f"arg.{one.name}"] = ""
            continue
        value = args[one.name]
        as_text = isinstance(value, str) and one.kind != "choice"
        shown[f"arg.{one.name}"] = value if as_text else command_form.as_json(value)
    return shown


def read_args(form: FormData, tool: Tool) -> dict[str, Any]:
    """The arguments that were typed: a text that holds a place is kept as it is. Raises `Invalid`."""
    fields = args_schema.form_fields(tool.schema)
    if fields is None:
        return command_form.read_args(form, command_form.of_verb(_verb(tool)))
    args: dict[str, Any] = {}
    for one in fields:
        given = text_of(form, f"arg.{one.name}")
        if given.strip() == "" and not (one.kind == "string" and one.required):
            continue
        if one.kind == "string" or (one.kind != "choice" and any(True for _ in template.places(given))):
            # A list or an object with places inside is JSON all the same.
            is_json = one.kind == "json" and given.lstrip()[:1] in ("[", "{") and not given.lstrip().startswith("{{")
            args[one.name] = command_form.from_json(given, f"args.{one.name}") if is_json else given
        else:
            args[one.name] = command_form.read_args(form, command_form.of_verb(_verb(tool, one.name)))[one.name]
    return args


def number(form: FormData, name: str, field_: str) -> float | None:
    """A number that was typed; None for nothing. Raises `Invalid`."""
    given = text_of(form, name, most=40).strip()
    if not given:
        return None
    try:
        return float(given)
    except ValueError:
        raise Invalid("is a number", field=field_) from None


def _verb(tool: Tool, only: str = "") -> Verb:
    if not only:
        return command_form.as_verb(tool)
    schema = dict(tool.schema) | {"properties": {only: tool.schema["properties"][only]}, "required": []}
    return replace(command_form.as_verb(tool), schema=schema)


def _loose(one: FormField) -> FormField:
    return replace(one, kind="string", minimum=None, maximum=None, max_length=None)


def _value(given: str) -> Any:
    """JSON where it is JSON, else the text itself."""
    try:
        return command_form.from_json(given, "value")
    except Invalid:
        return given


def _shown(value: Any) -> str:
    if isinstance(value, str) and not isinstance(_value(value), str):
        return command_form.as_json(value)  # "11" the text, not 11 the number
    return value if isinstance(value, str) else command_form.as_json(value)
