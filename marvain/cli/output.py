"""How commands answer: JSON for programs, aligned text for people, and one line for what went wrong."""

import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from types import UnionType
from typing import Any

import click
import msgspec
import psycopg
import sqlalchemy.exc

from hub import migrations
from hub.errors import Conflict, HubError, NotFound, Throttled
from marvain.instance import InUse
from marvain.ports import PortTaken
from marvain.postgres_bundle import PostgresFault
from marvain.supervisor import StartFault

FAULT, USAGE, NOT_FOUND, CONFLICT, UNAVAILABLE, CONFIG = 1, 2, 3, 4, 69, 78
INTERRUPTED = 130
# The first that fits counts.
_CODES: tuple[tuple[type[Exception] | UnionType, int], ...] = (
    (NotFound, NOT_FOUND),
    (Conflict | InUse, CONFLICT),
    (Throttled | PortTaken, UNAVAILABLE),
    (HubError, USAGE),
    (psycopg.OperationalError | sqlalchemy.exc.OperationalError, UNAVAILABLE),
    (PostgresFault | OSError, FAULT),
)


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


def exit_code(error: Exception) -> int | None:
    """The exit code of an error that we know how to explain; None for the others."""
    if isinstance(error, click.ClickException | StartFault):
        return error.exit_code
    if isinstance(error, migrations.SchemaError):
        return FAULT if isinstance(error, migrations.MigrationFailed) else USAGE if error.field else CONFIG
    for kinds, code in _CODES:
        if isinstance(error, kinds):
            return code
    return None


def show_error(error: Exception, *, as_json: bool) -> None:
    """One line, or one JSON document, on stderr."""
    field = getattr(error, "field", None) if isinstance(error, HubError) else None
    message = _message(error)
    if as_json:
        facts = {"kind": _kind(error), "message": message} | ({"field": field} if field else {})
        click.echo(json.dumps({"error": facts}, ensure_ascii=False), err=True)
    else:
        mark = click.style("error:", fg="red") if sys.stderr.isatty() else "error:"
        click.echo(f"{mark} {f'{field}: ' if field else ''}{message}", err=True)
        if isinstance(error, click.UsageError) and error.ctx is not None:
            click.echo(f"Try '{error.ctx.command_path} --help'.", err=True)


def _message(error: Exception) -> str:
    if isinstance(error, click.ClickException):
        return error.format_message()
    if isinstance(error, sqlalchemy.exc.OperationalError):
        error = error.orig if isinstance(error.orig, Exception) else error
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error).strip() or type(error).__name__


def _kind(error: Exception) -> str:
    names = {USAGE: "invalid", NOT_FOUND: "not_found", CONFLICT: "conflict", UNAVAILABLE: "unavailable"}
    return (names | {CONFIG: "config"}).get(exit_code(error) or FAULT, "fault")
