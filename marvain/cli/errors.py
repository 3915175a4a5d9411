"""What went wrong, as one line or one JSON document on stderr, and as an exit code."""

import json
import sys

import click

from hub.errors import Conflict, HubError, NotFound, Throttled
from marvain.refusal import CONFIG, CONFLICT, FAULT, NOT_FOUND, UNAVAILABLE, USAGE, Refusal

_KINDS = {USAGE: "invalid", NOT_FOUND: "not_found", CONFLICT: "conflict", UNAVAILABLE: "unavailable", CONFIG: "config"}
# By name, so that a command that needs no database does not load what speaks to one. The first that fits counts.
_ELSEWHERE = (
    ("hub.migrations", "MigrationFailed", FAULT),
    ("hub.migrations", "SchemaError", CONFIG),
    ("psycopg", "OperationalError", UNAVAILABLE),
    ("sqlalchemy.exc", "OperationalError", UNAVAILABLE),
)


def exit_code(error: Exception) -> int | None:
    """The exit code of an error that we know how to explain; None for the others."""
    if isinstance(error, click.ClickException | Refusal):
        return error.exit_code
    for module, name, code in _ELSEWHERE:
        # An error of a module that is not loaded cannot have been raised.
        if (loaded := sys.modules.get(module)) is not None and isinstance(error, getattr(loaded, name)):
            return USAGE if code == CONFIG and getattr(error, "field", None) else code
    for kinds, code in ((NotFound, NOT_FOUND), (Conflict, CONFLICT), (Throttled, UNAVAILABLE), (HubError, USAGE)):
        if isinstance(error, kinds):
            return code
    return FAULT if isinstance(error, OSError) else None


def show_error(error: Exception, *, as_json: bool) -> None:
    """Say it; `{"error": {"kind", "message", "field"?}}` with `as_json`."""
    field = error.field if isinstance(error, HubError) else None
    message = explain(error)
    if as_json:
        kind = _KINDS.get(exit_code(error) or FAULT, "fault")
        facts = {"kind": kind, "message": message} | ({"field": field} if field else {})
        click.echo(json.dumps({"error": facts}, ensure_ascii=False), err=True)
        return
    # A device's own words may be in it, and must not steer the terminal.
    message = "".join(c if c.isprintable() or c == "\n" else "?" for c in message)
    mark = click.style("error:", fg="red") if sys.stderr.isatty() else "error:"
    click.echo(f"{mark} {f'{field}: ' if field else ''}{message}", err=True)
    if isinstance(error, click.UsageError) and error.ctx is not None:
        click.echo(f"Try '{error.ctx.command_path} --help'.", err=True)


def explain(error: Exception) -> str:
    """The error in a line for people."""
    if isinstance(error, click.ClickException):
        return error.format_message()
    # SQLAlchemy's own text repeats the statement; the driver's says what is wrong.
    origin = getattr(error, "orig", None)
    if isinstance(origin, Exception):
        error = origin
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error).strip() or type(error).__name__
