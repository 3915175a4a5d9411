"""How commands answer: JSON for programs, aligned text for people."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import click
import msgspec


def show_json(value: Any) -> None:
    """One JSON document on standard output; times as RFC 3339, ids as text."""
    plain = msgspec.to_builtins(value, enc_hook=str)
    click.echo(json.dumps(plain, indent=2, ensure_ascii=False))


def show_table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Columns as wide as they need to be; the last one as long as it is."""
    texts = [[_cell(value) for value in row] for row in rows]
    widths = [max(len(line[i]) for line in [list(heads), *texts]) for i in range(len(heads))]
    for line in [list(heads), *texts]:
        cells = [text.ljust(width) for text, width in zip(line, widths, strict=True)]
        click.echo("  ".join(cells).rstrip())


def ago(moment: datetime | None) -> str:
    """How long ago, such as 12 s ago; empty for never."""
    if moment is None:
        return ""
    seconds = max(0, round((datetime.now(UTC) - moment).total_seconds()))
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit} ago"
    return f"{seconds} s ago"


def _cell(value: object) -> str:
    text = "" if value is None else str(value)
    return "".join(c if c.isprintable() else "?" for c in text)
