"""All tools by name. A tool's file registers its function with the decorator `tool`; `load` imports the files."""

import importlib
import pkgutil
from collections.abc import Callable, Mapping
from typing import Any, Final

import hub.tools
from hub import args_schema
from hub.errors import Invalid
from hub.tools.tool import Run, Tool, Weigh
from hub.verbs import Risk

_TOOLS: Final[dict[str, Tool]] = {}
_MACHINERY: Final = frozenset({"tool", "registry"})


def tool(
    name: str,
    *,
    about: str,
    schema: Mapping[str, Any],
    risk: Risk,
    scopes: tuple[str, ...],
    is_repeatable: bool = False,
    timeout_s: float = 30.0,
    weigh: Weigh | None = None,
    hints: Mapping[str, str] | None = None,
) -> Callable[[Run], Run]:
    """Register the decorated function as the work of this tool."""
    args_schema.check(schema)

    def register(run: Run) -> Run:
        if name in _TOOLS:
            raise ValueError(f"there are two tools {name}")
        _TOOLS[name] = Tool(name, about, schema, risk, scopes, run, is_repeatable, timeout_s, weigh, hints or {})
        return run

    return register


def load() -> Mapping[str, Tool]:
    """All tools there are, by name."""
    for found in pkgutil.iter_modules(hub.tools.__path__):
        if found.name not in _MACHINERY:
            importlib.import_module(f"hub.tools.{found.name}")
    return dict(sorted(_TOOLS.items()))


def find(name: str) -> Tool:
    """The tool of this name; raises `Invalid` (tool) naming those that there are."""
    known = load()
    if name not in known:
        raise Invalid(f"there is no tool {name[:80]!r}; there are {', '.join(known)}", field="tool")
    return known[name]
