"""The command line `marvain-satellite`: enrol, run the daemon, send events and samples, show its status."""

import json
import logging
import math
import os
import sqlite3
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, NoReturn

import click
import msgspec

from hub_protocol.errors import ProtocolError
from satellite_agent import __version__, control, daemon, enrol, settings
from satellite_agent.connection import Refused
from satellite_agent.doctor import examine
from satellite_agent.flags import shared
from satellite_agent.installing import install, uninstall
from satellite_agent.logs import log_to_file, log_to_stderr, printable
from satellite_agent.outbox import OutboxError
from satellite_agent.receipts import DEFAULT_TIMEOUT_S, Sent
from satellite_agent.service import ServiceError
from satellite_agent.settings import SettingsError
from satellite_agent.state import AlreadyRunning, StateError
from satellite_agent.status import read_last_denied

EXIT_FAULT: Final = 1
EXIT_USAGE: Final = 2
EXIT_UNAVAILABLE: Final = 69
EXIT_REFUSED: Final = 77
EXIT_CONFIG: Final = 78

# How long `send` waits for a daemon that has its folder but not yet its socket, or is just leaving.
_SOCKET_WITHIN_S: Final = 5.0

log = logging.getLogger("satellite_agent")


class _Group(click.Group):
    """Every way a command can fail, as one line and an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except SettingsError as error:
            _leave(f"setting {error}", EXIT_CONFIG)
        except Refused as error:
            _leave(f"refused for good: {error}", EXIT_REFUSED)
        except enrol.EnrolmentRefused as error:
            _leave(f"no token: {error}", EXIT_REFUSED)
        except enrol.HubAway as error:
            _leave(f"no token yet: {error}", EXIT_UNAVAILABLE)
        except ProtocolError as error:
            _leave(str(error), EXIT_USAGE)
        except (StateError, ServiceError, OutboxError, sqlite3.Error, OSError) as error:
            _leave(str(error), EXIT_FAULT)


@click.group(
    cls=_Group,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Settings come from flags, else from variables MARVAIN_SATELLITE_HUB, _TOKEN, …, else from the TOML file.",
)
@click.version_option(__version__, prog_name="marvain-satellite")
def main() -> None:
    """Connect this machine to its Marvain hub."""


@main.command("enrol")
@click.option("--hub", metavar="URL", help="The hub's web address, such as https://192.168.1.10:8000.")
@click.option("--code", required=True, metavar="CODE", help="The claim code, or the whole address of its picture.")
@click.option("--name", default="", metavar="NAME", help="What this device calls itself (default: the host name).")
@click.option(
    "--ca",
    "--ca-file",
    "ca_file",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Certificate authority for the hub's address (default: the system's); kept for mqtts://.",
)
@click.option(
    "--plain-http", is_flag=True, help="Send code and token over http:// all the same: you trust the network."
)
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=1, max=enrol.PATIENCE_S),
    default=enrol.PATIENCE_S,
    help="Seconds to wait for the hub and for a person's word (default: a day).",
)
@click.option("--state-dir", metavar="DIR", help="Where the token is kept, and later epoch and outbox.")
def enrol_(
    hub: str | None,
    code: str,
    name: str,
    ca_file: Path | None,
    plain_http: bool,  # noqa: FBT001 - click passes it by name
    timeout_s: float,
    state_dir: str | None,
) -> None:
    """Fetch this machine's own token with a claim code; `run` then needs nothing more.

    Exit codes: 0 the token is here, 69 the hub is away or nobody decided in time, 77 the code does not work or this
    device was rejected, 78 a setting is wrong.
    """
    claim = enrol.read_claim(hub, code, name=name, ca_file=ca_file, plain_http=plain_http)
    given = settings.gather({"state_dir": state_dir}, os.environ)
    chosen = "state_dir" in given
    enrol.check_writable(Path(given["state_dir"]).expanduser() if chosen else settings.state_base(os.environ))
    enrolled = enrol.enrol(claim, lambda words: click.echo(printable(words), err=True), patience_s=timeout_s)
    folder = settings.state_dir(given, os.environ, enrolled.handle)
    file = enrol.keep(folder, enrolled, ca_file)
    click.echo(f"{enrolled.handle} has its token, kept in {file}")
    click.echo(f"start it with: marvain-satellite run{f' --state-dir {folder}' if chosen else ''}")


@main.command()
@shared
def run(config: Path | None, **flags: str | None) -> None:
    """Stay connected to the hub until stopped.

    Exit codes: 0 stopped by a signal, 77 the hub refuses this device for good, 78 a setting is wrong, 1 another fault.
    """
    given = settings.gather(flags, os.environ, config)
    log_to_stderr(given, "info")
    log_to_file(given)
    try:
        is_to_restart = daemon.run(settings.check(given, os.environ, config))
    except Refused as error:
        log.error("refused for good, so not trying again: %s", error)
        sys.exit(EXIT_REFUSED)
    if is_to_restart:
        # In the same process, so that whoever looks after it (systemd, a container) sees none end.
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - the command of this process


@main.command()
@shared
@click.argument("event_type", metavar="TYPE")
@click.argument("payload", default="{}")
@click.option("--space", help="Where it happened, when not at the device's own place.")
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0.1, max=3600),
    default=DEFAULT_TIMEOUT_S,
    show_default=True,
    help="Seconds to wait until the hub has stored it.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def send(
    config: Path | None,
    event_type: str,
    payload: str,
    space: str | None,
    timeout_s: float,
    as_json: bool,  # noqa: FBT001 - click passes it by name
    **flags: str | None,
) -> None:
    """Send one event to the hub, such as door_open '{"angle": 12}'.

    PAYLOAD is a JSON object, or - to read it from standard input. The event goes through the running satellite, or
    over a connection of its own. Exit codes: 0 stored by the hub, 2 the event is wrong or refused, 69 kept in the
    outbox for the next run because the hub did not answer in time, 77 and 78 as in run.
    """
    given = settings.gather(flags, os.environ, config)
    log_to_stderr(given, "error")
    body = _parse_payload(sys.stdin.read() if payload == "-" else payload)
    sent = _send(given, config, event_type, body, space, timeout_s)
    if as_json:
        click.echo(json.dumps({"id": sent.id, "stored": sent.stored, "refused": sent.refused or None}))
    elif sent.stored:
        click.echo(f"stored {sent.id}")
    if sent.refused:
        _leave(f"the hub refused the event {sent.id}: {sent.refused}", EXIT_USAGE)
    if not sent.stored:
        why = f" ({sent.why})" if sent.why else ""
        _leave(
            f"the hub did not confirm within {timeout_s:g} s{why}; the event {sent.id} is kept in the outbox and goes "
            "out with the running satellite or the next run",
            EXIT_UNAVAILABLE,
        )


# A value may be negative, which is no flag.
@main.command(context_settings={"ignore_unknown_options": True})
@shared
@click.argument("stream")
@click.argument("value", type=float)
def telemetry(config: Path | None, stream: str, value: float, **flags: str | None) -> None:
    """Give one sample to the running satellite, such as temperature 21.5.

    It counts as measured now, is kept on disk, and goes out as soon as there is a connection. Exit codes: 0 taken,
    2 the sample is wrong, 69 no satellite runs.
    """
    if not math.isfinite(value):
        _leave("value: must be a finite number", EXIT_USAGE)
    given = settings.gather(flags, os.environ, config)
    log_to_stderr(given, "error")
    folder = settings.locate(given, os.environ)
    try:
        answer = control.ask(folder / "control.sock", {"do": "telemetry", "stream": stream, "value": value}, 5.0)
    except control.ControlError as error:
        _leave(str(error), EXIT_UNAVAILABLE)
    if answer.get("ok") is not True:
        code = EXIT_FAULT if answer.get("field") == "outbox" else EXIT_USAGE
        _leave(f"{answer.get('field')}: {answer.get('rule')}", code)


@main.command()
@shared
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def status(config: Path | None, as_json: bool, **flags: str | None) -> None:  # noqa: FBT001 - click passes it by name
    """Show the running satellite: connection, epoch, backlog, what the hub said last.

    Exit codes: 0 online, 69 not running or not online.
    """
    given = settings.gather(flags, os.environ, config)
    folder = settings.locate(given, os.environ)
    try:
        answer = control.ask(folder / "control.sock", {"do": "status"}, 5.0)
        facts: dict[str, Any] = answer.get("status") or {"connection": "unknown", "why": str(answer.get("rule", ""))}
    except control.ControlError as error:
        facts = {"connection": "not running", "why": str(error), **_left_behind(folder / "satellite.db")}
    if as_json:
        click.echo(json.dumps(facts))
    else:
        for name, value in facts.items():
            if value not in (None, ""):
                shown = value.get("reason") if name == "last_denied" and isinstance(value, dict) else value
                click.echo(f"{name.replace('_', ' '):16} {shown}")
    sys.exit(0 if facts["connection"] == "online" else EXIT_UNAVAILABLE)


@main.command()
@shared
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object for each part.")
def doctor(config: Path | None, as_json: bool, **flags: str | None) -> None:  # noqa: FBT001 - click passes it by name
    """Look at config, disk, outbox, the way to the hub, log-in and clock, and say what to do.

    Exit codes: 0 all is well (or worth a warning), 1 something is wrong.
    """
    verdicts = set()
    for finding in examine(flags, os.environ, config):
        verdicts.add(finding.verdict)
        if as_json:
            click.echo(json.dumps(asdict(finding)))
            continue
        click.echo(printable(f"{finding.verdict:4}  {finding.part:8}  {finding.told}"))
        if finding.do:
            click.echo(printable(f"{'':16}→ {finding.do}"))
    sys.exit(EXIT_FAULT if "fail" in verdicts else 0)


main.add_command(install)
main.add_command(uninstall)


def _send(
    given: settings.Given,
    config: Path | None,
    event_type: str,
    payload: dict[str, Any],
    space: str | None,
    timeout_s: float,
) -> Sent:
    folder = settings.locate(given, os.environ)
    request = {"do": "send", "type": event_type, "payload": payload, "space": space, "timeout_s": timeout_s}
    give_up_at = time.monotonic() + _SOCKET_WITHIN_S
    while True:
        reached = False
        try:
            answer = control.ask(folder / "control.sock", request, timeout_s + 5)
            reached = True
        except control.NotServed:
            pass  # no daemon, so this process connects itself
        except control.ControlError as error:
            _leave(f"{error}; the event may or may not be in its outbox", EXIT_UNAVAILABLE)
        if reached:
            break
        try:
            return daemon.send(settings.check(given, os.environ, config), event_type, payload, space, timeout_s)
        except AlreadyRunning:
            if time.monotonic() >= give_up_at:
                raise
            time.sleep(0.1)
    if answer.get("ok") is not True:
        code = EXIT_FAULT if answer.get("field") == "outbox" else EXIT_USAGE
        _leave(f"{answer.get('field')}: {answer.get('rule')}", code)
    return msgspec.convert(answer["sent"], Sent)


def _parse_payload(text: str) -> dict[str, Any]:
    try:
        payload = msgspec.json.decode(text)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise click.UsageError(f"payload: must be a JSON object: {error}") from None
    if not isinstance(payload, dict):
        raise click.UsageError("payload: must be a JSON object such as '{\"angle\": 12}'")
    return payload


def _left_behind(database: Path) -> dict[str, Any]:
    """What the file of a stopped satellite tells."""
    try:
        db = sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True, timeout=1)
    except sqlite3.Error:
        return {}
    try:
        (handle,) = db.execute("SELECT value FROM about WHERE name = 'handle'").fetchone()
        (backlog,) = db.execute("SELECT count(*) FROM outbox").fetchone()
        return {"handle": handle, "backlog": backlog, "last_denied": msgspec.to_builtins(read_last_denied(db))}
    except (sqlite3.Error, TypeError, msgspec.MsgspecError):
        return {}
    finally:
        db.close()


def _leave(text: str, code: int) -> NoReturn:
    click.echo(f"marvain-satellite: {printable(text)}", err=True)
    sys.exit(code)


if __name__ == "__main__":
    main(prog_name="marvain-satellite")
