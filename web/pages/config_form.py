"""The values of a config as somebody types them: row by row, or as JSON."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
from starlette.datastructures import FormData

from hub import device_config
from hub.device_config import ConfigView
from hub.errors import Invalid
from web.pages import payload
from web.pages.command_form import as_json, from_json
from web.pages.typed_form import text_of, texts_of

_EMPTY_ROWS: Final = 1


@dataclass(frozen=True, slots=True)
class ConfigForm:
    """What the form shows: `rows` of key and value, the same as `json`, the revision that it began with, and faults."""

    rows: list[tuple[str, str]]
    json: str
    expected_rev: int
    mode: str = "rows"
    errors: Mapping[str, str] = field(default_factory=dict)
    is_typed: bool = False
    is_stale: bool = False


def of_config(config: ConfigView) -> ConfigForm:
    """The form as it opens."""
    return of_values(config.desired, config.desired_rev)


def of_values(values: Mapping[str, Any], rev: int = 0) -> ConfigForm:
    """The form with these values."""
    rows = [(key, shown(value)) for key, value in sorted(values.items())]
    return ConfigForm([*rows, *[("", "")] * _EMPTY_ROWS], payload.pretty(dict(values)), rev)


def typed(form: FormData, errors: Mapping[str, str] | None = None, *, rev: int | None = None) -> ConfigForm:
    """The form as it came in. With `rev`, it would be saved over that revision, and says so."""
    keys, values = texts_of(form, "key"), texts_of(form, "value")
    rows = [(key, value) for key, value in zip(keys, values, strict=False) if key.strip() or value.strip()]
    return ConfigForm(
        [*rows, *[("", "")] * _EMPTY_ROWS],
        text_of(form, "values"),
        revision(form, "expected_rev") if rev is None else rev,
        mode(form),
        errors or {},
        is_typed=True,
        is_stale=rev is not None,
    )


def mode(form: FormData) -> str:
    """`rows` or `json`: which of the two is meant."""
    return "json" if text_of(form, "mode") == "json" else "rows"


def revision(form: FormData, name: str) -> int:
    """The number of a revision that a field holds."""
    given = text_of(form, name, most=16)
    if not given.isascii() or not given.isdigit():
        raise Invalid("is the number of a revision", field=name)
    return int(given)


def read_values(form: FormData) -> dict[str, Any]:
    """The values that are meant; raises `Invalid` (values, or values.<key>)."""
    if mode(form) == "json":
        values = from_json(text_of(form, "values") or "{}", "values")
        if not isinstance(values, dict):
            raise Invalid("are one JSON object, such as {}", field="values")
        device_config.check_values(values)
        return values
    keys, texts = texts_of(form, "key"), texts_of(form, "value")
    values = {}
    for typed_key, text in zip(keys, texts, strict=False):
        key = typed_key.strip()
        if not key and not text.strip():
            continue
        if key in values:
            raise Invalid("stands here twice", field=f"values.{key[:80]}")
        values[key] = value_of(text)
    device_config.check_values(values)
    return values


def value_of(text: str) -> Any:
    """What a row's value means: JSON where it is JSON, else the text itself."""
    try:
        return msgspec.json.decode(text.strip())
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return text.strip()


def shown(value: Any) -> str:
    """A value as a row shows it: text without quotation marks, unless it would be read as something else."""
    if isinstance(value, str) and value and value == value.strip() and value_of(value) == value:
        return value
    return as_json(value)
