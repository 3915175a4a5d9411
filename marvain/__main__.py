"""The `marvain` command: all nouns put together, and every refusal as one line with a meaningful exit code."""

import logging
import sys
from importlib.metadata import version as installed_version

import click
import structlog

from marvain.cli import output
from marvain.cli.agent import agent
from marvain.cli.device import device
from marvain.cli.doctor import doctor
from marvain.cli.migrate import migrate
from marvain.cli.options import json_option
from marvain.cli.up import up
from marvain.cli.user import user


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
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
        output.show_json({"version": number})
    else:
        click.echo(f"marvain {number}")


for command in (up, migrate, device, user, agent, doctor):
    marvain.add_command(command)


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
        sys.exit(output.INTERRUPTED)
    except BrokenPipeError:
        # Whoever read our output has seen enough.
        sys.stderr.close()
        sys.exit(output.FAULT)
    except Exception as error:
        code = output.exit_code(error)
        if code is None:
            raise
        output.show_error(error, as_json="--json" in sys.argv)
        sys.exit(code)


if __name__ == "__main__":
    main()
