"""The form for one verb: its fields made from what the device says of its arguments, and read back into arguments."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
from starlette.datastructures import FormData

from hub import args_schema
from hub.args_schema import FormField
from hub.errors import Invalid
from hub.tools.tool import Tool
from hub.verbs import Verb
from web.pages.typed_form import text_of

# Seconds and the words for them.
DEADLINES: Final = {
    5: "5 seconds",
    30: "30 seconds",
    60: "1 minute",
    300: "5 minutes",
    3_600: "1 hour",
    28_800: "8 hours",
    86_400: "1 day",
}
_DEADLINE_OF: Final = {"ping": 30, "config": 86_400, "run_action": 300}
_OTHERS: Final = 60


@dataclass(frozen=True, slots=True)
class VerbForm:
    """A verb as it is asked for; `fields` None: as JSON. `values` and `errors` are by the names of inputs."""

    verb: Verb
    fields: list[FormField] | None
    about: str
    values: Mapping[str, str] = field(default_factory=dict)
    errors: Mapping[str, str] = field(default_factory=dict)

    @property
    def deadline(self) -> int:
        """The seconds that are chosen at first."""
        typed = self.values.get("ttl_s", "")
        return int(typed) if typed in {str(one) for one in DEADLINES} else _DEADLINE_OF.get(self.verb.name, _OTHERS)

    def shown(self, one: FormField) -> str:
        """What the input of a field holds: what was typed, else its default."""
        name = f"arg.{one.name}"
        if name in self.values:
            return self.values[name]
        if one.default is None:
            return ""
        if one.kind == "boolean":
            return "true" if one.default else "false"
        return one.default if one.kind == "string" and isinstance(one.default, str) else as_json(one.default)

    def written(self, choice: Any) -> str:
        """A choice as the form sends it: strings and numbers that look alike stay apart."""
        return as_json(choice)

    def error_of(self, one: FormField) -> str:
        """What is wrong with a field, or with something inside its value."""
        name = f"args.{one.name}"
        return next((told for key, told in self.errors.items() if key == name or key.startswith(f"{name}.")), "")

    @property
    def error(self) -> str:
        """What is wrong with the whole, or with what has no input of its own."""
        mine = {f"args.{one.name}" for one in self.fields or []}
        for key, told in self.errors.items():
            if key != "confirmed" and not any(key == one or key.startswith(f"{one}.") for one in mine):
                return f"{key.removeprefix('args.')}: {told}" if key not in ("args", "verb") else told
        return ""


def of_verb(verb: Verb, values: Mapping[str, str] | None = None, errors: Mapping[str, str] | None = None) -> VerbForm:
    """The form of a verb. One whose schema is wrong, or is no plain list of arguments, asks for JSON."""
    fields = None if verb.trouble else args_schema.form_fields(verb.schema)
    about = verb.schema.get("description", "") if isinstance(verb.schema.get("description"), str) else ""
    return VerbForm(verb, fields, about, values or {}, errors or {})


def as_verb(tool: Tool) -> Verb:
    """A tool as its form is made: like a verb of a device."""
    return Verb(tool.name, tool.risk, tool.schema)


def read_args(form: FormData, wanted: VerbForm) -> dict[str, Any]:
    """The arguments that somebody typed; raises `Invalid` naming the argument that cannot be read."""
    if wanted.fields is None:
        args = from_json(text_of(form, "args") or "{}", "args")
        if not isinstance(args, dict):
            raise Invalid("are one JSON object, such as {}", field="args")
        return args
    args = {}
    for one in wanted.fields:
        typed = text_of(form, f"arg.{one.name}")
        if typed.strip() == "" and not (one.kind == "string" and one.required):
            continue  # not given; the schema says whether it may be left out
        args[one.name] = _read(one, typed)
    return args


def typed_values(form: FormData) -> dict[str, str]:
    """Everything as it was typed, to be shown again."""
    return {name: value for name, value in form.multi_items() if isinstance(value, str)}


def as_json(value: Any) -> str:
    """A value in one line of JSON, as people write it."""
    return msgspec.json.encode(value).decode()


def from_json(typed: str, name: str) -> Any:
    """A value that somebody typed as JSON; raises `Invalid`."""
    try:
        return msgspec.json.decode(typed)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise Invalid(f"is not JSON: {str(error)[:120]}", field=name) from None


def _read(one: FormField, typed: str) -> Any:
    name = f"args.{one.name}"
    match one.kind:
        case "string":
            return typed
        case "choice":
            for choice in one.choices:
                if as_json(choice) == typed:
                    return choice
            raise Invalid("is one of the choices", field=name)
        case "boolean":
            return typed == "true"
        case "integer" | "number":
            try:
                number = msgspec.json.decode(typed.strip())
            except (msgspec.DecodeError, UnicodeError):
                number = None
            if isinstance(number, bool) or not isinstance(number, int | float):
                raise Invalid("is a number" if one.kind == "number" else "is a whole number", field=name)
            return number
    return from_json(typed, name)
