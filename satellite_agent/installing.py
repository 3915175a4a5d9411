"""The commands `install` and `uninstall`: the satellite as a service of systemd."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import click

from satellite_agent import service, settings
from satellite_agent.service import ServiceError

_DESTDIR: Final = click.option(
    "--destdir",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("/"),
    help="Write below this folder instead of / (for packages); then nothing is started.",
)


@click.command()
@click.option("--hub", metavar="URL", help="Address of the hub: mqtt://host:1883, mqtts://, ws://host/mqtt, wss://.")
@click.option("--token-file", metavar="FILE", help="A file that holds the token alone; - for standard input.")
@click.option("--ca-file", metavar="FILE", help="Certificate authority for mqtts:// and wss://; it is copied.")
@click.option("--root", metavar="TOPIC", help="Root of the hub's topics (default: marvain/v1).")
@click.option("--mqtt-version", metavar="VERSION", help="3.1.1 (default) or 5.")
@click.option("--state-dir", metavar="DIR", help="Where `enrol` kept the token, if it was told.")
@click.option("--dry-run", is_flag=True, help="Print what would be written, and write nothing.")
@click.option("--force", is_flag=True, help="Write over a config and over files that are not from here.")
@click.option("--no-start", is_flag=True, help="Write the files alone.")
@_DESTDIR
def install(
    dry_run: bool,  # noqa: FBT001 - click passes it by name
    force: bool,  # noqa: FBT001
    no_start: bool,  # noqa: FBT001
    destdir: Path,
    **flags: str | None,
) -> None:
    """Let systemd start the satellite with this machine: a hardened unit, a commented config, the token.

    Hub and token come from the flags, from variables, or from what `enrol` kept. A config file that is there stays as
    it is. Exit codes: 0 done, 1 it cannot be so, 78 a setting is wrong.
    """
    if flags["token_file"] == "-":  # noqa: S105 - no password
        flags = flags | {"token": sys.stdin.readline().strip(), "token_file": None}
    given = settings.gather(flags, os.environ)
    program = _program()
    files = service.plan(settings.check(given, os.environ), program)
    if dry_run:
        for path, file in files.items():
            click.echo(f"--- {path} (mode {file.mode:04o})")
            click.echo("(a secret)\n" if file.is_secret else file.content)
        return
    here = destdir == Path("/")
    if here:
        _check_root()
        service.check_program(program)
    left = service.write(files, destdir, force=force)
    for path in files:
        click.echo(f"{'kept as it is' if path in left else 'written'}: {path}")
    if not here or no_start:
        return
    if not _systemctl("daemon-reload") or not _systemctl("enable", "--now", service.UNIT):
        click.echo(f"start it with: systemctl daemon-reload && systemctl enable --now {service.UNIT}")
        return
    click.echo(f"it runs; its log: journalctl -u {service.UNIT}, and whether all is well: marvain-satellite doctor")


@click.command()
@click.option(
    "--purge", is_flag=True, help="Also what was changed since, and the state: what the hub has not got is lost."
)
@_DESTDIR
def uninstall(purge: bool, destdir: Path) -> None:  # noqa: FBT001 - click passes it by name
    """Stop the service and remove exactly what `install` has written; what was changed since is kept and named."""
    if destdir == Path("/"):
        _check_root()
        _systemctl("disable", "--now", service.UNIT)
    removed, kept = service.remove(destdir, purge=purge)
    for path in removed:
        click.echo(f"removed: {path}")
    for path in kept:
        click.echo(f"kept, for it was changed since: {path}")
    if destdir == Path("/"):
        _systemctl("daemon-reload")


def _program() -> list[str]:
    """How this very satellite is started, whatever it was started from."""
    name = Path(sys.argv[0])
    if name.name == "marvain-satellite" and name.is_file():
        return [str(name.absolute())]
    if name.suffix == ".pyz" and name.is_file():
        return [sys.executable, str(name.absolute())]
    return [sys.executable, "-m", "satellite_agent"]


def _check_root() -> None:
    if os.geteuid() != 0:
        raise ServiceError("only root can do that: sudo marvain-satellite …")


def _systemctl(*words: str) -> bool:
    """Whether systemd did it; False also where none runs (a container)."""
    program = shutil.which("systemctl")
    if program is None or not Path("/run/systemd/system").is_dir():
        return False
    done = subprocess.run([program, *words], capture_output=True, text=True, check=False)  # noqa: S603 - fixed words
    if done.returncode != 0 and done.stderr:
        click.echo(f"systemctl {' '.join(words)}: {done.stderr.strip()}", err=True)
    return done.returncode == 0
