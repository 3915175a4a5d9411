"""The `marvain` command: all nouns put together, and every refusal as one line with a meaningful exit code."""

import logging
import sys
from importlib import import_module
from importlib.metadata import version as installed_version

import click
import structlog

from marvain.cli.errors import exit_code, show_error
from marvain.cli.options import json_option
from marvain.cli.output import show_json
from marvain.refusal import FAULT

INTERRUPTED = 130
NOUNS = (
    "up",
    "migrate",
    "device",
    "integration",
    "user",
    "agent",
    "actions",
    "audit",
    "broker",
    "doctor",
    "simulate",
)


class Nouns(click.Group):
    """Loads a noun when it is asked for: most need the whole domain, `up` and `version` do not."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*NOUNS, *super().list_commands(ctx)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in NOUNS:
            return super().get_command(ctx, cmd_name)
        found = getattr(import_module(f"marvain.cli.{cmd_name}"), cmd_name)
        return found if isinstance(found, click.Command) else None


@click.group(cls=Nouns, context_settings={"help_option_names": ["-h", "--help"]})
def marvain() -> None:
    """An MQTT hub for satellites.

    Exit codes: 0 well, 1 fault, 2 bad input, 3 not found, 4 conflict, 69 a needed part is away, 78 bad configuration.
    """


@marvain.command()
@json_option
def version(*, as_json: bool) -> None:
    """Show the version."""
    number = installed_version("marvain")
    if as_json:
        show_json({"version": number})
    else:
        click.echo(f"marvain {number}")


def main() -> None:
    """Run the command line and exit."""
    structlog.configure(
        processors=[structlog.stdlib.add_log_level, structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())],
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    try:
        marvain.main(standalone_mode=False, prog_name="marvain")
    except (KeyboardInterrupt, click.Abort):
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # Whoever read our output has seen enough.
        sys.stderr.close()
        sys.exit(FAULT)
    except Exception as error:
        code = exit_code(error)
        if code is None:
            raise
        show_error(error, as_json="--json" in sys.argv)
        sys.exit(code)


if __name__ == "__main__":
    main()
