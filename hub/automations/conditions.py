"""Conditions on facts: a path, a comparison of a closed list, a value. What cannot be compared does not hold."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from hub.automations import template
from hub.automations.template import Missing
from hub.errors import Invalid

MOST: Final = 20
VALUE_MAX: Final = 500


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _both(fact: Any, value: Any) -> bool:
    return _number(fact) and _number(value)


def _same(fact: Any, value: Any) -> bool:
    """Equal, and of one kind: true is not 1, "1" is not 1."""
    return (type(fact) is type(value) or _both(fact, value)) and bool(fact == value)


OPERATORS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "equals": _same,
    "differs": lambda fact, value: not _same(fact, value),
    "at_least": lambda fact, value: _both(fact, value) and fact >= value,
    "at_most": lambda fact, value: _both(fact, value) and fact <= value,
    "one_of": lambda fact, value: isinstance(value, list) and any(_same(fact, one) for one in value),
    "contains": lambda fact, value: isinstance(fact, str | list) and isinstance(value, str) and value in fact,
}


def check(conditions: Sequence[Any], field: str, roots: Sequence[str] = template.ROOTS) -> list[dict[str, Any]]:
    """The conditions as they are stored; raises `Invalid` naming the one that is none. `roots` begin their paths."""
    if not isinstance(conditions, list | tuple):
        raise Invalid("are a list", field=field)
    if len(conditions) > MOST:
        raise Invalid(f"are at most {MOST}", field=field)
    checked = []
    for number, one in enumerate(conditions):
        name = f"{field}.{number}"
        if not isinstance(one, Mapping) or set(one) != {"path", "is", "value"}:
            raise Invalid("has a path, a comparison (is) and a value", field=name)
        path, operator, value = one["path"], one["is"], one["value"]
        if not isinstance(path, str) or path.partition(".")[0] not in roots:
            raise Invalid(f"begins with one of {', '.join(roots)}", field=f"{name}.path")
        if operator not in OPERATORS:
            raise Invalid(f"is one of {', '.join(OPERATORS)}", field=f"{name}.is")
        if operator == "one_of" and not isinstance(value, list):
            raise Invalid("is a list", field=f"{name}.value")
        if operator in ("at_least", "at_most") and not _number(value):
            raise Invalid("is a number", field=f"{name}.value")
        if len(str(value)) > VALUE_MAX:
            raise Invalid(f"is at most {VALUE_MAX} characters long", field=f"{name}.value")
        checked.append({"path": path, "is": operator, "value": value})
    return checked


def fault(conditions: Sequence[Mapping[str, Any]], facts: Mapping[str, Any]) -> str:
    """Why these conditions do not hold, in words; "" when all do."""
    for one in conditions:
        try:
            fact = template.look_up(facts, one["path"])
        except Missing as missing:
            return str(missing)
        if not OPERATORS[one["is"]](fact, one["value"]):
            return f"{one['path']} is not {one['is'].replace('_', ' ')} {one['value']!r}"
    return ""
