"""JSON that a device sent, made readable; it stays plain text, so that templates escape all of it."""

import json
from typing import Any, Final

LINE_MAX: Final = 120


def pretty(value: Any) -> str:
    """Indented, as a person would write it."""
    return json.dumps(value, indent=2, ensure_ascii=False)


def line(value: Any) -> str:
    """The beginning of it on one line."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= LINE_MAX else text[: LINE_MAX - 1] + "…"
